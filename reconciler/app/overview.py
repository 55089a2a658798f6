"""How everything stands, at a glance: the daemon, its fleets, servers, running work, conditions, alerts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from reconciler.loop.lease import NAME as LEASE
from reconciler.store import Tx
from reconciler.store.queries import (
    alerts,
    conditions,
    databases,
    deployments,
    leases,
    loop_state,
    requests,
    revisions,
    selinux_audit_logs,
    servers,
    sites,
    sources,
    suspensions,
)
from reconciler.store.queries.alerts import StoredAlert
from reconciler.store.queries.conditions import Condition
from reconciler.store.queries.deployments import Deployment
from reconciler.store.queries.leases import Lease
from reconciler.store.queries.loop_state import LoopState
from reconciler.store.queries.sources import Source
from reconciler.store.queries.suspensions import Suspension

RECENT = timedelta(hours=1)
"""For how long a denial of SELinux is counted."""

CONDITIONS = ("Ready", "Reconciling", "Stalled", "Drifted")

_BAD = (("Stalled", "True"), ("Ready", "False"), ("Drifted", "True"))  # the worst first
_NAMED = {"Stalled": "stalled", "Ready": "not ready", "Drifted": "drifted"}


@dataclass(frozen=True)
class FleetView:
    """A fleet's source and how its newest accepted revision stands (empty before the first)."""

    source: Source
    revision_status: str


@dataclass(frozen=True)
class ServerView:
    """A server. `ready` of the `total` resources on it, itself included, are; `doing` is what goes on
    or is wrong, if anything. `denials` is how often SELinux refused something in the last hour.

    `calm`: it is ready, everything on it is, and nothing goes on.
    """

    name: str
    state: str
    condition: str
    ready: int
    total: int
    doing: str
    denials: int = 0

    @property
    def calm(self) -> bool:
        """Whether there is nothing to look at."""
        return self.ready == self.total and not self.doing


@dataclass(frozen=True)
class Overview:
    """Everything as of `now`. `holder` is the daemon that holds the lease, None when none does.

    `running` are deployments that have not ended, oldest first; `waiting` the requests that no daemon has answered;
    `queued` the servers for which work begins by itself later; `counts` resources by condition and status.
    """

    now: datetime
    holder: Lease | None
    fleets: tuple[FleetView, ...]
    servers: tuple[ServerView, ...]
    running: tuple[Deployment, ...]
    waiting: int
    queued: int
    counts: Mapping[str, Mapping[str, int]]
    alerts: tuple[StoredAlert, ...]
    suspended: tuple[Suspension, ...]


def take(tx: Tx) -> Overview:
    """The overview of this moment."""
    lease = leases.get(tx, LEASE)
    known = conditions.listed(tx)
    running = deployments.unfinished(tx)
    rows = _servers(tx, known, running)
    return Overview(
        now=tx.now,
        holder=lease if lease is not None and lease.expires_at > tx.now else None,
        fleets=tuple(_fleet(tx, source) for source in sources.listed(tx)),
        servers=rows,
        running=tuple(running),
        waiting=len(requests.waiting(tx)),
        queued=len({c.name for c in known if c.kind == "Server" and _waits(c)}),
        counts=_counts(known),
        alerts=tuple(alerts.listed(tx, firing=True)),
        suspended=tuple(suspensions.listed(tx)),
    )


def _fleet(tx: Tx, source: Source) -> FleetView:
    head = revisions.get(tx, source.head_commit, source.fleet) if source.head_commit else None
    return FleetView(source, head.status if head else "")


def _counts(known: Iterable[Condition]) -> dict[str, dict[str, int]]:
    found: Counter[tuple[str, str]] = Counter((c.type, c.status) for c in known if c.kind != "Fleet")
    return {kind: {s: found[kind, s] for s in ("True", "False", "Unknown")} for kind in CONDITIONS}


def _servers(tx: Tx, known: list[Condition], running: list[Deployment]) -> tuple[ServerView, ...]:
    by_resource: dict[tuple[str, str], dict[str, Condition]] = {}
    for condition in known:
        by_resource.setdefault((condition.kind, condition.name), {})[condition.type] = condition
    memory = {(state.kind, state.name): state for state in loop_state.listed(tx)}
    on: dict[str, list[tuple[str, str]]] = {}
    for site in sites.all(tx):
        on.setdefault(site.server_id, []).append(("Site", site.name))
    for database in databases.all(tx):
        if database.status != "retained":
            on.setdefault(database.server_id, []).append(("Database", database.manifest_name))
    refused = selinux_audit_logs.counts_since(tx, tx.now - RECENT)
    views = []
    for server in servers.all(tx):
        mine = by_resource.get(("Server", server.name), {})
        all_on_it = [("Server", server.name), *on.get(server.id, [])]
        work = [d for d in running if d.server_id == server.id]
        views.append(
            ServerView(
                name=server.name,
                state=server.status,
                condition=mine["Ready"].status if "Ready" in mine else "Unknown",
                ready=sum(_is_ready(by_resource.get(key, {})) for key in all_on_it),
                total=len(all_on_it),
                doing=_doing(work, mine, memory.get(("Server", server.name)), tx.now)
                or _wrong([(key, by_resource.get(key, {})) for key in all_on_it]),
                denials=refused.get(server.id, 0),
            )
        )
    return tuple(sorted(views, key=lambda view: view.name))


def _is_ready(mine: Mapping[str, Condition]) -> bool:
    return "Ready" in mine and mine["Ready"].status == "True"


def _waits(condition: Condition) -> bool:
    return (
        condition.type == "Reconciling" and condition.status == "True" and condition.reason != "Progressing"
    )


def _doing(
    work: list[Deployment], mine: Mapping[str, Condition], memory: LoopState | None, now: datetime
) -> str:
    """What goes on at a server: work, else why it waits, else when it is tried again."""
    begun = [d for d in work if d.status == "running"]
    if begun:
        more = f" and {len(work) - 1} more" if len(work) > 1 else ""
        return f"applying {begun[0].kind}/{begun[0].name}{more}"
    if work:
        return f"about to apply {work[0].kind}/{work[0].name}"
    reconciling = mine.get("Reconciling")
    if reconciling is not None and _waits(reconciling):
        return f"{reconciling.reason}: {reconciling.message}"
    if memory is not None and memory.retry_at is not None and memory.retry_at > now:
        left = (memory.retry_at - now).total_seconds()
        return f"tries again in {left:.0f}s after {memory.failures} failures"
    return ""


def _wrong(resources: Iterable[tuple[tuple[str, str], Mapping[str, Condition]]]) -> str:
    """What is wrong with the resources of a server: the first of them in words, the number of the others."""
    said = []
    for (kind, name), mine in resources:
        bad = [c for word, status in _BAD if (c := mine.get(word)) is not None and c.status == status]
        if bad:
            said.append(f"{kind}/{name} {_NAMED[bad[0].type]}: {bad[0].message or bad[0].reason}")
    return said[0] + (f" and {len(said) - 1} more" if len(said) > 1 else "") if said else ""
