"""Drift: what nodes show that was not applied, and putting it back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, timedelta

from reconciler.app import fleets
from reconciler.app.applying import Applied, Demand, apply, note_observation
from reconciler.app.planning import Wish
from reconciler.app.settings import Settings
from reconciler.converge.observer import Observation, Observer
from reconciler.converge.progress import Progress, Silent
from reconciler.desired.kinds.drift import DriftIgnore
from reconciler.errors import UsageFault
from reconciler.kit.canonical import Json
from reconciler.kit.clock import utc_now
from reconciler.kit.text import did_you_mean
from reconciler.nodes.pool import Pool
from reconciler.plan.ignore import Judged
from reconciler.plan.model import DriftItem
from reconciler.plan.render.rules import rules_as_yaml
from reconciler.record import inventory
from reconciler.store import Store
from reconciler.store.queries import servers as server_rows

RULE_DAYS = 30
"""How many days a rule that is written for somebody counts, when they do not say."""


@dataclass(frozen=True)
class Looked:
    """What the nodes showed, and what of it counts as drift."""

    seen: Observation
    judged: Judged


def look(store: Store, servers: Collection[str] | None) -> Looked:
    """Ask the nodes and bring the Drifted conditions up to date. UsageFault for a server that is not recorded."""
    _known(store, servers)

    async def ask() -> Looked:
        recorded = await store.aread(inventory.recorded)
        async with Pool() as pool:
            seen = await Observer(store, pool, Silent()).observe(recorded, servers)
        return Looked(seen, await store.awrite(lambda tx: note_observation(tx, recorded, seen)))

    return asyncio.run(ask())


def check_rule(until: date | None, reason: str) -> date:
    """The last day of rules to be written. UsageFault for a day that has passed and for a reason that no rule may have."""
    today = utc_now().date()
    if until is not None and until < today:
        raise UsageFault(
            f"{until} has passed, so the rules would never count", hint=f"today is {today} in UTC"
        )
    try:
        DriftIgnore.model_validate_json(json.dumps({"step": "*", "reason": reason}))
    except ValueError:
        raise UsageFault(
            "the reason cannot be written into a manifest", hint="write one line of at most 500 characters"
        ) from None
    return until or today + timedelta(days=RULE_DAYS)


def rules(settings: Settings, looked: Looked, until: date, reason: str) -> str:
    """Rules that leave alone what counts as drift now, for the newest commit. SourceFault's leaves."""
    fleet = fleets.at_commit(settings).loaded.fleet
    return rules_as_yaml(looked.judged.counted, fleet, until, reason)


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


def as_json(looked: Looked) -> Json:
    """The observation for programs: `drift` is what counts."""
    seen, judged = looked.seen, looked.judged
    return {
        "asked": sorted(seen.asked),
        "unreachable": dict(sorted(seen.unreachable.items())),
        "drift": [_item(item) for item in judged.counted],
        "ignored": [
            {
                **_item(found.item),
                "until": found.until.isoformat() if found.until else None,
                "reason": found.reason,
            }
            for found in judged.ignored
        ],
        "expired": [
            {
                "address": str(found.item.key),
                "server": found.item.server,
                "step": found.item.step,
                "rule": found.number,
                "until": found.rule.until,
                "reason": found.rule.reason,
            }
            for found in judged.expired
        ],
    }


def _item(item: DriftItem) -> dict[str, Json]:
    return {
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
