"""One apply on a played node, as docs/protocol.md describes it, told as a generator of pauses.

Whoever drives it sleeps as long as it says; driven without sleeping it comes to the same end at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from reconciler.agent import validators
from reconciler.agent.bundle import Bundle, Section
from reconciler.nodes.answers import Difference, Outcome, SectionOutcome, SectionState
from reconciler.testing import things
from reconciler.testing.journal import Journal
from reconciler.testing.things import Step, StepFailed, Things, Undo

DATABASES = ("mariadb_", "postgresql_")
CANCELLED = "cancelled"
_ANYWAY = " (it fails without the changes of this apply, too)"
_OUT = ("failed", "skipped")


class PowerCut(Exception):
    """The power goes at this place."""


class _Stopped(Exception):
    """The apply was cancelled."""


@dataclass
class Trouble:
    """What is to go wrong, and what an interrupted apply left behind.

    `failing` are sections, step keys, or `reload:UNIT`, that fail when they are carried out; `invalid` paths of files
    that no validator accepts; `unwritable` says why nothing can be written, or is empty.
    """

    failing: set[str] = field(default_factory=set)
    invalid: set[str] = field(default_factory=set)
    unwritable: str = ""


@dataclass
class Debts:
    """What an interrupted apply owes: how to put its steps back, and the units and validators that wait."""

    undo: list[Undo] = field(default_factory=list)
    units: dict[str, tuple[str, set[str]]] = field(default_factory=dict)
    validators: dict[str, set[str]] = field(default_factory=dict)


@dataclass
class _State:
    section: Section
    state: SectionState = "unchanged"
    changed: int = 0
    message: str = ""
    kept: list[str] = field(default_factory=list)
    undo: list[Undo] = field(default_factory=list)
    later: list[Step] = field(default_factory=list)


@dataclass
class Site:
    """Where an apply works: the node's things, what goes wrong there, what is owed, and its next mark."""

    things: Things
    trouble: Trouble
    debts: Debts
    mark: Callable[[], int]
    step_seconds: float
    before_step: Callable[[str], None]
    """Called before each step with its key, and with an empty text before the reloads; raises PowerCut."""
    finished: Callable[[], None]
    """Called when all is done, right before the outcome can be seen."""


