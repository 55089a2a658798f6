"""Carries out the steps of one section, and puts a section back."""

import time
from typing import Any, Dict, List, NamedTuple, Optional, Set, Tuple

from . import cancel, journal, places
from .bundle import Demands, Section
from .faults import StepFault, Unissued, cause
from .journal import Journal, Undo
from .pending import Pending
from .steps import HANDLERS, handler_of
from .steps.contract import Finding, Run
from .steps.lockout import is_last
from .steps.packages import Packages
from .steps.paths import UNIT_FOLDER
from .vocabulary import Step

_LOG_SHARE = 128 * 1024
_LOG_TEXT = 8 * 1024
DATABASES = ("mariadb_", "postgresql_")
"""How the types of steps begin that talk to a database server."""


class State:
    """What has become of one section so far. `later` are its units that are started once everything is validated,
    `last` its steps that come last of all.

    `owed` says why a certificate was not issued without which the section was carried out."""

    def __init__(self, section: Section) -> None:
        self.section = section
        self.state = "unchanged"
        self.changed = 0
        self.message = ""
        self.kept: List[str] = []
        self.undo: List[Undo] = []
        self.later: List[Step] = []
        self.owed = ""
        self.last: List[Step] = []

    def value(self) -> Dict[str, Any]:
        """The entry of the outcome."""
        return {"state": self.state, "changed": self.changed, "message": self.message, "kept": self.kept}


class Log:
    """Output of programs as events: at most 256 KiB a section, its head and its tail."""

    def __init__(self, events: Journal) -> None:
        self._events = events
        self._at: Tuple[str, Optional[str]] = ("", None)
        self._sent = 0
        self._tail: List[Tuple[str, str]] = []
        self._tail_size = 0
        self._dropped = 0

    def begin(self, section: str, key: Optional[str]) -> None:
        """What follows belongs to this step."""
        self._at = (section, key)

    def write(self, stream: str, text: str) -> None:
        """One line of output."""
        text = text[:_LOG_TEXT]
        if self._sent + len(text) <= _LOG_SHARE:
            self._sent += len(text)
            self._emit(stream, text)
            return
        self._tail.append((stream, text))
        self._tail_size += len(text)
        while self._tail_size > _LOG_SHARE:
            old = self._tail.pop(0)
            self._tail_size -= len(old[1])
            self._dropped += len(old[1])

    def end(self) -> None:
        """The section is over: show the tail that was held back."""
        if self._dropped:
            self._emit("stderr", "… {} bytes of output left out …\n".format(self._dropped))
        for stream, text in self._tail:
            self._emit(stream, text)
        self._tail, self._tail_size, self._sent, self._dropped = [], 0, 0, 0

    def _emit(self, stream: str, text: str) -> None:
        section, key = self._at
        self._events.event("log", section=section, key=key, stream=stream, text=text)


class Context(NamedTuple):
    """What the parts of an apply share.

    `demands`: which units wait for which steps; `wanted`: units that are to run;
    `changed_paths`: which sections changed a path; `needed`: sections that another one builds on;
    `every`: all steps of the bundle with their sections, also those that this apply leaves alone.
    """

    run: Run
    pending: Pending
    log: Log
    demands: Demands
    wanted: Set[str]
    changed_paths: Dict[str, Set[str]]
    needed: Set[str]
    every: List[Tuple[str, Step]]


def fault_text(error: Exception) -> str:
    """The message of anything that a step raised."""
    if isinstance(error, OSError):
        place = error.filename if isinstance(error.filename, str) else ""
        return "{}: {}".format(place, cause(error)) if place else cause(error)
    return str(error)


def carry_out(state: State, context: Context, *, anyway: bool = False) -> None:
    """Check and apply each step in order, except those in `later` and `last`. Raises StepFault or OSError at the first that fails,
    Cancelled before a step once the apply is cancelled, unless it is to be done `anyway`."""
    steps = state.section.steps
    state.later = _of_web_server(steps) if state.section.id in context.needed else _deferrable(steps)
    state.last = [step for step in steps if is_last(step["key"])]
    later = {step["key"] for step in [*state.later, *state.last]}
    position = 0
    while position < len(steps):
        batch = _batch(steps, position)
        position += len(batch)
        if not anyway:
            cancel.look()
        if batch[0]["key"] in later:
            continue
        if batch[0]["type"] == "unit":
            context.run.before_units()
        due = []
        for step in batch:
            finding = HANDLERS[step["type"]].check(step, context.run.world)
            if finding is not None:
                due.append((step, finding))
        if due:
            _apply(state, due, context)


def _deferrable(steps: List[Step], *, anyway: bool = False) -> List[Step]:
    """Units to start or enable that no later step of the section can be waiting for: those of databases talk to one.

    `anyway`: also units before steps that talk to a database.
    """
    found: List[Step] = []
    for step in reversed(steps):
        if step["type"].startswith(DATABASES) and not anyway:
            break
        if step["type"] == "unit" and step.get("state", "present") == "present":
            wishes = {step.get("active"), step.get("enabled")}
            if True in wishes and False not in wishes:
                found.insert(0, step)
    return found


