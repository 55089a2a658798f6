"""The outbox's units of work: claim what is due, record how it went, give up what was tried for too long."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import assert_never

from reconciler.notify.outcome import Delivered, Failed, Outcome, Refused, delay
from reconciler.store import Tx
from reconciler.store.queries import alerts, deliveries, events
from reconciler.store.queries.deliveries import Delivery

FAILED = "NotificationFailed"
"""The reason of the event that tells of a message nobody got."""


@dataclass(frozen=True)
class Timing:
    """`settle`: how long news is held. `first`, `longest`: seconds between attempts. `give_up_after` its first due time.

    `keep` is how long alerts that are over are remembered; `jitter` gives a number from 0 to 1.
    """

    settle: timedelta = timedelta(minutes=1)
    first: float = 5.0
    longest: float = 900.0
    give_up_after: timedelta = timedelta(hours=24)
    keep: timedelta = timedelta(days=30)
    jitter: Callable[[], float] = random.random


def claim(tx: Tx, channel: str, limit: int, timing: Timing) -> list[Delivery]:
    """Takes up to `limit` messages that are due, and counts the attempt before it is made.

    From here on a message may have been seen, so it is not taken back any more. Should the program end before the
    outcome is recorded, it is sent again, with the same id.
    """
    due = [head for head in deliveries.heads(tx, channel) if head.next_at <= tx.now][:limit]
    for head in due:
        pause = delay(head.attempts + 1, timing.first, timing.longest, timing.jitter)
        later = tx.now + timedelta(seconds=pause)
        deliveries.change(tx, head.id, {"attempts": head.attempts + 1, "next_at": later})
    return due


def settle(tx: Tx, delivery: Delivery, outcome: Outcome, timing: Timing) -> str:
    """Records how an attempt went. The word for it: `delivered`, `retry` or `given_up`."""
    match outcome:
        case Delivered(remark):
            deliveries.change(tx, delivery.id, {"delivered_at": tx.now, "error": remark})
            alerts.change(tx, alerts.get(tx, delivery.alert_id), notified_at=tx.now)
            return "delivered"
        case Refused(error):
            give_up(tx, delivery, error)
            return "given_up"
        case Failed(error, retry_after):
            if tx.now - delivery.created_at >= timing.give_up_after:
                give_up(tx, delivery, error)
                return "given_up"
            pause = delay(delivery.attempts + 1, timing.first, timing.longest, timing.jitter)
            later = tx.now + timedelta(seconds=max(pause, retry_after or 0.0))
            deliveries.change(tx, delivery.id, {"next_at": later, "error": error})
            return "retry"
        case _:
            assert_never(outcome)


def give_up(tx: Tx, delivery: Delivery, why: str) -> None:
    """Gives a message up, and adds an event about what it was about."""
    deliveries.change(tx, delivery.id, {"given_up_at": tx.now, "error": why})
    alert = alerts.get(tx, delivery.alert_id)
    message = f"channel {delivery.channel} was not told that {alert.type} is {delivery.event}: {why}"
    events.add(tx, alert.kind, alert.name, reason=FAILED, message=message, type="Warning")


def abandon(tx: Tx, channels: Sequence[str]) -> int:
    """Gives up what is for channels that the settings do not have any more. How many."""
    found = deliveries.orphans(tx, channels)
    for delivery in found:
        give_up(tx, delivery, "the settings have no such channel any more")
    return len(found)
