"""Plans: between two commits without a database, or of a revision against the recorded state and the nodes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from reconciler import __version__
from reconciler.app import fleets
from reconciler.app.fleets import Revision
from reconciler.app.settings import Settings
from reconciler.desired import pinning
from reconciler.desired.pinning import Pins
from reconciler.errors import InvalidFleet
from reconciler.kit import assets
from reconciler.kit.clock import stamp, utc_now
from reconciler.kit.text import count
from reconciler.plan import reasons
from reconciler.plan.ignore import judge
from reconciler.plan.make import make_plan
from reconciler.plan.model import Action, Change, DriftItem, Plan
from reconciler.plan.offline import recorded_from
from reconciler.plan.steps import checked_steps, upgrade_steps

TYPE_CHECKING = False
if TYPE_CHECKING:  # a plan between commits needs no database and no SSH, and pays for neither
    from reconciler.converge.observer import Observation
    from reconciler.converge.progress import Progress
    from reconciler.plan.recorded import Recorded, RecordedResource
    from reconciler.store import Store

_RENDERS = (
    assets.folder("templates"),
    assets.folder("selinux"),
    assets.package("blueprint"),
    assets.package("platforms"),
    assets.package("selinux"),
)
ENGINE = f"reconciler {__version__}+{assets.fingerprint(*_RENDERS)}"
"""What renders steps: the program's version and a digest of templates, blueprints and platforms."""


def between(settings: Settings, base: str, head: str) -> Plan:
    """The plan that leads from one commit to another. InvalidFleet when the earlier one cannot be read as a whole."""
    before = fleets.at_commit(settings, base)
    if not before.loaded.fleet.whole:
        raise InvalidFleet(
            f"the earlier commit {base} has {count(len(before.loaded.errors), 'error')}, so nothing can be compared with it",
            before.loaded.errors,
            hint="name an earlier commit that is valid",
        )
    after = fleets.at_commit(settings, head)
    return make_plan(
        after.loaded,
        recorded_from(before.loaded, before.snapshot.commit),
        head=after.snapshot,
        created_at=stamp(utc_now()),
        engine=ENGINE,
    )


@dataclass(frozen=True)
class Wish:
    """Which revision to plan, and whether to ask the nodes (`servers`: only these) first."""

    revision: str = "HEAD"
    worktree: bool = False
    refresh: bool = False
    servers: Collection[str] | None = None

    def read(self, settings: Settings) -> Revision:
        """The revision that is wished for."""
        return fleets.uncommitted(settings) if self.worktree else fleets.at_commit(settings, self.revision)


def against_record(settings: Settings, store: Store, wish: Wish, progress: Progress) -> Plan:
    """The plan of a revision against what is recorded, with drift when the wish says to refresh."""
    from reconciler.record import inventory, sources  # noqa: PLC0415 - SQLAlchemy is slow to import

    revision = opened(wish.read(settings), store)
    if wish.refresh:
        refresh_sources(settings, store, revision)
    pins = store.read(sources.pins)
    recorded = store.read(lambda tx: inventory.recorded(tx, settings.name))
    seen = _asked(store, recorded, wish, progress) if wish.refresh else None
    return of(revision, recorded, seen, pins)


def refresh_sources(settings: Settings, store: Store, revision: Revision) -> None:
    """Ask the repositories that sites are deployed from where they stand, and record it."""
    import asyncio  # noqa: PLC0415 - a plan of what is recorded does without

    asyncio.run(arefresh_sources(settings, store, revision))


async def arefresh_sources(settings: Settings, store: Store, revision: Revision) -> None:
    """`refresh_sources`, from a loop that runs."""
    if not pinning.sources(revision.loaded):
        return
    from reconciler.app.repositories import reach_of  # noqa: PLC0415 - reads settings
    from reconciler.loop.applications import Applications  # noqa: PLC0415 - only sites with a source need it

    await Applications(settings.state, store, reach_of(settings.state)).refresh(revision.loaded)


