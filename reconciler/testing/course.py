"""What the parts of one apply on a played node share: where it works, what it has done so far, how a section is put back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from reconciler.agent.bundle import Bundle, Section
from reconciler.nodes.answers import Difference, SectionState
from reconciler.testing import things
from reconciler.testing.journal import Journal
from reconciler.testing.things import Step, StepFailed, Things, Undo

OUT = ("failed", "skipped")
CANCELLED = "cancelled"
"""The message of what a cancel stopped."""


class PowerCut(Exception):
    """The power goes at this place."""


class Cancelled(StepFailed):
    """The apply was cancelled before this could be done."""

    def __init__(self) -> None:
        super().__init__(CANCELLED)


class Pause(NamedTuple):
    """Seconds that pass on the node. One that only waits ends early when the apply is cancelled."""

    seconds: float
    waits: bool = False


@dataclass
class Trouble:
    """What is to go wrong on a node.

    `failing` are sections, step keys, or `reload:UNIT`, that fail when they are carried out; `invalid` paths of files,
    or sha256 of bodies, that no validator accepts; `unwritable` says why nothing can be written, `locked` who holds the lock of the package
    manager; both are empty when all is well.
    """

    failing: set[str] = field(default_factory=set)
    invalid: set[str] = field(default_factory=set)
    unwritable: str = ""
    locked: str = ""


@dataclass
class Debts:
    """What an interrupted apply owes: how to put its steps back, and the units and validators that wait."""

    undo: list[Undo] = field(default_factory=list)
    units: dict[str, tuple[str, set[str]]] = field(default_factory=dict)
    validators: dict[str, set[str]] = field(default_factory=dict)

    def withdraw(self, section: str) -> None:
        """A section was put back: it asks for nothing any more."""
        self.undo = [undo for undo in self.undo if undo.section != section]
        self.units = {n: (a, s - {section}) for n, (a, s) in self.units.items() if s - {section}}
        self.validators = {n: s - {section} for n, s in self.validators.items() if s - {section}}

    def settle(self) -> None:
        """Nothing is owed any more."""
        self.undo, self.units, self.validators = [], {}, {}


@dataclass
class State:
    """What has become of one section so far. `later` are its units that are started at the end of the apply,
    `last` its steps that come last of all."""

    section: Section
    state: SectionState = "unchanged"
    changed: int = 0
    message: str = ""
    kept: list[str] = field(default_factory=list)
    undo: list[Undo] = field(default_factory=list)
    later: list[Step] = field(default_factory=list)
    last: list[Step] = field(default_factory=list)


@dataclass
class Site:
    """Where an apply works: the node's things, what goes wrong there, what is owed.

    `mark` gives the next mark. `before_step` is called before each step with its key, and with an empty text before the
    reloads; it raises PowerCut. `finished` is called when all is done, right before the outcome can be seen.
    """

    things: Things
    trouble: Trouble
    debts: Debts
    mark: Callable[[], int]
    step_seconds: float
    before_step: Callable[[str], None]
    finished: Callable[[], None]


class Course:
    """One apply on its way. `ids` are the sections asked for, None for all."""

    def __init__(self, site: Site, journal: Journal, bundle: Bundle, ids: list[str] | None) -> None:
        self.site = site
        self.journal = journal
        self.bundle = bundle
        self.chosen = bundle.chosen(ids)
        self.states = {section.id: State(section) for section in self.chosen}
        self._demands = bundle.demands()
        self._inherit()

    def _inherit(self) -> None:
        """Take over what interrupted applies left."""
        known = {section.id: section for section in self.bundle.sections}
        for undo in self.site.debts.undo:
            if undo.section not in self.states:
                section = known.get(undo.section, Section(undo.section, [], []))
                self.states[undo.section] = State(section)
            self.states[undo.section].undo.append(undo)

    def look(self, section: str, step: Step) -> Difference | None:
        """Compare a step's target. A unit that is in sync is known from here on."""
        found = things.compare(self.site.things, section, step)
        if found is None and step["type"] == "unit" and not things.absent(step):
            unit = {"name": step["name"], "active": False, "enabled": False}
            self.site.things.setdefault(step["key"], unit)
        return found

    def begin(self, state: State, step: Step, difference: Difference) -> None:
        """Write down that a step begins, what it makes necessary, and how to put it back."""
        section, debts = state.section.id, self.site.debts
        named = [(unit, action) for action in ("reload", "restart") for unit in step.get(action, ())]
        for unit, action in (*self._demands.of(step["key"]), *named):
            was, sections = debts.units.get(unit, (action, set()))
            stronger = "restart" if "restart" in (was, action) else "reload"
            debts.units[unit] = (stronger, sections | {section})
        if step.get("validate"):
            name = json.dumps(step["validate"], sort_keys=True)
            debts.validators[name] = debts.validators.get(name, set()) | {section}
        self.journal.write("step_started", section, step["key"], action=difference.action)
        undo = things.prepare_undo(self.site.things, section, step)
        state.undo.append(undo)
        debts.undo.append(undo)
        self.journal.doubt = undo.key

    def carry_out(self, step: Step) -> None:
        """Change the node. Raises StepFailed."""
        trouble = self.site.trouble
        if step["key"] in trouble.failing:
            raise StepFailed(f"{step['key']} cannot be done")
        if trouble.unwritable and step["type"] != "unit" and not things.absent(step):
            raise StepFailed(f"cannot write {step.get('path') or step['key']}: {trouble.unwritable}")
        things.carry_out(self.site.things, step, self.site.mark())

    def done(self, state: State, step: Step) -> None:
        """Write down that a step was carried out."""
        state.changed += 1
        self.journal.doubt = ""
        seconds = round(self.site.step_seconds, 3)
        self.journal.write("step_done", state.section.id, step["key"], seconds=seconds)

    def step_failed(self, state: State, step: Step, message: str) -> None:
        """Write down why a step could not be carried out."""
        self.journal.write("step_failed", state.section.id, step["key"], message=message)

    def tell_done(self, state: State) -> None:
        """Everything of a section is carried out."""
        if state.changed:
            state.state = "succeeded"
        self.journal.write("section_done", state.section.id, changed=state.changed)

    def skip(self, state: State, message: str) -> None:
        """Leave a section out."""
        state.state, state.message = "skipped", message
        self.journal.write("section_skipped", state.section.id, message=message)

    def fail(self, section: str, message: str) -> None:
        """Put a section back and mark it as failed."""
        state = self.states[section]
        self.site.debts.withdraw(section)
        for undo in reversed(state.undo):
            if things.put_back(self.site.things, undo):
                self.journal.write("rolled_back", section, undo.key)
            elif undo.key not in state.kept:
                state.kept.append(undo.key)
        state.undo, state.changed = [], 0
        self.journal.doubt = ""
        state.state, state.message = "failed", message
        self.journal.write("section_failed", section, message=message)
