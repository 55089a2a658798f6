"""A daemon for the HTTP layer, and how the forges sign."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from reconciler.http.ports import Health, Readiness
from reconciler.kit.secret import Secret

SECRET = "a secret of the fleet"
SIGNING = "whsec_" + base64.b64encode(b"k" * 32).decode()
NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
COMMIT = "5c2d89b1" * 5


@dataclass
class StandIn:
    """Fulfils `ports.Daemon` and remembers what it was told."""

    secrets: dict[str, str | list[str]] = field(default_factory=lambda: {"main": SECRET, "signed": SIGNING})
    names: tuple[str, ...] = ("main", "signed", "quiet")
    health: Health = field(default_factory=lambda: Health(ok=True))
    readiness: Readiness = field(default_factory=lambda: Readiness(ok=True))
    looks: list[tuple[str, str]] = field(default_factory=list)
    heard: list[tuple[str, str]] = field(default_factory=list)
    fault: Exception | None = None

    def healthy(self) -> Health:
        return self.health

    def ready(self) -> Readiness:
        return self.readiness

    def metrics(self) -> tuple[bytes, str]:
        if self.fault is not None:
            raise self.fault
        return b"reconciler_up 1\n", "text/plain; version=0.0.4; charset=utf-8"

    def fleets(self) -> tuple[str, ...]:
        return self.names

    def branch(self, fleet: str) -> str:
        return "main"

    def webhook_secret(self, fleet: str) -> Secret | list[Secret] | None:
        found = self.secrets.get(fleet)
        if isinstance(found, list):
            return [Secret(text) for text in found]
        return None if found is None else Secret(found)

    def look(self, fleet: str, cause: str) -> None:
        if self.fault is not None:
            raise self.fault
        self.looks.append((fleet, cause))

    def hear(self, forge: str, result: str) -> None:
        self.heard.append((forge, result))


def push(ref: str = "refs/heads/main", **more: object) -> bytes:
    return json.dumps({"ref": ref, "before": "0" * 40, "after": COMMIT, **more}).encode()


def digest(body: bytes, secret: str = SECRET, name: str = "sha256") -> str:
    return hmac.new(secret.encode(), body, getattr(hashlib, name)).hexdigest()


def github(body: bytes, event: str = "push", delivery: str = "d-1", secret: str = SECRET) -> dict[str, str]:
    return {
        "x-hub-signature-256": f"sha256={digest(body, secret)}",
        "x-github-event": event,
        "x-github-delivery": delivery,
        "content-type": "application/json",
    }


def standard(
    body: bytes, message: str = "msg_1", at: datetime = NOW, secret: str = SIGNING
) -> dict[str, str]:
    seconds = str(int(at.timestamp()))
    key = base64.b64decode(secret.removeprefix("whsec_")) if secret.startswith("whsec_") else secret.encode()
    signed = hmac.new(key, f"{message}.{seconds}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": message,
        "webhook-timestamp": seconds,
        "webhook-signature": "v1," + base64.b64encode(signed).decode(),
    }


def without(headers: Mapping[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in names}
