"""Events: what happened to a resource, in one line each, in Kubernetes' shape."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from reconciler.store import rows
from reconciler.store.ledger import events
from reconciler.store.transaction import Tx
from reconciler.store.words import EventType


@dataclass(frozen=True)
class Event:
    """`reason` is one word in CamelCase, `message` a sentence."""

    id: str
    at: datetime
    kind: str
    name: str
    type: EventType
    reason: str
    message: str
    deployment_id: str | None


def add(
    tx: Tx,
    kind: str,
    name: str,
    *,
    reason: str,
    message: str,
    type: EventType = "Normal",  # noqa: A002 - Kubernetes' word
    deployment_id: str | None = None,
) -> str:
    """Adds an event about a resource and returns its id."""
    values = {
        "at": tx.now,
        "kind": kind,
        "name": name,
        "type": type,
        "reason": reason,
        "message": message,
        "deployment_id": deployment_id,
    }
    return rows.insert(tx, events, values)


def listed(
    tx: Tx,
    *,
    kind: str | None = None,
    name: str | None = None,
    deployment_id: str | None = None,
    limit: int = 100,
) -> list[Event]:
    """The newest `limit` events, newest first."""
    wanted = {"kind": kind, "name": name, "deployment_id": deployment_id}
    where = [events.c[column] == value for column, value in wanted.items() if value is not None]
    return rows.every(
        tx, rows.select(events, Event).where(*where).order_by(events.c.id.desc()).limit(limit), Event
    )


def prune(tx: Tx, before: datetime) -> int:
    """Removes those from before this time; how many went."""
    return tx.connection.execute(sa.delete(events).where(events.c.at < before)).rowcount
