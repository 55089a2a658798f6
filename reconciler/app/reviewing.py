"""Reviewed plans: what a person has seen and agreed to for a tree of manifests; what is merged may do this or less."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from reconciler.app import asking, planning
from reconciler.app.settings import Settings
from reconciler.converge.progress import Progress
from reconciler.desired import lineage, source
from reconciler.errors import InvalidFleet, UsageFault
from reconciler.kit.text import count
from reconciler.loop import target
from reconciler.plan.exits import errored
from reconciler.plan.model import Plan
from reconciler.store import Store, Tx
from reconciler.store.queries import audit, plans
from reconciler.store.queries.plans import StoredPlan


@dataclass(frozen=True)
class Reviewed:
    """A plan that is on record as reviewed. `running`: a daemon was told."""

    plan: Plan
    stored: StoredPlan
    running: bool


def review(settings: Settings, store: Store, wish: planning.Wish, progress: Progress, by: str) -> Reviewed:
    """Plan a committed revision and record the plan as what `by` reviewed for its tree; in the audit log.

    InvalidFleet when its manifests have problems or the source is empty, UsageFault for files that are not committed,
    SourceFault when there is no such revision.
    """
    if wish.worktree:
        raise UsageFault(
            "what is not committed cannot be reviewed", hint="commit it, to a branch for example"
        )
    plan = planning.against_record(settings, store, wish, progress)
    if errored(plan):
        errors = tuple(problem for problem in plan.problems if problem.severity == "error")
        what = count(len(errors), "error") if errors else "nothing that it declares"
        raise InvalidFleet(f"nothing was recorded: the revision has {what}", errors)
    tree = _tree(settings, plan.head_commit)

    def unit(tx: Tx) -> StoredPlan:
        stored = plans.put(tx, target.new_plan(settings.name, tree, plan, plan.findings))
        plans.review(tx, stored.id, by)
        detail = {"identity": stored.identity, "commit": stored.commit, "tree": tree, "fleet": settings.name}
        audit.append(tx, actor=by, action="review", subject=f"Plan/{stored.id}", detail=detail)
        return plans.find(tx, stored.id)

    stored, running = asking.tell(store, settings.state, unit)
    return Reviewed(plan, stored, running)


def _tree(settings: Settings, commit: str) -> str:
    repository, inside = source.locate(settings.fleet)
    folder = str(PurePosixPath(inside) / settings.subpath) if inside or settings.subpath else ""
    return lineage.tree(repository, commit, "" if folder == "." else folder)
