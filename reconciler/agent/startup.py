"""The units of all sections that nothing waits for: enabled and started together, once everything is validated."""

import time
from typing import Callable, Dict, Iterable, List, NamedTuple

from . import cancel, section
from .faults import StepFault
from .section import Context, State
from .steps import units
from .steps.contract import Finding
from .steps.units import Units
from .vocabulary import Step

Fail = Callable[[str, str], None]
_OUT = ("failed", "skipped")


class Due(NamedTuple):
    """A unit that is not as wanted."""

    state: State
    step: Step
    finding: Finding

    def wants(self, field: str) -> bool:
        """True when the unit lacks this: `enabled` or `active`."""
        return any(change["field"] == field for change in self.finding.changes)


def bring_up(states: Dict[str, State], context: Context, fail: Fail) -> None:
    """Enable and start what the sections left for later. Those whose unit does not come up are handed to `fail`;
    the others have `changed` counted up."""
    waiting = [state for state in states.values() if state.later and state.state not in _OUT]
    if not waiting:
        return
    context.run.world.forget("units")
    first = _due(waiting, context, fail)
    if first and cancel.requested():
        for name in [state.section.id for state in waiting if any(due.state is state for due in first)]:
            fail(name, cancel.CANCELLED)
    elif first:
        _start(first, context, fail)
        # a unit that looked right may have been known by its old file: systemd has read the new ones now
        tried = {due.step["key"] for due in first}
        again = _due(waiting, context, fail)
        more = [due for due in again if due.step["key"] not in tried]
        if more and not cancel.requested():
            _start(more, context, fail)


def _due(states: Iterable[State], context: Context, fail: Fail) -> List[Due]:
    """The units that are not as wanted, from one question to systemd."""
    found: List[Due] = []
    for state in states:
        if state.state in _OUT:
            continue
        try:
            for step in state.later:
                finding = Units().check(step, context.run.world)
                if finding is not None:
                    found.append(Due(state, step, finding))
        except StepFault as fault:
            fail(state.section.id, str(fault))
    return [due for due in found if due.state.state not in _OUT]


def _start(todo: List[Due], context: Context, fail: Fail) -> None:
    """Write down that all begin, then act on all at once, then look at each."""
    run = context.run
    for due in todo:
        context.log.begin(due.state.section.id, due.step["key"])
        section.begin(due.state, due.step, due.finding, context, durable=due is todo[-1])
    started = time.monotonic()
    messages = _act(todo, context)
    run.world.forget("units", "mariadb", "postgresql")
    seconds = time.monotonic() - started
    for due in todo:
        if due.state.state in _OUT:
            continue
        name = due.step["name"]
        try:
            message = messages.get(name) or _verdict(due, context)
        except StepFault as fault:
            message = str(fault)
        if message:
            section.failed(due.state, due.step, message, context)
            fail(due.state.section.id, message)
            continue
        if due.wants("active"):
            run.on_unit_start(name)
        section.done(due.state, due.step, seconds, context)


def _act(todo: List[Due], context: Context) -> Dict[str, str]:
    """Enable, have systemd read everything once, start. What went wrong, by unit."""
    run = context.run
    names = [due.step["name"] for due in todo if due.wants("enabled")]
    messages = units.enable_all(names)
    if names:
        run.on_unit_file()
    try:
        run.before_units()
        names = [due.step["name"] for due in todo if due.wants("active")]
        names = [name for name in names if name not in messages]
        broken = [name for name in names if run.world.unit(name).active == "failed"]
        messages.update(units.start_all(names, broken))
    except StepFault as fault:
        return {due.step["name"]: str(fault) for due in todo}
    return messages


def _verdict(due: Due, context: Context) -> str:
    """An empty text, or how the unit is still not as wanted. Raises StepFault."""
    name = due.step["name"]
    left = Units().check(due.step, context.run.world)
    if left is None:
        return ""
    if any(change["field"] == "active" for change in left.changes):
        return "{} did not come up; it last said: {}".format(name, units.last_words(name))
    return "{} could not be enabled".format(name)