class Apply:
    """Carries out the sections `ids` (None: all) of a bundle; `run` once."""

    def __init__(self, site: Site, journal: Journal, bundle: Bundle, ids: list[str] | None) -> None:
        self._site = site
        self._journal = journal
        self._bundle = bundle
        self._demands = bundle.demands()
        self._chosen = bundle.chosen(ids)
        self._states = {section.id: _State(section) for section in self._chosen}
        self._reloaded: list[str] = []
        self._started_at = journal.now()
        self._inherit()

    def _inherit(self) -> None:
        """Take over what interrupted applies left."""
        known = {section.id: section for section in self._bundle.sections}
        for undo in self._site.debts.undo:
            if undo.section not in self._states:
                section = known.get(undo.section, Section(undo.section, [], []))
                self._states[undo.section] = _State(section)
            self._states[undo.section].undo.append(undo)

    def run(self) -> Iterator[float]:
        """Do everything; yields seconds that pass. The journal has the outcome at the end. PowerCut ends it anywhere."""
        ids = [section.id for section in self._chosen]
        self._journal.write("apply_started", digest=self._bundle.digest, sections=ids)
        try:
            for section in self._chosen:
                yield from self._section(self._states[section.id])
            self._validate(set(self._site.debts.validators))
            yield from self._bring_up()
            self._stop_if_cancelled()
            self._site.before_step("")
        except _Stopped:
            self._cancel()
        self._reload()
        self._finish()

    def _stop_if_cancelled(self) -> None:
        if self._journal.cancelled:
            raise _Stopped

    def _cancel(self) -> None:
        """Put back what is not finished; sections that were not begun are skipped."""
        begun = {event.section for event in self._journal.events if event.type == "section_started"}
        over = {
            event.section
            for event in self._journal.events
            if event.type in ("section_done", "section_failed")
        }
        for section in self._chosen:
            state = self._states[section.id]
            if section.id in over or state.state in _OUT:
                continue
            if section.id in begun:
                self._fail(section.id, CANCELLED)
            else:
                state.state, state.message = "skipped", CANCELLED
                self._journal.write("section_skipped", section.id, message=CANCELLED)

    # steps

    def _section(self, state: _State) -> Iterator[float]:
        self._stop_if_cancelled()
        name = state.section.id
        failed = [n for n in state.section.needs if n in self._states and self._states[n].state in _OUT]
        if failed:
            state.state, state.message = "skipped", f"upstream_failed: {failed[0]}"
            self._journal.write("section_skipped", name, message=state.message)
            return
        self._journal.write("section_started", name)
        state.later = [] if name in self._needed() else _deferrable(state.section.steps)
        later = {step["key"] for step in state.later}
        try:
            for step in state.section.steps:
                if step["key"] in later:
                    continue
                self._site.before_step(step["key"])
                self._stop_if_cancelled()
                if difference := self._look(state, step):
                    yield from self._do(state, step, difference)
            self._refuse(name)
        except StepFailed as fault:
            self._fail(name, str(fault))
            return
        if not state.later:
            self._tell_done(state)

    def _refuse(self, section: str) -> None:
        if section in self._site.trouble.failing:
            raise StepFailed("it cannot be done")

    def _needed(self) -> set[str]:
        found: set[str] = set()
        for place, section in enumerate(self._chosen):
            found.update(section.needs)
            if any(step["type"].startswith(DATABASES) for step in section.steps):
                found.update(earlier.id for earlier in self._chosen[:place])
        return found

    def _look(self, state: _State, step: Step) -> Difference | None:
        found = things.compare(self._site.things, state.section.id, step)
        if found is None and step["type"] == "unit" and not things.absent(step):
            unit = {"name": step["name"], "active": False, "enabled": False}
            self._site.things.setdefault(step["key"], unit)
        return found

    def _do(self, state: _State, step: Step, difference: Difference) -> Iterator[float]:
        self._begin(state, step, difference)
        yield self._site.step_seconds
        try:
            self._carry_out(step)
        except StepFailed as fault:
            self._journal.write("step_failed", state.section.id, step["key"], message=str(fault))
            raise
        self._done(state, step)

    def _carry_out(self, step: Step) -> None:
        trouble = self._site.trouble
        if step["key"] in trouble.failing:
            raise StepFailed(f"{step['key']} cannot be done")
        if trouble.unwritable and step["type"] != "unit" and not things.absent(step):
            raise StepFailed(f"cannot write {step.get('path') or step['key']}: {trouble.unwritable}")
        things.carry_out(self._site.things, step, self._site.mark())

    def _begin(self, state: _State, step: Step, difference: Difference) -> None:
        section = state.section.id
        debts = self._site.debts
        for unit, action in self._demands.of(step["key"]):
            was, sections = debts.units.get(unit, (action, set()))
            debts.units[unit] = ("restart" if "restart" in (was, action) else "reload", sections | {section})
        if step.get("validate"):
            debts.validators.setdefault(json.dumps(step["validate"], sort_keys=True), set()).add(section)
        self._journal.write("step_started", section, step["key"], action=difference.action)
        undo = things.prepare_undo(self._site.things, section, step)
        state.undo.append(undo)
        debts.undo.append(undo)
        self._journal.doubt = undo.key

    def _done(self, state: _State, step: Step) -> None:
        state.changed += 1
        self._journal.doubt = ""
        seconds = round(self._site.step_seconds, 3)
        self._journal.write("step_done", state.section.id, step["key"], seconds=seconds)

    def _tell_done(self, state: _State) -> None:
        if state.changed:
            state.state = "succeeded"
        self._journal.write("section_done", state.section.id, changed=state.changed)

    # putting back

    def _fail(self, section: str, message: str) -> None:
        state = self._states[section]
        debts = self._site.debts
        debts.units = {n: (a, s - {section}) for n, (a, s) in debts.units.items() if s - {section}}
        debts.validators = {n: s - {section} for n, s in debts.validators.items() if s - {section}}
        for undo in reversed(state.undo):
            if things.put_back(self._site.things, undo):
                self._journal.write("rolled_back", section, undo.key)
            elif undo.key not in state.kept:
                state.kept.append(undo.key)
        state.undo, state.changed = [], 0
        debts.undo = [undo for undo in debts.undo if undo.section != section]
        self._journal.doubt = ""
        state.state, state.message = "failed", message
        self._journal.write("section_failed", section, message=message)

    # validators

    def _validate(self, names: set[str]) -> None:
        for name in sorted(names):
            while name in self._site.debts.validators:
                message = self._verdict()
                self._journal.write(
                    "validate",
                    name=validators.name(json.loads(name)),
                    ok=not message,
                    message=message or None,
                )
                if not message:
                    break
                asked = self._site.debts.validators[name]
                candidates = [s for s, state in self._states.items() if s in asked and state.undo]
                blamed = [s for s in candidates if self._changed(s) & self._broken()] or candidates
                for section in blamed:
                    alone = not (self._broken() - self._changed(section)) or set(blamed) != set(candidates)
                    self._fail(section, message if alone else message + _ANYWAY)
                if not candidates:
                    break

    def _changed(self, section: str) -> set[str]:
        return {undo.step["path"] for undo in self._states[section].undo if "path" in undo.step}

    def _broken(self) -> set[str]:
        return {path for path in self._site.trouble.invalid if f"file:{path}" in self._site.things}

    def _verdict(self) -> str:
        broken = sorted(self._broken())
        return f"the validator does not accept {broken[0]}" if broken else ""

    # units

    def _bring_up(self) -> Iterator[float]:
        later = [state for state in self._states.values() if state.later]
        waiting = [state for state in later if state.state not in _OUT]
        due: list[tuple[_State, Step]] = []
        for state in waiting:
            for step in state.later:
                self._site.before_step(step["key"])
                if difference := self._look(state, step):
                    self._begin(state, step, difference)
                    due.append((state, step))
        if due:
            yield self._site.step_seconds
        doubtful: set[str] = set()
        for state, step in due:
            if state.state in _OUT:
                continue
            try:
                self._carry_out(step)
            except StepFailed as fault:
                asked = self._site.debts.validators.items()
                doubtful.update(name for name, sections in asked if state.section.id in sections)
                self._journal.write("step_failed", state.section.id, step["key"], message=str(fault))
                self._fail(state.section.id, str(fault))
                continue
            self._site.debts.units.pop(step["name"], None)
            self._done(state, step)
        self._validate(doubtful)
        for state in later:
            if state.state not in _OUT:
                self._tell_done(state)

    def _reload(self) -> None:
        units = self._site.debts.units
        for unit in sorted(units):
            action, sections = units.pop(unit, ("", set()))
            if not action or not things.unit_state(self._site.things, unit)[0]:
                continue
            if f"reload:{unit}" in self._site.trouble.failing:
                message = f"{action} {unit}: it did not come back"
                self._journal.write(action, unit=unit, ok=False, message=message)
                for section in sorted(sections & set(self._states)):
                    if self._states[section].state != "failed":
                        self._fail(section, message)
            self._journal.write(action, unit=unit, ok=True)
            self._reloaded.append(unit)

    def _finish(self) -> None:
        debts = self._site.debts
        debts.undo, debts.units, debts.validators = [], {}, {}
        chosen = {section.id for section in self._chosen}
        told = [s for s in self._states.values() if s.section.id in chosen or s.state == "failed"]
        self._journal.write("apply_done")
        self._site.finished()
        self._journal.finish(self._outcome({state.section.id: state for state in told}))

    def _outcome(self, told: Mapping[str, _State]) -> Outcome:
        bad = any(state.state in _OUT for state in told.values())
        return Outcome(
            self._journal.deployment,
            "failed" if bad else "succeeded",
            {n: SectionOutcome(s.state, s.changed, s.message, tuple(s.kept)) for n, s in told.items()},
            tuple(self._reloaded),
            self._started_at,
            self._journal.now(),
        )


def _deferrable(steps: Sequence[Step]) -> list[Step]:
    """Units to start or enable that no later step of the section can be waiting for."""
    found: list[Step] = []
    for step in reversed(steps):
        if step["type"].startswith(DATABASES):
            break
        if step["type"] == "unit" and not things.absent(step):
            wishes = {step.get("active"), step.get("enabled")}
            if True in wishes and False not in wishes:
                found.insert(0, step)
    return found
