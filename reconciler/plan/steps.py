"""How the steps of one resource differ from the recorded ones."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from reconciler.blueprint.model import Step
from reconciler.blueprint.upgrading import effect
from reconciler.kit import canonical
from reconciler.plan.model import PlannedStep
from reconciler.plan.recorded import RecordedResource
from reconciler.plan.sections import SectionRenderer


def step_changes(
    before: Sequence[Step], after: Sequence[Step], keep: Collection[str], renderer: SectionRenderer
) -> tuple[PlannedStep, ...]:
    """What differs, in the order of application: creations and updates, then what nothing needs any more."""
    old = {step.key: step for step in before}
    changes = [
        PlannedStep(_operation(old.get(step.key), step), step.key, renderer.describe(step))
        for step in after
        if not same(old.get(step.key), step)
    ]
    return (*changes, *removal_steps(before, keep, renderer))


def removal_steps(
    before: Sequence[Step], keep: Collection[str], renderer: SectionRenderer
) -> tuple[PlannedStep, ...]:
    """The steps that undo `before` but for what is in `keep`."""
    return tuple(
        PlannedStep("delete", step.key, renderer.describe(step)) for step in renderer.removals(before, keep)
    )


def upgrade_steps(found: RecordedResource) -> tuple[PlannedStep, ...]:
    """The upgrades of a server's software that were asked for."""
    return tuple(
        PlannedStep("update", f"upgrade:{one.software}", f"{one.words}; {effect(one.software)}")
        for one in found.upgrading
    )


def checked_steps(steps: Sequence[Step], renderer: SectionRenderer) -> tuple[PlannedStep, ...]:
    """All steps as `none`: looked at again, changed only where the node differs."""
    return tuple(PlannedStep("none", step.key, renderer.describe(step)) for step in steps)


def _operation(old: Step | None, new: Step) -> str:
    if new.params.get("state") == "absent":
        return "delete"
    return "create" if old is None else "update"


def same(old: Step | None, new: Step) -> bool:
    """Whether two steps mean the same on the wire; a tuple and a list do."""
    if old is None:
        return False
    return old.params == new.params or canonical.dumps(old.params) == canonical.dumps(new.params)
