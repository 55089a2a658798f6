"""What every part of the worker works with, and one look while it lasts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from reconciler.converge.executor import Executor
from reconciler.converge.observer import Observer
from reconciler.converge.progress import Progress
from reconciler.desired.fleet import Key
from reconciler.desired.kinds import Kind
from reconciler.errors import StalePlan
from reconciler.kit import canonical
from reconciler.kit.clock import Clock, utc_now
from reconciler.loop import memory, watching
from reconciler.loop.denials import Collector
from reconciler.loop.fleet import FleetLoop
from reconciler.loop.ports import Meter
from reconciler.loop.settings import LoopSettings
from reconciler.loop.target import Target
from reconciler.nodes.pool import Pool
from reconciler.plan.manifests import to_json
from reconciler.plan.model import Plan
from reconciler.plan.recorded import Recorded
from reconciler.record import conditions
from reconciler.store import Store, Tx
from reconciler.store.queries import events


@dataclass
class Means:
    """The store, the nodes, how far to go and how health is found out: handed in by the composition.

    The composition replaces `settings` at a reload.
    """

    store: Store
    pool: Pool
    progress: Progress
    settings: LoopSettings
    executor: Executor
    observer: Observer
    clock: Clock
    meter: Meter
    faults: watching.Faults = watching.faults
    redact: Callable[[str], str] = str
    collector: Collector | None = None

    async def reachable(self, server: str, fault: str, commit: str) -> None:
        """Record whether a server's node answers; `fault` is empty when it does."""

        def unit(tx: Tx) -> None:
            if conditions.reachable(tx, Key(Kind.SERVER, server), fault, commit):
                word = "NodeUnreachable" if fault else "NodeAnswers"
                said = fault or "the node answers"
                events.add(
                    tx, "Server", server, reason=word, message=said, type="Warning" if fault else "Normal"
                )
            if not fault:
                memory.answers(tx, server)

        await self.store.awrite(unit)

    async def put_off(self, fleet: FleetLoop, server: str, message: str, *, stalled: bool) -> None:
        """Look at a server again later, after a wait that grows with each failure in a row."""
        self.progress.node(server or fleet.name, message)
        key = Key(Kind.SERVER, server or f"records.{fleet.name}")
        limits = self.settings.limits
        wait = await self.store.awrite(lambda tx: memory.failed(tx, key, limits, stalled=stalled))
        fleet.add(server, "retry", wait)


@dataclass
class Look:
    """One look at the servers of a group, while it lasts."""

    fleet: FleetLoop
    target: Target
    servers: frozenset[str]
    reasons: frozenset[str]
    began: datetime = field(default_factory=utc_now)
    recorded: Recorded = field(default_factory=Recorded)
    plan: Plan | None = None
    arrived: bool = False
    """Whether the servers have what the revision wants, but for what is held back."""

    @property
    def keys(self) -> list[Key]:
        """The servers' own keys."""
        return [Key(Kind.SERVER, name) for name in sorted(self.servers)]


def unchanged(then: Recorded) -> Callable[[Plan, Recorded], None]:
    """A check that the recorded state is still `then`: StalePlan if not."""

    def check(plan: Plan, now: Recorded) -> None:
        if now.resources != then.resources or now.lineage != plan.lineage:
            raise StalePlan("the recorded state moved while the plan was made", hint="it is made again")

    return check


def wanted(target: Target, key: Key) -> str:
    """A digest of what the revision wants of a resource; empty when it wants it gone."""
    entry = target.loaded.fleet.entries.get(key)
    return canonical.digest(to_json(entry.manifest))[:16] if entry is not None else ""
