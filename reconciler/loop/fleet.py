"""One fleet in the loop: follows its source, judges revisions, and says what is to be looked at because of that."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from reconciler.desired.fleet import Key, Loaded
from reconciler.desired.kinds import Kind
from reconciler.desired.pinning import pin
from reconciler.desired.snapshot import Snapshot
from reconciler.errors import SourceFault, SourceUnreachable
from reconciler.kit.clock import Clock, stamp
from reconciler.kit.text import short
from reconciler.loop import memory, rollouts, target
from reconciler.loop.assess import Assessment, Hold, Inputs, assess
from reconciler.loop.queue import WorkQueue
from reconciler.loop.schedule import Timetable
from reconciler.loop.settings import FleetSpec
from reconciler.loop.source import Source
from reconciler.loop.target import Target
from reconciler.plan.guards import Thresholds
from reconciler.plan.recorded import Recorded
from reconciler.record import conditions, inventory
from reconciler.record import sources as record_sources
from reconciler.store import Store, Tx
from reconciler.store.queries import conditions as condition_rows
from reconciler.store.queries import inventory as inventory_rows
from reconciler.store.queries import revisions, sources, suspensions
from reconciler.store.words import RevisionStatus, TriggeredVia

RECORDS = ""
"""Stands for the part of a fleet that is on no node where a server's name stands for the others."""


