"""Drift: what nodes show that was not applied, and putting it back."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from reconciler.app.applying import Applied, Demand, apply, note_observation
from reconciler.app.planning import Wish
from reconciler.app.settings import Settings
from reconciler.converge.observer import Observation, Observer
from reconciler.converge.progress import Progress, Silent
from reconciler.errors import UsageFault
from reconciler.kit.canonical import Json
from reconciler.kit.text import did_you_mean
from reconciler.nodes.pool import Pool
from reconciler.record import inventory
from reconciler.store import Store
from reconciler.store.queries import servers as server_rows


def look(store: Store, servers: Collection[str] | None) -> Observation:
    """Ask the nodes and bring the Drifted conditions up to date. UsageFault for a server that is not recorded."""
    _known(store, servers)

    async def ask() -> Observation:
        recorded = await store.aread(inventory.recorded)
        async with Pool() as pool:
            seen = await Observer(store, pool, Silent()).observe(recorded, servers)
        await store.awrite(lambda tx: note_observation(tx, recorded, seen))
        return seen

    return asyncio.run(ask())


def heal(settings: Settings, store: Store, servers: Collection[str] | None, progress: Progress) -> Applied:
    """Put back what was applied, without any new commit."""
    _known(store, servers)
    demand = Demand(wish=Wish(refresh=True, servers=servers), repair_only=True)
    return apply(settings, store, demand, progress)


def _known(store: Store, servers: Collection[str] | None) -> None:
    known = [row.name for row in store.read(server_rows.all)]
    for name in servers or ():
        if name not in known:
            raise UsageFault(f"no server {name!r} is recorded", hint=did_you_mean(name, known))


def as_json(seen: Observation) -> Json:
    """The observation for programs."""
    return {
        "asked": sorted(seen.asked),
        "unreachable": dict(sorted(seen.unreachable.items())),
        "drift": [
            {
                "address": str(item.key),
                "server": item.server,
                "step": item.step,
                "action": item.action,
                "changes": [
                    {"field": field, "applied": applied, "observed": observed}
                    for field, applied, observed in item.changes
                ],
                "note": item.note,
            }
            for item in seen.drift
        ],
    }
