"""The end of an apply: the steps that could lock us out, once everything else is done, with the way back prepared."""

import json
from typing import Any, Callable, Dict, List, Tuple

from . import cancel, section
from .faults import StepFault
from .section import Context, State, fault_text, tell_done
from .settle import Settler
from .steps import HANDLERS
from .steps.contract import Finding
from .steps.lockout import UNDONE, is_guarded, is_last
from .vocabulary import Step

__all__ = ["UNDONE", "carry_out", "is_guarded"]

Due = List[Tuple[Step, Finding]]
Arm = Callable[[], None]
_OUT = ("failed", "skipped")


def carry_out(states: Dict[str, State], context: Context, settler: Settler, arm: Arm) -> bool:
    """Check and apply the steps of all sections that come last; true when something is in place that waits to be confirmed.

    `arm` is called once before the first of them that could lock us out. A section of which one fails has failed, but what
    was done in it before stays.
    """
    held = [state for state in states.values() if state.last and state.state not in _OUT]
    todo: List[Tuple[State, Due]] = []
    for state in held:
        try:
            due = _due(state, context)
        except (StepFault, OSError) as error:
            _fail(state, fault_text(error), settler)
            continue
        if due:
            todo.append((state, due))
    if todo:
        _apply_all(todo, context, settler, arm)
    asked = {name for name in context.pending.validators if json.loads(name) in _validators(todo)}
    settler.validate(asked)
    settler.reload()
    for state in held:
        if state.state not in _OUT:
            tell_done(state, context)
    return any(is_guarded(undo.key) for state, _ in todo for undo in state.undo)


def _validators(todo: List[Tuple[State, Due]]) -> List[Any]:
    return [step.get("validate") for _, due in todo for step, _finding in due]


def _due(state: State, context: Context) -> Due:
    found = []
    for step in state.last:
        finding = HANDLERS[step["type"]].check(step, context.run.world)
        if finding is not None:
            found.append((step, finding))
    return found


def _fail(state: State, message: str, settler: Settler) -> None:
    """Put back the last steps of a section, and nothing else of it: the rest has been found right."""
    state.undo = [undo for undo in state.undo if is_last(undo.key)]
    settler.fail(state.section.id, message)


def _apply_all(todo: List[Tuple[State, Due]], context: Context, settler: Settler, arm: Arm) -> None:
    if cancel.requested():
        for state, _ in todo:
            _fail(state, cancel.CANCELLED, settler)
        return
    if any(is_guarded(step["key"]) for _, due in todo for step, _finding in due):
        try:
            arm()
        except (StepFault, OSError) as error:
            for state, _ in todo:
                _fail(state, "the way back could not be prepared: " + fault_text(error), settler)
            return
    for state, due in todo:
        state.undo = [undo for undo in state.undo if is_last(undo.key)]
        context.log.begin(state.section.id, None)
        try:
            for step, finding in due:
                section.apply_one(state, step, finding, context)
        except (StepFault, OSError) as error:
            _fail(state, fault_text(error), settler)