def _of_web_server(steps: List[Step]) -> List[Step]:
    """The unit of the web server that comes: it cannot start while another one has its ports."""
    names = {step[side] for step in steps if step["type"] == "web_server" for side in ("unit", "instead_of")}
    return [step for step in _deferrable(steps, anyway=True) if step["name"] in names]


def _batch(steps: List[Step], position: int) -> List[Step]:
    """The step, or a run of package steps of the same state, which become one transaction."""
    first = steps[position]
    end = position + 1
    if first["type"] == "package":
        wanted = first.get("state", "present")
        while (
            end < len(steps)
            and steps[end]["type"] == "package"
            and steps[end].get("state", "present") == wanted
        ):
            end += 1
    return steps[position:end]


def _apply(state: State, due: List[Tuple[Step, Finding]], context: Context) -> None:
    """Begin, carry out and end one step, or several packages at once."""
    run = context.run
    for step, finding in due:
        context.log.begin(state.section.id, step["key"] if len(due) == 1 else None)
        begin(state, step, finding, context, durable=step is due[-1][0])
    started = time.monotonic()
    try:
        handler = HANDLERS[due[0][0]["type"]]
        if isinstance(handler, Packages):
            handler.apply_all([step for step, _ in due], run)
        else:
            handler.apply(due[0][0], run)
    except (StepFault, OSError) as error:
        for step, _ in due:
            failed(state, step, fault_text(error), context)
        if isinstance(error, Unissued) and (error.bearable or _is_new(state)):
            state.owed = run.scrubber.clean(str(error))
            run.journal.done(state.section.id, due[0][0]["key"])
            return
        raise
    seconds = time.monotonic() - started
    for step, _ in due:
        done(state, step, seconds, context)


def _is_new(state: State) -> bool:
    """Whether the section's site was made in this apply: nobody is served by it yet."""
    return any(undo.key.startswith("user:") for undo in state.undo)


def apply_one(state: State, step: Step, finding: Finding, context: Context) -> None:
    """Begin, carry out and end one step. Raises StepFault, OSError."""
    _apply(state, [(step, finding)], context)


def begin(state: State, step: Step, finding: Finding, context: Context, *, durable: bool = True) -> None:
    """Write down that a step begins, what it will make necessary, and how to put it back.

    `durable` may be False when another one that is follows before anything is changed.
    """
    section, key, run = state.section.id, step["key"], context.run
    _ask(step, section, context)
    record = HANDLERS[step["type"]].record(step, run)
    context.pending.save()
    run.journal.event("step_started", section=section, key=key, action=finding.action)
    state.undo.append(run.journal.begin(section, key, record, durable=durable))


def done(state: State, step: Step, seconds: float, context: Context) -> None:
    """Write down that a step was carried out."""
    section, key, run = state.section.id, step["key"], context.run
    state.changed += 1
    if "path" in step:
        context.changed_paths.setdefault(step["path"], set()).add(section)
    run.journal.done(section, key)
    run.journal.event("step_done", section=section, key=key, seconds=round(seconds, 3))


def tell_done(state: State, context: Context) -> None:
    """Everything of a section is carried out."""
    if state.changed:
        state.state = "succeeded"
    if state.owed:
        return  # what became of it is told at the end
    context.run.journal.event("section_done", section=state.section.id, changed=state.changed)


def failed(state: State, step: Step, message: str, context: Context) -> None:
    """Write down why a step could not be carried out."""
    context.run.journal.event("step_failed", section=state.section.id, key=step["key"], message=message)


def _ask(step: Step, section: str, context: Context) -> None:
    """Note what the change will make necessary, before it is made."""
    for unit, action in context.demands.of(step["key"]):
        context.pending.ask_unit(unit, action, section)
    for action in ("reload", "restart"):
        for unit in step.get(action, ()):
            context.pending.ask_unit(unit, action, section)
    if step.get("validate"):
        context.pending.ask_validator(step["validate"], section)
    if step.get("path", "").startswith(UNIT_FOLDER):
        context.pending.daemon_reload = True


def put_back(state: State, context: Context) -> None:
    """Undo a section's steps in reverse order; those that cannot be undone are named in `kept`."""
    run = context.run
    context.pending.withdraw(state.section.id)
    for undo in reversed(state.undo):
        copies = places.real(journal.folder(undo.journal))
        try:
            undone = bool(undo.record) and handler_of(undo.key).undo(undo.record, copies, run)
        except (StepFault, OSError) as error:
            undone = False
            run.journal.event(
                "log",
                section=state.section.id,
                key=undo.key,
                stream="stderr",
                text="cannot put back: {}\n".format(fault_text(error)),
            )
        if undone:
            if undo.journal == run.deployment:
                run.journal.undone(state.section.id, undo.key)
            run.journal.event("rolled_back", section=state.section.id, key=undo.key)
        elif undo.key not in state.kept:
            state.kept.append(undo.key)
        _unchange(undo, context)
    state.undo = []
    state.owed = ""
    state.changed = 0


def _unchange(undo: Undo, context: Context) -> None:
    path = undo.record.get("path")
    if path and path in context.changed_paths:
        context.changed_paths[path].discard(undo.section)