def _asked(store: Store, recorded: Recorded, wish: Wish, progress: Progress) -> Observation:
    import asyncio  # noqa: PLC0415 - a plan that asks no node does without

    return asyncio.run(_observed(store, recorded, wish, progress))


async def _observed(store: Store, recorded: Recorded, wish: Wish, progress: Progress) -> Observation:
    from reconciler.converge.observer import Observer  # noqa: PLC0415 - asyncssh is slow to import
    from reconciler.nodes.pool import Pool  # noqa: PLC0415

    async with Pool() as pool:
        return await Observer(store, pool, progress).observe(recorded, wish.servers)


def opened(revision: Revision, store: Store) -> Revision:
    """The revision, less the resources with a value that this state directory's identity cannot open."""
    from reconciler.record import age  # noqa: PLC0415 - SQLAlchemy is slow to import

    return replace(revision, loaded=store.read(lambda tx: age.judge(tx, revision.loaded)))


def of(
    revision: Revision, recorded: Recorded, seen: Observation | None = None, pins: Pins | None = None
) -> Plan:
    """The plan of a revision that was read against a recorded state, what nodes showed and where sites' sources stand."""
    loaded, sourceless = pinning.pin(revision.loaded, pins or {})
    return make_plan(
        loaded,
        recorded,
        hold=sourceless,
        head=revision.snapshot,
        created_at=stamp(utc_now()),
        engine=ENGINE,
        drift=_counted(recorded, seen),
        refreshed=seen is not None,
        unreachable=seen.unreachable if seen else None,
    )


def repairs(recorded: Recorded, seen: Observation | None) -> Plan:
    """The plan that changes nothing and puts back what was applied, from the record alone."""
    return Plan(
        base_commit=recorded.base_commit,
        head_commit=recorded.base_commit,
        serial=recorded.serial,
        lineage=recorded.lineage,
        engine=ENGINE,
        created_at=stamp(utc_now()),
        changes=tuple(_as_it_is(resource) for _, resource in sorted(recorded.resources.items())),
        drift=_counted(recorded, seen),
        refreshed=seen is not None,
        unreachable=seen.unreachable if seen else {},
    )


def rotation(recorded: Recorded) -> Plan:
    """The plan that brings new passwords to their nodes and changes nothing else, from the record alone."""
    from reconciler.plan.sections import BlueprintRenderer  # noqa: PLC0415 - templates are slow to import

    renderer = BlueprintRenderer()
    changes = [
        replace(
            _as_it_is(resource),
            action=Action.UPDATE,
            reason_code="rotation",
            reason=reasons.ROTATION,
            steps=checked_steps(resource.steps, renderer),
        )
        if resource.rotating
        else _as_it_is(resource)
        for _, resource in sorted(recorded.resources.items())
    ]
    return replace(repairs(recorded, None), changes=tuple(changes))


def upgrade(recorded: Recorded) -> Plan:
    """The plan that carries out the upgrades of software that were asked for and changes nothing else, from the record alone."""
    changes = [
        replace(
            _as_it_is(resource),
            action=Action.UPDATE,
            reason_code="upgrade",
            reason=reasons.upgrade(resource.upgrading),
            steps=upgrade_steps(resource),
        )
        if resource.upgrading
        else _as_it_is(resource)
        for _, resource in sorted(recorded.resources.items())
    ]
    return replace(repairs(recorded, None), changes=tuple(changes))


def _counted(recorded: Recorded, seen: Observation | None) -> tuple[DriftItem, ...]:
    """What the nodes showed, without what the manifests leave alone."""
    return judge(seen.drift, recorded, utc_now().date()).counted if seen else ()


def _as_it_is(resource: RecordedResource) -> Change:
    return Change(
        key=resource.key,
        action=Action.NO_OP,
        reason_code="unchanged",
        reason="only drift is repaired",
        server=resource.server,
        source=resource.source,
        before=resource.manifest,
        after=resource.manifest,
        identity=resource.identity,
    )
