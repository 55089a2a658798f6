"""Leases: who may do something that only one process may do, until when, with a number that tells old from new."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from reconciler.store import rows
from reconciler.store.ledger import leases
from reconciler.store.transaction import Tx


@dataclass(frozen=True)
class Lease:
    """`fence` grows each time that the lease goes to another owner."""

    name: str
    owner: str
    fence: int
    expires_at: datetime


def acquire(tx: Tx, name: str, owner: str, duration: timedelta) -> Lease | None:
    """Takes the lease or, for its owner, prolongs it. None while somebody else holds it."""
    known = get(tx, name)
    if known is not None and known.owner != owner and known.expires_at > tx.now:
        return None
    if known is None:
        fence = 1
    elif known.owner == owner and known.expires_at > tx.now:
        fence = known.fence
    else:
        fence = known.fence + 1  # also for its former owner: somebody may have acted in between
    lease = Lease(name, owner, fence, tx.now + duration)
    values = {"owner": owner, "fence": fence, "expires_at": lease.expires_at}
    rows.upsert(tx, leases, {"name": name}, values)
    return lease


def get(tx: Tx, name: str) -> Lease | None:
    """The lease as recorded, expired or not."""
    return rows.first(tx, rows.select(leases, Lease).where(leases.c.name == name), Lease)


def release(tx: Tx, name: str, owner: str) -> bool:
    """Lets the lease expire now, if `owner` holds it; its number stays. Whether it did."""
    where = (leases.c.name == name, leases.c.owner == owner, leases.c.expires_at > tx.now)
    return tx.connection.execute(sa.update(leases).where(*where).values(expires_at=tx.now)).rowcount > 0
