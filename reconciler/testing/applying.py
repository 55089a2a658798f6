"""One apply on a played node, as docs/protocol.md describes it, told as a generator of pauses.

Whoever drives it sleeps as long as it says; driven without sleeping it comes to the same end at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reconciler.agent.bundle import Bundle
from reconciler.agent.steps.lockout import is_guarded, is_last
from reconciler.nodes.answers import Difference, Outcome, SectionOutcome
from reconciler.testing import things
from reconciler.testing.course import CANCELLED, OUT, Cancelled, Course, Pause, Site, State
from reconciler.testing.journal import Journal
from reconciler.testing.settling import Settler
from reconciler.testing.things import Step, StepFailed
from reconciler.testing.unconfirmed import Waiting

_DATABASES = ("mariadb_", "postgresql_")
_LOCK_WAIT = 180.0
_LOCK_LOOK = 2.0


class Apply:
    """Carries out the sections `ids` (None: all) of a bundle; `run` once."""

    def __init__(
        self, site: Site, journal: Journal, bundle: Bundle, ids: list[str] | None, waiting: Waiting
    ) -> None:
        self._waiting = waiting
        self._course = Course(site, journal, bundle, ids)
        self._site = site
        self._journal = journal
        self._started_at = journal.now()
        self._cancel_told = False

    def run(self) -> Iterator[Pause]:
        """Do everything; the journal has the outcome at the end. PowerCut ends it anywhere."""
        course = self._course
        ids = [section.id for section in course.chosen]
        self._journal.write("apply_started", digest=course.bundle.digest, sections=ids)
        for section in course.chosen:
            yield from self._section(course.states[section.id])
        settler = Settler(course)
        settler.validate(set(self._site.debts.validators))
        yield from settler.bring_up()
        self._site.before_step("")
        settler.reload()
        settler.probe()
        yield from self._guarded(settler)
        self._finish(settler.reloaded)

    def _guarded(self, settler: Settler) -> Iterator[Pause]:
        """The steps that come last, once everything else is done."""
        course, asked = self._course, set(self._site.debts.validators)
        held = [state for state in course.states.values() if state.last and state.state not in OUT]
        todo = []
        for state in held:
            looks = ((step, course.look(state.section.id, step)) for step in state.last)
            due = [(step, found) for step, found in looks if found is not None]
            if due:
                state.undo = [undo for undo in state.undo if is_last(undo.key)]
                todo.append((state, due))
        if todo and self._journal.cancelled:
            for state, _ in todo:
                course.fail(state.section.id, CANCELLED)
        elif todo:
            if any(is_guarded(step["key"]) for _, due in todo for step, _found in due):
                self._journal.write("armed", seconds=self._waiting.seconds)
            for state, due in todo:
                try:
                    for one in due:
                        yield from self._do(state, [one])
                except StepFailed as fault:
                    course.fail(state.section.id, str(fault))
            settler.validate(set(self._site.debts.validators) - asked)
            settler.reload()
            self._waiting.begin(
                self._journal.deployment,
                self._site.things,
                [undo for state, _ in todo for undo in state.undo if is_guarded(undo.key)],
            )
        for state in held:
            if state.state not in OUT:
                course.tell_done(state)

    def _is_cancelled(self) -> bool:
        if self._journal.cancelled and not self._cancel_told:
            self._cancel_told = True
            self._journal.write("cancelled")
        return self._journal.cancelled

    def _section(self, state: State) -> Iterator[Pause]:
        course, name = self._course, state.section.id
        if self._is_cancelled():
            course.skip(state, CANCELLED)
            return
        states = course.states
        failed = [need for need in state.section.needs if need in states and states[need].state in OUT]
        if failed:
            course.skip(state, f"upstream_failed: {failed[0]}")
            return
        self._journal.write("section_started", name)
        state.later = [] if name in self._needed() else _deferrable(state.section.steps)
        try:
            yield from self._steps(state)
        except StepFailed as fault:
            course.fail(name, str(fault))
            return
        if not state.later and not state.last:
            course.tell_done(state)

    def _needed(self) -> set[str]:
        """Sections that another chosen one builds on."""
        chosen = self._course.chosen
        found: set[str] = set()
        for place, section in enumerate(chosen):
            found.update(section.needs)
            if any(step["type"].startswith(_DATABASES) for step in section.steps):
                found.update(earlier.id for earlier in chosen[:place])
        return found

    def _steps(self, state: State) -> Iterator[Pause]:
        state.last = [step for step in state.section.steps if is_last(step["key"])]
        later = {step["key"] for step in [*state.later, *state.last]}
        for batch in _batches(state.section.steps):
            for step in batch:
                if step["key"] not in later:
                    self._site.before_step(step["key"])
            if self._journal.cancelled:
                raise Cancelled
            if batch[0]["key"] in later:
                continue
            found = ((step, self._course.look(state.section.id, step)) for step in batch)
            due = [(step, difference) for step, difference in found if difference is not None]
            if due:
                yield from self._do(state, due)
        if state.section.id in self._site.trouble.failing:
            raise StepFailed("it cannot be done")

    def _do(self, state: State, due: Sequence[tuple[Step, Difference]]) -> Iterator[Pause]:
        """Carry out one step, or several packages at once."""
        for step, difference in due:
            self._course.begin(state, step, difference)
        first, found = due[0]
        starts = first["type"] == "unit" and any(
            change.field == "active" and change.after for change in found.changes
        )
        try:
            if first["type"] in ("package", "repository", "upgrade"):
                yield from self._lock()
            yield Pause(self._site.step_seconds, waits=starts)
            if starts and self._journal.cancelled:
                raise Cancelled
            for step, _ in due:
                self._course.carry_out(step)
        except StepFailed as fault:
            for step, _ in due:
                self._course.step_failed(state, step, str(fault))
            raise
        if starts:  # it has read everything written so far
            self._site.debts.units.pop(first["name"], None)
        for step, _ in due:
            self._course.done(state, step)

    def _lock(self) -> Iterator[Pause]:
        """Wait for the lock of the package manager, as long as the agent does."""
        waited = 0.0
        while holder := self._site.trouble.locked:
            if self._journal.cancelled:
                raise Cancelled
            if waited > _LOCK_WAIT:
                text = f"the package manager is locked by {holder}; waited {_LOCK_WAIT:.0f} seconds"
                raise StepFailed(text)
            yield Pause(_LOCK_LOOK, waits=True)
            waited += _LOCK_LOOK

    def _finish(self, reloaded: Sequence[str]) -> None:
        course = self._course
        chosen = {section.id for section in course.chosen}
        told = [s for s in course.states.values() if s.section.id in chosen or s.state == "failed"]
        self._site.debts.settle()
        cancelled = self._is_cancelled()
        self._journal.write("apply_done")
        self._site.finished()
        outcome = Outcome(
            self._journal.deployment,
            "failed" if any(state.state in OUT for state in told) else "succeeded",
            {s.section.id: SectionOutcome(s.state, s.changed, s.message, tuple(s.kept)) for s in told},
            tuple(reloaded),
            self._started_at,
            self._journal.now(),
            cancelled=cancelled,
            versions=self._versions(),
        )
        self._journal.finish(self._waiting.finished(outcome, self._journal))

    def _versions(self) -> dict[str, str]:
        """What is installed of each piece of software: the version of its first package."""
        return {
            str(step["software"]): things.version_of(self._site.things[str(step["key"])])
            for section in self._course.chosen
            for step in reversed(section.steps)
            if step["type"] == "package" and step.get("software") and not things.absent(step)
            if self._site.things.get(str(step["key"])) is not None
        }


def _batches(steps: Sequence[Step]) -> Iterator[list[Step]]:
    """The steps one by one; consecutive packages of the same state, which are one transaction, together."""
    batch: list[Step] = []
    for step in steps:
        together = batch and batch[0]["type"] == step["type"] == "package"
        if batch and not (together and things.absent(batch[0]) == things.absent(step)):
            yield batch
            batch = []
        batch.append(step)
    if batch:
        yield batch


def _deferrable(steps: Sequence[Step]) -> list[Step]:
    """Units to start or enable that no later step of the section can be waiting for."""
    found: list[Step] = []
    for step in reversed(steps):
        if step["type"].startswith(_DATABASES):
            break
        if step["type"] == "unit" and not things.absent(step):
            wishes = {step.get("active"), step.get("enabled")}
            if True in wishes and False not in wishes:
                found.insert(0, step)
    return found
