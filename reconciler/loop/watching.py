"""Watching servers that have a new revision: their health checks, made from here and on the node."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from reconciler.converge import access
from reconciler.desired.fleet import Fleet, Key
from reconciler.desired.kinds import Kind, Server
from reconciler.errors import AgentFault, NotEnrolled
from reconciler.kit.clock import Clock
from reconciler.loop import health
from reconciler.loop.denials import Collector
from reconciler.nodes.answers import UnitState
from reconciler.nodes.pool import Pool
from reconciler.nodes.target import Target
from reconciler.store import Store, Tx
from reconciler.store.queries import selinux_audit_logs, servers


@dataclass(frozen=True)
class NodeProber:
    """Asks nodes over their open connections, and the store for what SELinux denied, after a `collector` has asked
    the node for the newest."""

    store: Store
    pool: Pool
    declared: Fleet
    collector: Collector | None = None

    async def units(self, server: str, names: Sequence[str]) -> Mapping[str, UnitState]:
        """As `health.Prober.units`."""
        async with self.pool.node(await self._target(server)) as node:
            return await node.units(names)

    async def denials(self, server: str, since: datetime) -> int:
        """As `health.Prober.denials`; AgentFault when the node's log was lost in part since then."""
        if self.collector is not None:
            async with self.pool.node(await self._target(server)):
                await self.collector.collect(server)
        return await self.store.aread(lambda tx: _denials(tx, server, since))

    async def _target(self, server: str) -> Target:
        manifest = self.declared.server(server)
        if manifest is None:
            raise NotEnrolled(server, "it is not declared")
        return await self.store.aread(lambda tx: access.target(tx, manifest))


def _denials(tx: Tx, server: str, since: datetime) -> int:
    row = servers.get(tx, server)
    if row is None:
        return 0
    gap = selinux_audit_logs.gap_since(tx, row.id, since)
    if gap is not None:
        raise AgentFault(server, gap.message, code="gap")
    return selinux_audit_logs.count_since(tx, row.id, since)


def targets(declared: Fleet, server: Server) -> list[tuple[health.HealthTarget, tuple[health.Check, ...]]]:
    """What is to be checked on a server: itself, and its active sites that declare checks."""
    found = []
    address = server.spec.address
    if server.spec.health_checks:
        target = health.HealthTarget("Server", server.name, server.name, address)
        found.append((target, health.from_manifest(server.spec.health_checks)))
    for site in declared.sites(server.name):
        if site.spec.health_checks and site.spec.state == "active" and not site.spec.suspend:
            target = health.HealthTarget(
                "Site", site.name, server.name, address, site.spec.host, site.spec.hosts[1:]
            )
            found.append((target, health.from_manifest(site.spec.health_checks)))
    return found


class Faults(Protocol):
    """Finds out what is wrong with a server and its sites; `faults` is the one that does."""

    async def __call__(
        self,
        declared: Fleet,
        server: str,
        *,
        prober: health.Prober,
        clock: Clock,
        since: datetime,
        commands: Mapping[str, Sequence[str]],
        redact: Callable[[str], str] = str,
    ) -> Mapping[str, str]:
        """As `faults`."""
        ...


async def faults(
    declared: Fleet,
    server: str,
    *,
    prober: health.Prober,
    clock: Clock,
    since: datetime,
    commands: Mapping[str, Sequence[str]],
    redact: Callable[[str], str] = str,
) -> dict[str, str]:
    """What the health checks of a server and its sites find wrong, by check; empty when all of them pass."""
    manifest = declared.server(server)
    if manifest is None:
        return {}
    found: dict[str, str] = {}
    for target, checks in targets(declared, manifest):
        results = await health.check(
            target, checks, prober, clock=clock, since=since, commands=commands, redact=redact
        )
        found |= {f"{target.kind}/{target.name} {r.check}": r.message for r in results if not r.ok}
    return found


def all_checks(declared: Fleet, server: str, only: Collection[Key] | None = None) -> list[str]:
    """The names of a server's checks, as in `faults`, or those of some resources."""
    manifest = declared.server(server)
    return [
        f"{target.kind}/{target.name} {check}"
        for target, checks in (targets(declared, manifest) if manifest is not None else ())
        if only is None or Key(Kind(target.kind), target.name) in only
        for check in checks
    ]
