"""Alerts: what needs a person, from when it was first seen until it was gone; one row for each time that it happened."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from reconciler.store import rows
from reconciler.store.daemon_tables import alerts as table
from reconciler.store.daemon_tables import deliveries
from reconciler.store.transaction import Tx
from reconciler.store.words import AlertSeverity, AlertState


@dataclass(frozen=True)
class StoredAlert:
    """`first_at` is when it was first seen, `last_at` when it was last seen, `resolved_at` when it was found gone.

    `notified_at` is when a channel was last told of it.
    """

    id: str
    kind: str
    name: str
    type: str
    state: AlertState
    severity: AlertSeverity
    reason: str
    message: str
    first_at: datetime
    last_at: datetime
    notified_at: datetime | None
    resolved_at: datetime | None


def add(
    tx: Tx, kind: str, name: str, type: str, *, severity: AlertSeverity, reason: str, message: str  # noqa: A002
) -> StoredAlert:  # fmt: skip
    """Records an alert that was not there before."""
    values = {
        "kind": kind,
        "name": name,
        "type": type,
        "state": "new",
        "severity": severity,
        "reason": reason,
        "message": message,
        "first_at": tx.now,
        "last_at": tx.now,
    }
    return get(tx, rows.insert(tx, table, values))


def get(tx: Tx, alert_id: str) -> StoredAlert:
    """One alert. StoreFault when it is gone."""
    return rows.by_id(tx, table, StoredAlert, alert_id)


def change(tx: Tx, alert: StoredAlert, **values: Any) -> StoredAlert:
    """Sets columns of an alert and returns it as it is then. StoreFault when it is gone."""
    rows.update(tx, table, alert.id, values)
    return replace(alert, **values)


def current(tx: Tx, resolved_since: datetime) -> list[StoredAlert]:
    """Those that stand, and those found gone after this time, oldest first."""
    where = sa.or_(table.c.state != "resolved", table.c.resolved_at > resolved_since)
    order = (table.c.first_at, table.c.id)
    return rows.every(tx, rows.select(table, StoredAlert).where(where).order_by(*order), StoredAlert)


def listed(tx: Tx, *, firing: bool | None = None, limit: int = 100) -> list[StoredAlert]:
    """The newest `limit` alerts, newest first: all, those that stand, or those that are gone."""
    statement = rows.select(table, StoredAlert)
    if firing is not None:
        statement = statement.where(
            (table.c.state != "resolved") if firing else (table.c.state == "resolved")
        )
    order = (table.c.first_at.desc(), table.c.id.desc())
    return rows.every(tx, statement.order_by(*order).limit(limit), StoredAlert)


def counts(tx: Tx) -> dict[str, int]:
    """How many alerts there are of each state that stands: `new`, `ongoing`."""
    statement = sa.select(table.c.state, sa.func.count()).where(table.c.state != "resolved")
    return {row[0]: row[1] for row in tx.connection.execute(statement.group_by(table.c.state))}


def prune(tx: Tx, before: datetime) -> int:
    """Forgets alerts found gone before this time, with their deliveries, unless one is still to be made. How many."""
    open_deliveries = sa.select(deliveries.c.id).where(
        deliveries.c.alert_id == table.c.id,
        deliveries.c.delivered_at.is_(None),
        deliveries.c.given_up_at.is_(None),
    )
    where = (table.c.state == "resolved", table.c.resolved_at < before, ~open_deliveries.exists())
    return tx.connection.execute(sa.delete(table).where(*where)).rowcount
