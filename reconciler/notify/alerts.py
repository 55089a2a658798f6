"""Alerts as states: what is wrong now is compared with what was wrong before, and channels are told of the difference.

An alert that comes and goes is told once: each message is held for `settle` before it may leave, and taken back when the
opposite is seen meanwhile. What is gone for less than `settle` never was gone. All of it is decided by the times at which
things were seen and kept in the store, so neither a restart nor a slow channel changes what is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from reconciler.notify import notice
from reconciler.notify.settings import AlertType, Channel
from reconciler.store import Tx
from reconciler.store.queries import alerts, deliveries
from reconciler.store.queries.alerts import StoredAlert
from reconciler.store.queries.deliveries import Delivery
from reconciler.store.words import AlertSeverity

SETTLE = timedelta(minutes=1)
"""How long something must be seen, or be gone, before anybody is told."""

_RANK: dict[AlertSeverity, int] = {"info": 0, "warning": 1, "error": 2}
_Key = tuple[str, str, str]


@dataclass(frozen=True)
class Alert:
    """Something that is wrong now. It is known by (kind, name, type): of `Site/shop` there is one `Stalled` at a time.

    `reason` is one word in CamelCase, `message` a sentence without secrets; both may change while it stands.
    """

    kind: str
    name: str
    type: AlertType
    severity: AlertSeverity
    reason: str
    message: str


def observe(
    tx: Tx, now_firing: Sequence[Alert], channels: Sequence[Channel], *, settle: timedelta = SETTLE
) -> None:
    """Records that exactly `now_firing` is wrong at `tx.now`, and puts into the outbox what `channels` are to be told.

    Call it after whatever may have changed that, and every minute or so, since reminders come from here. A channel is
    told of the types in its `on`: when one begins, again after each `remind`, and when it is over; of the end it is
    told whenever it was told of the beginning. A channel that is new is told of what stands.
    """
    since = tx.now - settle
    known = _by_key(alerts.current(tx, since))
    told = deliveries.newest(tx, since)
    firing = _worst(now_firing)
    for key, alert in firing.items():
        row = _stands(tx, known.get(key), alert, settle)
        for channel in channels:
            _tell_firing(tx, row, channel, told.get((row.id, channel.name)), settle)
    for key, row in known.items():
        if key not in firing and row.state != "resolved":
            gone = alerts.change(tx, row, state="resolved", resolved_at=tx.now)
            _tell_resolved(tx, gone, channels, told, settle)


def _by_key(found: Iterable[StoredAlert]) -> dict[_Key, StoredAlert]:
    # those that stand come last and win over one of the same key that has ended
    ordered = sorted(found, key=lambda row: row.state != "resolved")
    return {(row.kind, row.name, row.type): row for row in ordered}


def _worst(firing: Iterable[Alert]) -> dict[_Key, Alert]:
    found: dict[_Key, Alert] = {}
    for alert in firing:
        key = (alert.kind, alert.name, alert.type)
        if key not in found or _RANK[alert.severity] > _RANK[found[key].severity]:
            found[key] = alert
    return found


def _stands(tx: Tx, row: StoredAlert | None, alert: Alert, settle: timedelta) -> StoredAlert:
    if row is None:
        return alerts.add(
            tx,
            alert.kind,
            alert.name,
            alert.type,
            severity=alert.severity,
            reason=alert.reason,
            message=alert.message,
        )
    return alerts.change(
        tx,
        row,
        state="new" if tx.now - row.first_at < settle else "ongoing",
        severity=alert.severity,
        reason=alert.reason,
        message=alert.message,
        last_at=tx.now,
        resolved_at=None,
    )


def _held(tx: Tx, delivery: Delivery) -> bool:
    return delivery.attempts == 0 and delivery.next_at > tx.now


def _tell_firing(
    tx: Tx, row: StoredAlert, channel: Channel, last: Delivery | None, settle: timedelta
) -> None:
    if last is not None and last.event == "resolved" and _held(tx, last):
        deliveries.take_back(tx, last.id)  # what the channel was told before is true again
    elif row.type not in channel.on:
        return
    elif last is None or last.event == "resolved":
        _add(tx, row, channel, "firing", wait=max(timedelta(0), row.first_at + settle - tx.now))
    elif (
        channel.remind is not None and last.ended_at is not None and tx.now - last.ended_at >= channel.remind
    ):
        _add(tx, row, channel, "reminder", wait=timedelta(0))


def _tell_resolved(
    tx: Tx,
    row: StoredAlert,
    channels: Sequence[Channel],
    told: Mapping[tuple[str, str], Delivery],
    settle: timedelta,
) -> None:
    for channel in channels:
        last = told.get((row.id, channel.name))
        if last is None or last.event == "resolved":
            continue
        if _held(tx, last):
            deliveries.take_back(tx, last.id)  # over before anybody was told
        else:
            _add(tx, row, channel, "resolved", wait=settle)


def _add(tx: Tx, row: StoredAlert, channel: Channel, event: notice.Event, *, wait: timedelta) -> None:
    payload = notice.payload(row)
    deliveries.add(tx, row.id, channel.name, event, payload=payload, next_at=tx.now + wait)
