"""Who is told in tests: an HTTP server that answers as asked, a clock, and alerts to tell of."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import httpx

from reconciler.kit.secret import Secret
from reconciler.notify import Alert, AlertType, Notifier, WebhookChannel
from reconciler.store import Store
from reconciler.store.words import AlertSeverity

KEY = b"k" * 32
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Time:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def forward(self, *, seconds: float = 0, minutes: float = 0, hours: float = 0) -> None:
        self.now += timedelta(seconds=seconds, minutes=minutes, hours=hours)


@dataclass(frozen=True)
class Request:
    """What came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Receiver:
    """An HTTP server on loopback. `answers` are used up first (raw bytes; None: never answers), then it says 204."""

    tls: ssl.SSLContext | None = None
    requests: list[Request] = field(default_factory=list)
    answers: deque[bytes | None] = field(default_factory=deque)
    port: int = 0

    async def __aenter__(self) -> Self:
        self._writers: set[asyncio.StreamWriter] = set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()
        await asyncio.sleep(0)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def events(self) -> list[str]:
        """What the webhooks were about: `firing Site/shop`."""
        found = [request.json() for request in self.requests]
        return [
            f"{one['type'].removeprefix('alert.')} {one['data']['kind']}/{one['data']['name']}"
            for one in found
        ]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, path, _ = head[0].split(" ")
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in head[1:] if line)
            }
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            self.requests.append(Request(method, path, headers, body))
            answer = self.answers.popleft() if self.answers else reply(204)
            if answer is None:
                await asyncio.Event().wait()
            else:
                writer.write(answer)
                await writer.drain()
        writer.close()


def reply(status: int, body: bytes = b"", *headers: str) -> bytes:
    """An answer."""
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def stalled(name: str = "shop", message: str = "it failed three times") -> Alert:
    return alert(name, "Stalled", message=message)


def alert(
    name: str, about: AlertType, *, severity: AlertSeverity = "error", message: str = "it is broken"
) -> Alert:
    return Alert("Site", name, about, severity, "NeedsAttention", message)


def hook(receiver: Receiver, name: str = "ops", **more: Any) -> WebhookChannel:
    return WebhookChannel(name, Secret(f"{receiver.url}/hook"), **more)


def quick_client() -> httpx.AsyncClient:
    """A client for plain HTTP; that of `posting` reads the system's certificates each time."""
    return httpx.AsyncClient(trust_env=False, verify=False)


async def see(store: Store, notifier: Notifier, *firing: Alert) -> None:
    """Exactly these alerts are firing now."""
    await store.awrite(lambda tx: notifier.observe(tx, firing))