@dataclass
class FleetLoop:
    """One fleet.

    `target` is None until a first revision could be read. `overrides` are servers whose maintenance windows do not count for their next run; `failed_as` what was wanted of a
    resource (a digest) when it failed last; `neighbours` all fleets of this daemon, by name.
    """

    spec: FleetSpec
    source: Source
    store: Store
    queue: WorkQueue
    clock: Clock
    engine: str
    target: Target | None = None
    overrides: set[str] = field(default_factory=set)
    thresholds: Thresholds = field(default_factory=Thresholds)
    timetable: Timetable = field(default_factory=Timetable)
    neighbours: Mapping[str, FleetLoop] = field(default_factory=dict)
    failed_as: dict[Key, str] = field(default_factory=dict)
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def name(self) -> str:
        """The fleet's name."""
        return self.spec.name

    def key(self, server: str) -> str:
        """A server's key in the queue."""
        return f"{self.name}/{server}"

    def add(self, server: str, reason: str, after: float = 0.0) -> None:
        """Ask for a server to be looked at."""
        self.queue.add(self.key(server), reason, group=self.name, after=after)

    async def look(self, trigger: TriggeredVia, *, again: bool = False) -> bool:
        """Look at the source and follow what it shows; `again`: judge the revision anew though it is the same.

        Whether there is a revision to follow. Faults of the source are recorded, not raised.
        """
        async with self._looking:
            head = await self.source.look()
            if head is None:
                return self.target is not None
            return await self._consider(head.commit, trigger, again=again)

    async def _consider(self, head: str, trigger: TriggeredVia, *, again: bool) -> bool:
        """Follow the newest revision, or the one that stands in for it; whether there is one to follow."""
        commit, rollback = await self.store.aread(lambda tx: self._choose(tx, head))
        known = self.target
        if known is not None and known.commit == commit and known.rollback == rollback and not again:
            return True
        try:
            snapshot, loaded = await self._read(commit)
        except SourceFault as fault:
            message, away = fault.message, isinstance(fault, SourceUnreachable)
            reason = "SourceUnreachable" if away else "SourceRefused"
            await self.store.awrite(
                lambda tx: conditions.fleet(tx, self.name, "SourceReady", "False", reason, message, commit)
            )
            return known is not None
        same = known is not None and known.commit == commit
        await self._follow(snapshot, loaded, known.trigger if same and known else trigger, rollback=rollback)
        return True

    async def _read(self, commit: str) -> tuple[Snapshot, Loaded]:
        known = self.target
        if known is not None and known.commit == commit:
            return known.snapshot, known.loaded
        return await self.source.read(commit)

    async def judge_again(self) -> None:
        """Something that a judgement rests on has changed: an approval, a suspension, a quarantine.

        The source is not asked: the answer must not wait for a remote that hangs.
        """
        async with self._looking:
            known = await self.store.aread(lambda tx: sources.get(tx, self.name))
            if known is not None and known.head_commit:
                await self._consider(known.head_commit, "poll", again=True)

    def _choose(self, tx: Tx, head: str) -> tuple[str, bool]:
        """The revision to follow: the newest, or the last good one while that is quarantined."""
        found = revisions.get(tx, head, self.name)
        if found is None or found.status != "quarantined":
            return head, False
        good = revisions.last_good(tx, self.name)
        return (good.commit, True) if good is not None else (head, True)

    async def _follow(
        self, snapshot: Snapshot, loaded: Loaded, trigger: TriggeredVia, *, rollback: bool
    ) -> None:
        tree = await self.source.tree(snapshot.commit)
        loaded, sourceless = pin(loaded, await self.store.aread(record_sources.pins))
        given = await self.store.aread(lambda tx: self._inputs(tx, snapshot, loaded, tree))
        given = replace(given, rollback=rollback, sourceless=sourceless)
        assessment = await asyncio.to_thread(assess, given)
        rollout = rollouts.plan_of(self.name, snapshot.commit, loaded.fleet, assessment.servers)
        aside = await self.store.aread(lambda tx: self._aside(tx, snapshot.commit)) if rollback else ""
        if aside and await self._has_nothing_to_go_back_to(snapshot.commit):
            assessment = _standing_still(assessment)
        around = target.Surroundings(tree, aside, self._declared_elsewhere())

        def unit(tx: Tx) -> str:
            target.retire(tx, self.name, snapshot.commit)
            plan_id = target.record(tx, self.name, assessment, loaded, around)
            rollouts.begin(tx, rollout, sorted(assessment.servers))
            if not rollback:
                revisions.supersede(tx, self.name, snapshot.commit)
            rollouts.tell(tx, rollout)
            return plan_id

        plan_id = await self.store.awrite(unit)
        self.target = Target(
            self.name, snapshot, loaded, assessment, rollout, trigger, plan_id, rollback=rollback
        )
        last = await self.store.aread(memory.last_checks)
        self.timetable.keep(self.target.drift_every, last, self.clock())
        self.add(RECORDS, trigger)
        await self.settle_revision()

    def _aside(self, tx: Tx, followed: str) -> str:
        """Why the newest revision is set aside, and what is followed instead."""
        head = sources.get(tx, self.name)
        newest = revisions.get(tx, head.head_commit, self.name) if head and head.head_commit else None
        why = f" ({newest.reason})" if newest and newest.reason else ""
        if newest is None or newest.commit == followed:
            return f"{short(followed)} is quarantined{why} and there is no revision to go back to; push another one"
        return (
            f"{short(newest.commit)} is quarantined{why}; {short(followed)} is followed until the next commit"
        )

    def _declared_elsewhere(self) -> frozenset[str] | None:
        """The addresses that the other fleets declare; None while one of them could not be read yet."""
        found: set[str] = set()
        for fleet in self.neighbours.values():
            if fleet is self:
                continue
            if fleet.target is None:
                return None
            declared = fleet.target.loaded.fleet
            found |= {str(key) for key in (*declared.entries, *declared.broken)}
        return frozenset(found)

    async def _has_nothing_to_go_back_to(self, commit: str) -> bool:
        found = await self.store.aread(lambda tx: revisions.get(tx, commit, self.name))
        return found is not None and found.status == "quarantined"

    def _inputs(self, tx: Tx, snapshot: Snapshot, loaded: Loaded, tree: str) -> Inputs:
        recorded = inventory.recorded(tx, self.name)
        known = revisions.get(tx, snapshot.commit, self.name)
        # a review is of what a commit does when it comes; once all of it was done, it has nothing more to say
        fresh = known is None or known.healthy_at is None
        return Inputs(
            loaded=loaded,
            recorded=replace(recorded, base_commit=self._base(tx, recorded)),
            head=snapshot,
            created_at=stamp(self.clock()),
            engine=self.engine,
            suspended=_suspended(tx, recorded, loaded),
            reviewed=target.reviewed(tx, self.name, tree) if fresh else None,
            approved=target.approvals(tx, self.name, snapshot.commit),
            foreign={
                Key(Kind(kind), name): fleet
                for (kind, name), fleet in inventory_rows.owners(tx).items()
                if fleet != self.name
            },
            thresholds=self.thresholds,
        )

    def _base(self, tx: Tx, recorded: Recorded) -> str:
        found = revisions.newest(tx, status="applied", fleet=self.name)
        return found.commit if found is not None else recorded.base_commit

    async def settle_revision(self) -> None:
        """Bring the revision's status and the fleet's Ready condition up to what its resources say."""
        now = self.target
        if now is not None:
            await self.store.awrite(lambda tx: self._settle_revision(tx, now))

    def _settle_revision(self, tx: Tx, now: Target) -> None:
        known = revisions.get(tx, now.commit, self.name)
        if known is None:
            return
        digests = inventory_rows.digests(tx, self.name)
        held = now.assessment.holds
        behind = sum(
            1
            for change, wanted in now.wanted
            if change not in held and digests.get((change.kind.value, change.name)) != wanted
        )
        ready = condition_rows.ready(tx)
        failed = sum(1 for key in digests if key not in ready)
        done = not behind and not failed and not held
        if known.status in ("accepted", "applying", "failed", "applied", "superseded"):
            status: RevisionStatus = "applied" if done else "failed" if failed and not behind else "applying"
            if known.status != status:
                revisions.set_status(tx, now.commit, status, fleet=self.name)
        if done:
            message = f"{now.commit[:12]} is applied"
            conditions.fleet(tx, self.name, "Ready", "True", "Synced", message, now.commit)
            target.spend(tx, self.name, now.commit)
            rollouts.complete(tx, now.rollout)
        else:
            what = f"{behind} to apply, {failed} not ready, {len(held)} held"
            conditions.fleet(tx, self.name, "Ready", "False", "Progressing", what, now.commit)


def _suspended(tx: Tx, recorded: Recorded, loaded: Loaded) -> dict[Key, str]:
    """The resources that operators suspended one by one; whole servers and fleets are stopped at their worker."""
    kinds = {kind.value for kind in Kind}
    found = {}
    for one in suspensions.listed(tx):
        if one.kind in kinds:
            key = Key(Kind(one.kind), one.name)
            if key.kind is not Kind.SERVER and (key in recorded.resources or key in loaded.fleet.entries):
                found[key] = f"suspended by {one.owner}: {one.reason}"
    return found


def _standing_still(assessment: Assessment) -> Assessment:
    """Nothing of the revision is applied."""
    why = Hold("Refused", "the revision is quarantined")
    held = {change.key: why for change in assessment.plan.effective}
    return replace(assessment, holds={**assessment.holds, **held})
