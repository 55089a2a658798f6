"""Deliveries: the outbox. What a channel is to be told, kept until it has taken it or it was given up."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from reconciler.store import rows
from reconciler.store.daemon_tables import alerts
from reconciler.store.daemon_tables import deliveries as table
from reconciler.store.transaction import Tx
from reconciler.store.words import AlertEvent


@dataclass(frozen=True)
class Delivery:
    """One message for one channel. `attempts` counts those begun; `next_at` is when it may be tried (again).

    `error` says why the last attempt failed; of one that was delivered, what the channel remarked.
    """

    id: str
    alert_id: str
    channel: str
    event: AlertEvent
    payload: dict[str, Any]
    attempts: int
    next_at: datetime
    delivered_at: datetime | None
    given_up_at: datetime | None
    error: str
    created_at: datetime

    @property
    def ended_at(self) -> datetime | None:
        """When it was delivered or given up; None while it is still to be made."""
        return self.delivered_at or self.given_up_at


def add(
    tx: Tx, alert_id: str, channel: str, event: AlertEvent, *, payload: Mapping[str, Any], next_at: datetime
) -> str:
    """Puts a message into the outbox, to be sent at `next_at` or soon after, and returns its id."""
    values = {
        "alert_id": alert_id,
        "channel": channel,
        "event": event,
        "payload": dict(payload),
        "next_at": next_at,
        "error": "",
    }
    return rows.insert(tx, table, values)


def newest(tx: Tx, resolved_since: datetime) -> dict[tuple[str, str], Delivery]:
    """The newest delivery of each (alert, channel), of the alerts that `alerts.current` gives."""
    place = sa.func.row_number().over(
        partition_by=(table.c.alert_id, table.c.channel),
        order_by=(table.c.created_at.desc(), table.c.id.desc()),
    )
    where = sa.or_(alerts.c.state != "resolved", alerts.c.resolved_at > resolved_since)
    ranked = (
        sa.select(table.c.id, place.label("place"))
        .join(alerts, alerts.c.id == table.c.alert_id)
        .where(where)
        .subquery()
    )
    statement = (
        rows.select(table, Delivery).join(ranked, ranked.c.id == table.c.id).where(ranked.c.place == 1)
    )
    return {(found.alert_id, found.channel): found for found in rows.every(tx, statement, Delivery)}


def heads(tx: Tx, channel: str) -> list[Delivery]:
    """Of each object and type the oldest message that `channel` is still to be told, the one due first first.

    Those behind it wait, so that nobody hears of an end before the beginning.
    """
    about = (alerts.c.kind, alerts.c.name, alerts.c.type)
    place = sa.func.row_number().over(partition_by=about, order_by=(table.c.created_at, table.c.id))
    ranked = (
        sa.select(table.c.id, place.label("place"))
        .join(alerts, alerts.c.id == table.c.alert_id)
        .where(table.c.channel == channel, table.c.delivered_at.is_(None), table.c.given_up_at.is_(None))
        .subquery()
    )
    statement = (
        rows.select(table, Delivery).join(ranked, ranked.c.id == table.c.id).where(ranked.c.place == 1)
    )
    return rows.every(tx, statement.order_by(table.c.next_at, table.c.id), Delivery)


def change(tx: Tx, delivery_id: str, values: Mapping[str, Any]) -> None:
    """Sets columns of a delivery. StoreFault when it is gone."""
    rows.update(tx, table, delivery_id, values)


def take_back(tx: Tx, delivery_id: str) -> None:
    """Removes a delivery that nobody has been told of."""
    rows.delete(tx, table, delivery_id)


def of_alert(tx: Tx, alert_id: str) -> list[Delivery]:
    """All deliveries of an alert, oldest first."""
    order = (table.c.created_at, table.c.id)
    return rows.every(
        tx, rows.select(table, Delivery).where(table.c.alert_id == alert_id).order_by(*order), Delivery
    )


def orphans(tx: Tx, channels: Collection[str]) -> list[Delivery]:
    """Deliveries that are still to be made to other channels than these."""
    where = (
        table.c.delivered_at.is_(None),
        table.c.given_up_at.is_(None),
        table.c.channel.not_in(list(channels)),
    )
    return rows.every(tx, rows.select(table, Delivery).where(*where).order_by(table.c.id), Delivery)
