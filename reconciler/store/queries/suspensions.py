"""Suspensions: what an operator has stopped the loop from touching, why, who did it and until when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from reconciler.store import rows
from reconciler.store.daemon_tables import suspensions as table
from reconciler.store.transaction import Tx

FLEET = "Fleet"
"""The word that stands for a whole fleet in `kind`; `name` is the fleet's."""


@dataclass(frozen=True)
class Suspension:
    """One suspension; without `expires_at` it stays until it is taken back."""

    kind: str
    name: str
    reason: str
    owner: str
    expires_at: datetime | None
    created_at: datetime


def put(tx: Tx, kind: str, name: str, *, reason: str, owner: str, expires_at: datetime | None) -> None:
    """Suspends an object or, if it is already, gives it this reason, owner and end."""
    rows.upsert(
        tx, table, {"kind": kind, "name": name}, {"reason": reason, "owner": owner, "expires_at": expires_at}
    )


def take_back(tx: Tx, kind: str, name: str) -> bool:
    """Whether there was one to take back."""
    where = (table.c.kind == kind, table.c.name == name)
    return tx.connection.execute(sa.delete(table).where(*where)).rowcount > 0


def expire(tx: Tx) -> list[Suspension]:
    """Takes back those whose time is over and returns them."""
    over = rows.every(tx, rows.select(table, Suspension).where(table.c.expires_at <= tx.now), Suspension)
    for one in over:
        take_back(tx, one.kind, one.name)
    return over


def any_expired(tx: Tx) -> bool:
    """Whether `expire` would take anything back."""
    return (
        tx.connection.execute(sa.select(table.c.id).where(table.c.expires_at <= tx.now).limit(1)).first()
        is not None
    )


def listed(tx: Tx) -> list[Suspension]:
    """Those that hold now, by kind and name."""
    holds = sa.or_(table.c.expires_at.is_(None), table.c.expires_at > tx.now)
    return rows.every(
        tx, rows.select(table, Suspension).where(holds).order_by(table.c.kind, table.c.name), Suspension
    )
