"""Replacing the password of a database: a new one is made, and the node and the site's `.env` get it in one reconcile.

The new one is recorded beside the old one first and takes its place once the node has confirmed it. As long as it is
pending, every reconcile brings it to the node, whoever begins it: nothing has to be remembered after a crash.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from reconciler.app import planning
from reconciler.app.addresses import Address, require
from reconciler.app.lock import applying
from reconciler.app.settings import Settings
from reconciler.converge.executor import Executor, Limits, Part
from reconciler.converge.progress import Progress, Result
from reconciler.converge.settle import settle
from reconciler.errors import UsageFault
from reconciler.nodes.pool import Pool
from reconciler.plan.kinds import spec_of
from reconciler.record import inventory as record
from reconciler.store import Store, Tx
from reconciler.store.queries import audit, databases, inventory, suspensions


@dataclass(frozen=True)
class Rotation:
    """A rotation that is recorded. `began`: by this request; False: one was under way already, and goes on."""

    database: str
    site: str | None
    fleet: str
    began: bool


def begin(tx: Tx, name: str, by: str) -> Rotation:
    """Make a new password for Database/`name`, pending; in the audit log. UsageFault when that cannot be."""
    address = require(tx, f"Database/{name}")
    entry = inventory.get(tx, "Database", name)
    row = databases.get(tx, name)
    if entry is None or row is None or row.status == "creating":
        raise UsageFault(f"{address} is not on its node yet", hint="it gets a password when it is applied")
    spec = spec_of(entry.spec)
    if spec.get("password") is not None:
        raise UsageFault(
            f"the password of {address} is given by its manifest",
            hint="change spec.password there, and commit",
        )
    site = spec.get("site") if isinstance(spec.get("site"), str) else None
    concerned = [
        address,
        *([Address("Site", str(site))] if site else []),
        Address("Server", str(entry.server)),
    ]
    _refuse_suspended(tx, [*concerned, Address(suspensions.FLEET, entry.fleet)])
    began = databases.begin_rotation(tx, row.id)
    audit.append(tx, actor=by, action="rotate-password", subject=str(address), detail={"began": began})
    return Rotation(str(address), f"Site/{site}" if site else None, entry.fleet, began)


def _refuse_suspended(tx: Tx, concerned: Sequence[Address]) -> None:
    """A database and its site get a new password together or not at all."""
    held = {(one.kind, one.name) for one in suspensions.listed(tx)}
    for address in concerned:
        entry = inventory.get(tx, address.kind, address.name)
        by_manifest = entry is not None and spec_of(entry.spec).get("suspend") is True
        if by_manifest or (address.kind, address.name) in held:
            raise UsageFault(
                f"{address} is suspended, so it would not get the new password",
                hint="end that first: `reconciler resume`, or `suspend: false` in its manifest",
            )


def carry_out(settings: Settings, store: Store, progress: Progress, fleet: str) -> list[Result]:
    """Bring the pending passwords of a fleet to their nodes, without a daemon. StoreBusy, StalePlan; faults of nodes are results."""

    async def work() -> list[Result]:
        async with Pool() as pool:
            await settle(store, pool, progress, settings.apply_within)
            recorded = await store.aread(lambda tx: record.recorded(tx, fleet))
            plan = planning.rotation(recorded)
            executor = Executor(store, pool, progress, Limits(settings.nodes_at_once, settings.apply_within))
            part = Part(fleet, lambda tx: record.recorded(tx, fleet), concludes=False)
            return await executor.apply(plan, part=part)

    with applying(settings.state):
        return asyncio.run(work())
