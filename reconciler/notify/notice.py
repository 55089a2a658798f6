"""What one message says: read from the outbox, in words for people and as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reconciler.kit.clock import stamp
from reconciler.store.queries.alerts import StoredAlert
from reconciler.store.queries.deliveries import Delivery
from reconciler.store.words import AlertEvent

Event = AlertEvent


@dataclass(frozen=True)
class Notice:
    """One message. `id` stays the same over all attempts; `since` and `resolved` are RFC 3339, `resolved` None: it stands."""

    id: str
    event: Event
    kind: str
    name: str
    type: str
    severity: str
    reason: str
    message: str
    since: str
    resolved: str | None

    @property
    def subject(self) -> str:
        """One line: `[firing] Site/shop is Stalled`."""
        word = {"firing": "firing", "reminder": "still firing", "resolved": "resolved"}[self.event]
        return one_line(f"[{word}] {self.kind}/{self.name}: {self.type}", 200)

    @property
    def since_line(self) -> str:
        """One line about the times."""
        return f"since {self.since}" + (f", resolved {self.resolved}" if self.resolved else "")


def payload(alert: StoredAlert) -> dict[str, Any]:
    """What a delivery keeps of an alert, so that each attempt says the same."""
    return {
        "kind": alert.kind,
        "name": alert.name,
        "type": alert.type,
        "severity": alert.severity,
        "reason": alert.reason,
        "message": alert.message,
        "since": stamp(alert.first_at),
        "resolved": None if alert.resolved_at is None else stamp(alert.resolved_at),
    }


def read(delivery: Delivery) -> Notice:
    """The message of a delivery."""
    return Notice(id=delivery.id, event=delivery.event, **delivery.payload)


def one_line(text: str, length: int) -> str:
    """`text` in one line without control characters, at most `length` characters, the end marked where it was cut."""
    # what is not printable would break a header, a log line or a terminal
    flat = "".join(character if character.isprintable() else " " for character in text)
    return cut(" ".join(flat.split()), length)


def cut(text: str, length: int) -> str:
    """At most `length` characters of `text`, the end marked where it was cut."""
    return text if len(text) <= length else text[: length - 1] + "…"


def as_json(notice: Notice) -> dict[str, Any]:
    """The body of a webhook, in the shape that Standard Webhooks recommends: type, timestamp, data."""
    return {
        "type": f"alert.{notice.event}",
        "timestamp": notice.resolved if notice.event == "resolved" and notice.resolved else notice.since,
        "data": {
            "kind": notice.kind,
            "name": notice.name,
            "type": notice.type,
            "severity": notice.severity,
            "reason": notice.reason,
            "message": notice.message,
            "since": notice.since,
            "resolved": notice.resolved,
        },
    }
