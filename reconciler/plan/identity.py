"""Which plan it is, whether it still fits the recorded state, and what another one does beyond it."""

from __future__ import annotations

from reconciler.errors import StalePlan
from reconciler.kit import canonical
from reconciler.plan import serial
from reconciler.plan.model import Change, Plan
from reconciler.plan.recorded import Recorded


def identity(plan: Plan) -> str:
    """Lower-case hexadecimal sha256 of everything in the plan but `created_at`."""
    value = serial.plan_to_json(plan)
    del value["created_at"]
    return canonical.digest(value)


def check_fresh(plan: Plan, recorded: Recorded) -> None:
    """Raises StalePlan when the recorded state is not the one that the plan was made from."""
    if plan.lineage != recorded.lineage:
        raise StalePlan(
            "Saved plan does not match the given state: it was made from another database or from commits alone.",
            hint="Make the plan again with this state directory.",
        )
    if plan.serial != recorded.serial:
        raise StalePlan(
            "Saved plan is stale: the given plan file can no longer be applied because the state was changed by "
            f"another operation after the plan was created (state {plan.serial}, now {recorded.serial}).",
            hint="Make the plan again and review it.",
        )


def beyond(plan: Plan, reviewed: Plan) -> tuple[str, ...]:
    """The addresses whose change in `plan` is not in `reviewed` exactly so: empty when `plan` is a subset of it."""
    known = {change.address: _content(change) for change in reviewed.effective}
    return tuple(c.address for c in plan.effective if known.get(c.address) != _content(c))


def _content(change: Change) -> str:
    """What the change does, without the sentence and the place that explain it."""
    value = serial.change_to_json(change)
    for word in ("reason", "reason_code", "source", "diffs"):
        del value[word]
    return canonical.digest(value)
