"""After the steps: validators, the search for the guilty section, then reloads and restarts."""

import json
import os
from typing import Dict, List, Optional, Set

from . import bridge, handover, places, release_checks, startup, validators
from .faults import StepFault
from .observe import UnitState
from .pending import UnitDebt
from .section import Context, State, carry_out, fault_text, put_back, tell_done
from .steps import units, web
from .validators import Verdict

_ANYWAY = " (it fails without the changes of this apply, too)"


class Settler:
    """Brings an apply whose steps are done to its end. `states` are the sections by id, in order."""

    def __init__(self, states: Dict[str, State], context: Context) -> None:
        self.states = states
        self.context = context
        self.reloaded: List[str] = []
        self._ran: Set[str] = set()
        self._read: Dict[str, UnitDebt] = {}
        """Units that have read their files anew, and for whom."""

    def _event(self, kind: str, **values: object) -> None:
        self.context.run.journal.event(kind, **values)

    def fail(self, section: str, message: str) -> None:
        """Put a section back and mark it as failed."""
        state = self.states[section]
        put_back(state, self.context)
        state.state = "failed"
        state.message = self.context.run.scrubber.clean(message)
        self._event("section_failed", section=section, message=message)

    # validators

    def validate(self, names: Optional[Set[str]] = None) -> None:
        """Run every validator that a change asked for (or those of `names`) until each passes; sections that stand in
        the way are put back."""
        pending = self.context.pending
        todo = sorted(set(pending.validators) if names is None else names & set(pending.validators))
        ahead = validators.run_all(todo)
        while todo:
            name = todo.pop(0)
            if name not in pending.validators:
                continue
            validator = json.loads(name)
            verdict = self._run(validator, ahead.pop(name, None))
            if verdict.ok:
                continue
            touched: Set[str] = set()
            for other, sections in pending.validators.items():
                if sections & pending.validators[name]:
                    touched.add(other)
            for other in touched:  # their verdicts hold no more once sections are put back
                ahead.pop(other, None)
            self._find_guilty(name, validator, verdict)
            todo = sorted((set(todo) | touched) & set(pending.validators) - {name})

    def _run(self, validator: Dict[str, object], known: Optional[Verdict] = None) -> Verdict:
        verdict = known or validators.run(validator)
        message = None if verdict.ok else verdict.message
        self._event("validate", name=validators.name(validator), ok=verdict.ok, message=message)
        return verdict

    def _candidates(self, name: str) -> List[str]:
        """Sections that changed something this validator reads and are still in place, in order."""
        asked = self.context.pending.validators.get(name, set())
        return [section for section, state in self.states.items() if section in asked and state.undo]

    def _find_guilty(self, name: str, validator: Dict[str, object], verdict: Verdict) -> None:
        """Put sections back until the validator passes: first those whose file the message names."""
        failed: List[str] = []
        while not verdict.ok:
            if verdict.stopped:  # what nobody has found right is not left in place
                self._fail_candidates(name, verdict.message)
                return
            blamed = self._blamed(name, verdict.message)
            if not blamed:
                failed += self._by_trial(name, validator, verdict)
                break
            for section in blamed:
                self.fail(section, verdict.message)
            failed += blamed
            verdict = self._run(validator)
        if not verdict.ok and not self._candidates(name) and not self._run(validator).ok:
            for section in failed:
                self.states[section].message += _ANYWAY

    def _fail_candidates(self, name: str, message: str) -> None:
        for section in self._candidates(name):
            self.fail(section, message)

    def _blamed(self, name: str, message: str) -> List[str]:
        candidates = self._candidates(name)
        for path in validators.blamed_paths(message):
            sections = self.context.changed_paths.get(path, set())
            found = [section for section in candidates if section in sections]
            if found:
                return found
        return candidates if len(candidates) == 1 else []

    def _by_trial(self, name: str, validator: Dict[str, object], verdict: Verdict) -> List[str]:
        """Put one section back after the other, the last first; then try the innocent ones again. Those that failed."""
        back: List[str] = []
        failed: List[str] = []
        message = verdict.message
        while not verdict.ok:
            candidates = self._candidates(name)
            if not candidates:
                break
            if verdict.stopped:
                message = verdict.message
                self._fail_candidates(name, message)
                break
            put_back(self.states[candidates[-1]], self.context)
            back.append(candidates[-1])
            message, verdict = verdict.message, self._run(validator)
        if verdict.ok and back:
            failed.append(back.pop())
            self.fail(failed[0], message)
        for section in reversed(back):
            if not verdict.ok:
                failed.append(section)
                self.fail(section, message)
            elif not self._try_again(section, validator):
                failed.append(section)
        return failed

    def _try_again(self, section: str, validator: Dict[str, object]) -> bool:
        """Apply a section that was put back without being guilty, also after a cancel: it had been done before.
        False when it fails after all."""
        state = self.states[section]
        state.kept = []
        try:
            carry_out(state, self.context, anyway=True)
        except (StepFault, OSError) as error:
            self.fail(section, fault_text(error))
            return False
        verdict = self._run(validator)
        if not verdict.ok:
            self.fail(section, verdict.message)
        return verdict.ok

    # the web server

    def hand_over(self) -> None:
        """Let another web server take over, if that is asked for. When it cannot, everything is put back: the old one goes on
        with what it has."""
        found = [
            (state, step)
            for state in self.states.values()
            for step in state.section.steps
            if step["type"] == "web_server"
        ]
        self.context.run.world.forget("units")
        for state, step in found:
            if state.state in ("failed", "skipped"):
                continue
            try:
                if web.WebServers().check(step, self.context.run.world) is None:
                    continue
                message = self._missing_host(web.sides(step)[1]["unit"])
                if not message:
                    web.take_over(step, self.context.run)
            except (StepFault, OSError, KeyError) as error:
                message = fault_text(error)
            self._event("hand_over", unit=web.sides(step)[1]["unit"], ok=not message, message=message or None)
            if message:
                self._fail_all_changed("the web server is not changed: {}".format(message))
        if not found and bridge.exists():  # of an apply that was interrupted, and is not asked for any more
            self._release()

    def _release(self) -> None:
        try:
            bridge.release()
        except (StepFault, OSError) as error:
            self._event("log", stream="stderr", text=fault_text(error) + "\n")

    def _missing_host(self, unit: str) -> str:
        """A virtual host that the new web server would not know, so that its site would be lost."""
        kind = unit.partition(".")[0]
        for name, step in self.context.every:
            if (step.get("validate") or {}).get("type") != kind or step.get("state") == "absent":
                continue
            if not os.path.lexists(places.real(step["path"])):
                return "{} has nothing for {} yet; apply it together with the server".format(name, unit)
        return ""

    def _fail_all_changed(self, message: str) -> None:
        for name in reversed(list(self.states)):
            state = self.states[name]
            if state.undo and state.state not in ("failed", "skipped"):
                self.fail(name, message)

    # units

    def bring_up(self) -> None:
        """Start what was left for later, and tell those sections as done."""
        later = [state for state in self.states.values() if state.later]
        while later and self._bring_up():
            continue
        for state in later:
            if state.state not in ("failed", "skipped") and not state.last:
                tell_done(state, self.context)

    def _bring_up(self) -> bool:
        """True when there may be more to start. What had been validated together with a section that is put back now
        is validated again: its old files may not fit the others' new ones, and the innocent are put back for a while."""
        doubtful: Set[str] = set()

        def fail(section: str, message: str) -> None:
            asked = self.context.pending.validators.items()
            doubtful.update(name for name, sections in asked if section in sections)
            self.fail(section, message)

        startup.bring_up(self.states, self.context, fail)
        if doubtful:
            self.validate(doubtful)
        return bool(doubtful)

    # reloads and restarts

    def reload(self) -> None:
        """Do what was collected, once per unit. A section whose reload fails is put back, and what had already been
        reloaded for it is reloaded again."""
        pending = self.context.pending
        done = self._read
        todo = sorted(pending.units)
        while todo:
            unit = todo.pop(0)
            debt = pending.units.pop(unit, None)
            if debt is None:
                continue
            self.context.run.before_units()
            message = self._do(unit, debt.action)
            if message:
                again = self._fail_all(debt, "{} {}: {}".format(debt.action, unit, message), done)
                pending.units.update(again)
                todo += sorted(again)
                self.context.run.before_units()
                message = self._do(unit, debt.action)
            if not message and unit not in self.reloaded:
                self.reloaded.append(unit)
            done[unit] = debt

    # what is served by now

    def probe(self) -> None:
        """Ask for what releases answer now. A section whose release does not answer as it should is put back, and what had
        been reloaded for it is reloaded again."""
        for section, state in self.states.items():
            touched = {undo.key for undo in state.undo}
            for step in state.section.steps:
                if not step.get("check") or step["key"] not in touched:
                    continue
                wrong = release_checks.after(step)
                self._event("validate", name=step["key"], ok=not wrong, message=wrong or None)
                if wrong:
                    self._back_to_before(section, "the release does not answer as it should: " + wrong)
                    break

    def _back_to_before(self, section: str, message: str) -> None:
        self.fail(section, message)
        for unit, debt in sorted(self._read.items()):
            if section in debt.sections:
                self.context.run.before_units()
                self._do(unit, debt.action)

    def _fail_all(self, debt: UnitDebt, message: str, done: Dict[str, UnitDebt]) -> Dict[str, UnitDebt]:
        """Put back the sections that asked; the units that have read their files meanwhile must read them again."""
        again = {}
        for section in sorted(debt.sections & set(self.states)):
            if self.states[section].state == "failed":
                continue
            self.fail(section, message)
            for unit, other in done.items():
                if section in other.sections:
                    again[unit] = UnitDebt(other.action, other.sections - {section})
        return again

    def _do(self, unit: str, action: str) -> str:
        """Reload or restart a unit that runs; one that is stopped on purpose stays stopped."""
        try:
            state = units.state_of(unit)
        except StepFault as fault:
            return str(fault)
        if state.is_active():
            self._ran.add(unit)
        if self._is_down(unit, state) and (unit in self._ran or self._is_wanted(unit)):
            units.control("reset-failed", unit)
            message = units.control("start", unit)
        elif not state.is_active():
            return ""
        else:
            before = handover.look(unit) if action == "reload" else None
            message = units.control("reload" if action == "reload" else "try-restart", unit)
            message = message or handover.follow(unit, before)
        if not message and not units.state_of(unit).is_active():
            message = "{} did not stay up; it last said: {}".format(unit, units.last_words(unit))
        self._event(action, unit=unit, ok=not message, message=message or None)
        return message

    def _is_down(self, unit: str, state: UnitState) -> bool:
        """True when a unit failed, or has ended since this apply told it to reload."""
        return state.active == "failed" or (unit in self._ran and not state.is_active())

    def _is_wanted(self, unit: str) -> bool:
        """True when a unit is to run; one whose own section was put back is as it was before."""
        out = (state for state in self.states.values() if state.state in ("failed", "skipped"))
        back = any(step["key"] == "unit:" + unit for state in out for step in state.section.steps)
        return unit in self.context.wanted and not back
