"""An apply from its beginning to its end: settle what was left, look, plan, ask, converge."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from reconciler.app import planning
from reconciler.app.fleets import Revision
from reconciler.app.lock import applying
from reconciler.app.planning import Wish
from reconciler.app.settings import Settings
from reconciler.converge.executor import EVERYTHING, Executor, Limits, Part
from reconciler.converge.observer import Observation, Observer
from reconciler.converge.progress import Progress, Result
from reconciler.converge.settle import settle
from reconciler.desired.fleet import Key
from reconciler.desired.kinds import Kind
from reconciler.errors import ApprovalNeeded, InvalidFleet
from reconciler.kit.text import count
from reconciler.loop import drift
from reconciler.nodes.pool import Pool
from reconciler.plan.exits import errored
from reconciler.plan.guards import blocking
from reconciler.plan.identity import check_fresh
from reconciler.plan.ignore import Judged
from reconciler.plan.model import Plan
from reconciler.plan.recorded import Recorded
from reconciler.record import conditions, inventory, sources
from reconciler.store import Store, Tx
from reconciler.store.queries import conditions as condition_rows
from reconciler.store.queries import inventory as inventory_rows
from reconciler.store.queries import revisions

_NOT_READY = "SourceNotReady"


@dataclass(frozen=True)
class Applied:
    """What an apply came to. `results` is empty when there was nothing to do or the person said no."""

    plan: Plan
    results: Sequence[Result] = ()
    confirmed: bool = True

    @property
    def failed(self) -> tuple[Result, ...]:
        """The resources that did not get where the plan wanted them."""
        return tuple(result for result in self.results if result.state != "succeeded")


@dataclass(frozen=True)
class Demand:
    """How to apply: a revision (`wish`) or a saved plan, the approved guards, and the question before it starts.

    `repair_only`: no commit is read, only drift from what is recorded is put back.
    """

    wish: Wish
    saved: Plan | None = None
    approved: frozenset[str] = frozenset()
    confirm: Callable[[Plan], bool] = lambda plan: True
    repair_only: bool = False


def apply(settings: Settings, store: Store, demand: Demand, progress: Progress) -> Applied:
    """Apply. ApprovalNeeded, StalePlan, InvalidFleet (nothing valid declared), StoreBusy; faults of nodes are results.

    The question is asked between two runs of one event loop: while a loop runs, Ctrl-C would not reach the prompt.
    """
    with applying(settings.state), asyncio.Runner() as runner:
        pool = Pool()
        try:
            plan = runner.run(_prepare(settings, store, demand, pool, progress))
            guard(plan, demand.approved)
            if not plan.effective and not plan.drift:
                store.write(lambda tx: _note_revision(tx, plan, settings.name))
                store.write(lambda tx: _note_held(tx, plan, demand, settings.name))
                return Applied(plan)
            if not demand.confirm(plan):
                return Applied(plan, confirmed=False)
            store.write(lambda tx: _note_held(tx, plan, demand, settings.name))
            limits = Limits(settings.nodes_at_once, settings.apply_within)
            return Applied(
                plan, runner.run(_apply(settings, demand, Executor(store, pool, progress, limits), plan))
            )
        finally:
            runner.run(pool.close())


async def _apply(settings: Settings, demand: Demand, executor: Executor, plan: Plan) -> list[Result]:
    return await executor.apply(plan, part=EVERYTHING if demand.repair_only else _part(settings))


def _part(settings: Settings) -> Part:
    return Part(settings.name, lambda tx: inventory.recorded(tx, settings.name))


async def _prepare(settings: Settings, store: Store, demand: Demand, pool: Pool, progress: Progress) -> Plan:
    """Settle what was left unfinished; the saved plan if it still fits, else a new one."""
    await settle(store, pool, progress, settings.apply_within)
    if demand.saved is None:
        return await _plan(settings, store, demand, pool, progress)
    check_fresh(demand.saved, await store.aread(_part(settings).read))
    return demand.saved


async def _plan(settings: Settings, store: Store, demand: Demand, pool: Pool, progress: Progress) -> Plan:
    # a repair is of everything that is recorded; a commit is of its own fleet
    recorded = await store.aread(inventory.recorded if demand.repair_only else _part(settings).read)
    revision = None if demand.repair_only else await asyncio.to_thread(_read, settings, store, demand)
    if revision is not None:
        await planning.arefresh_sources(settings, store, revision)
    pins = await store.aread(sources.pins)
    seen = None
    if demand.wish.refresh:
        observer = Observer(store, pool, progress, settings.nodes_at_once, keep=True)
        observed = await observer.observe(recorded, demand.wish.servers)
        judged = await store.awrite(lambda tx: note_observation(tx, recorded, observed))
        seen = replace(observed, drift=list(judged.counted))  # what is ignored is not put back
    return planning.of(revision, recorded, seen, pins) if revision else planning.repairs(recorded, seen)


def _read(settings: Settings, store: Store, demand: Demand) -> Revision:
    return planning.opened(demand.wish.read(settings), store)


def _note_revision(tx: Tx, plan: Plan, fleet: str) -> None:
    """A commit that changes nothing is applied by that."""
    if plan.head_commit not in ("", plan.base_commit) and not errored(plan) and not plan.unreachable:
        author = {"author_name": plan.author_name, "author_email": plan.author_email}
        revisions.accept(tx, commit=plan.head_commit, message="", fleet=fleet, **author)
        revisions.set_status(tx, plan.head_commit, "applied", fleet=fleet)


def _note_held(tx: Tx, plan: Plan, demand: Demand, fleet: str) -> None:
    """The conditions of sites whose source is not known, which nothing else would tell of, and the end of them.

    A repair reads no manifests, so that it knows of none. What another fleet's daemon or apply noted is left alone.
    """
    if demand.repair_only:
        return
    for change in plan.held:
        conditions.held(tx, change.key, plan.head_commit, _NOT_READY, change.reason)
    held, of_plan = {c.key for c in plan.held}, {c.key for c in plan.changes}
    for known in condition_rows.of_reason(tx, _NOT_READY):
        key = Key(Kind.SITE, known.name)
        if known.kind != Kind.SITE or key in held:
            continue
        if key in of_plan:
            conditions.freed_of(tx, key, _NOT_READY, plan.head_commit)
        elif (
            inventory_rows.get(tx, key.kind, key.name) is None
            and revisions.get(tx, known.observed_revision or "", fleet) is not None
        ):
            condition_rows.forget(tx, key.kind, key.name)


def guard(plan: Plan, approved: frozenset[str]) -> None:
    """Refuse a plan that a guard blocks, or that has errors and nothing to do besides."""
    if stopping := blocking(plan, approved):
        codes = " ".join(f"--approve {f.code}" for f in stopping if f.approvable)
        hint = f"review the plan, then apply with {codes}" if codes else stopping[0].hint
        said = "; ".join(f"{f.code}: {f.message}" for f in stopping)
        raise ApprovalNeeded(f"the plan is not applied: {said}", stopping, hint=hint)
    if errored(plan) and not plan.effective and not plan.drift:
        errors = tuple(p for p in plan.problems if p.severity == "error")
        raise InvalidFleet(
            f"the manifests have {count(len(errors), 'error')} and nothing valid in them changes", errors
        )


def note_observation(tx: Tx, recorded: Recorded, seen: Observation) -> Judged:
    """Bring the Drifted conditions up to what the nodes showed; what of it counts."""
    return drift.note(tx, recorded, seen)
