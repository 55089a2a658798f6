"""After the steps of an apply on a played node: validators, units that were left for the end, reloads and restarts."""

from __future__ import annotations

import json
from collections.abc import Iterator

from reconciler.agent import validators
from reconciler.nodes.answers import Difference
from reconciler.testing import things
from reconciler.testing.course import CANCELLED, OUT, Course, Pause, State
from reconciler.testing.things import Step, StepFailed

_ANYWAY = " (it fails without the changes of this apply, too)"


class Settler:
    """Brings an apply whose steps are done to its end. `reloaded` are the units that read their files anew."""

    def __init__(self, course: Course) -> None:
        self._course = course
        self._site = course.site
        self._journal = course.journal
        self.reloaded: list[str] = []

    # validators

    def validate(self, names: set[str]) -> None:
        """Run validators until each passes; sections that stand in the way are put back, those of the blamed file first."""
        for name in sorted(names):
            failed: list[str] = []
            while name in self._site.debts.validators and (message := self._verdict(name)):
                candidates = self._candidates(name)
                first = min(self._broken())
                blamed = [section for section in candidates if first in self._changed(section)] or candidates
                for section in blamed:
                    self._course.fail(section, message)
                failed += blamed
                if not self._candidates(name):
                    break
            if failed and not self._candidates(name) and self._verdict(name):
                for section in failed:
                    self._course.states[section].message += _ANYWAY

    def _verdict(self, name: str) -> str:
        broken = sorted(self._broken())
        message = f"the validator does not accept {broken[0]}" if broken else ""
        told = validators.name(json.loads(name))
        self._journal.write("validate", name=told, ok=not message, message=message or None)
        return message

    def _broken(self) -> set[str]:
        invalid = self._site.trouble.invalid
        files = ((key[5:], thing) for key, thing in self._site.things.items() if key.startswith("file:"))
        return {path for path, thing in files if path in invalid or thing.get("sha256") in invalid}

    def _candidates(self, name: str) -> list[str]:
        asked = self._site.debts.validators.get(name, set())
        return [section for section, state in self._course.states.items() if section in asked and state.undo]

    def _changed(self, section: str) -> set[str]:
        return {undo.step["path"] for undo in self._course.states[section].undo if "path" in undo.step}

    # units

    def bring_up(self) -> Iterator[Pause]:
        """Start together what was left for later, and tell those sections as done."""
        later = [state for state in self._course.states.values() if state.later]
        due = self._due([state for state in later if state.state not in OUT])
        if due and self._journal.cancelled:
            for section in dict.fromkeys(state.section.id for state, _, _ in due):
                self._course.fail(section, CANCELLED)
        elif due:
            yield from self._start(due)
        for state in later:
            if state.state not in OUT:
                self._course.tell_done(state)

    def _due(self, waiting: list[State]) -> list[tuple[State, Step, Difference]]:
        found = []
        for state in waiting:
            for step in state.later:
                self._site.before_step(step["key"])
                if difference := self._course.look(state.section.id, step):
                    found.append((state, step, difference))
        return found

    def _start(self, due: list[tuple[State, Step, Difference]]) -> Iterator[Pause]:
        for state, step, difference in due:
            self._course.begin(state, step, difference)
        yield Pause(self._site.step_seconds, waits=True)
        doubtful: set[str] = set()
        for state, step, difference in due:
            if state.state in OUT:
                continue
            starts = any(change.field == "active" for change in difference.changes)
            message = CANCELLED if starts and self._journal.cancelled else self._carried_out(step)
            if message:
                asked = self._site.debts.validators.items()
                doubtful.update(name for name, sections in asked if state.section.id in sections)
                self._course.step_failed(state, step, message)
                self._course.fail(state.section.id, message)
                continue
            if starts:  # it has read everything written so far
                self._site.debts.units.pop(step["name"], None)
            self._course.done(state, step)
        self.validate(doubtful)

    def _carried_out(self, step: Step) -> str:
        """An empty text, or why not."""
        try:
            self._course.carry_out(step)
        except StepFailed as fault:
            return str(fault)
        return ""

    # reloads and restarts

    def reload(self) -> None:
        """Do what was collected, once per unit; a section whose reload fails is put back."""
        units = self._site.debts.units
        for unit in sorted(units):
            action, sections = self._site.debts.units.pop(unit, ("", set()))
            if not action or not things.unit_state(self._site.things, unit)[0]:
                continue
            if f"reload:{unit}" in self._site.trouble.failing:
                said = f"{unit} did not stay up"
                self._journal.write(action, unit=unit, ok=False, message=said)
                for section in sorted(sections & set(self._course.states)):
                    if self._course.states[section].state != "failed":
                        self._course.fail(section, f"{action} {unit}: {said}")
            self._journal.write(action, unit=unit, ok=True)
            self.reloaded.append(unit)

    # what is served by now

    def probe(self) -> None:
        """Ask for what releases answer now; one whose archive is `invalid` does not answer as it should."""
        for section, state in self._course.states.items():
            touched = {undo.key for undo in state.undo}
            for step in state.section.steps:
                if not step.get("check") or step["key"] not in touched:
                    continue
                wrong = "the answer is 500" if step["sha256"] in self._site.trouble.invalid else ""
                self._journal.write("validate", name=step["key"], ok=not wrong, message=wrong or None)
                if wrong:
                    self._course.fail(section, "the release does not answer as it should: " + wrong)
                    break
