"""The HTTP server inside the daemon's event loop: uvicorn without its signal handlers, its logging and its exits."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator, Sequence

import uvicorn
from starlette.types import ASGIApp

from reconciler.http import sockets as listening
from reconciler.http.connection import Connection
from reconciler.telemetry import logs

END_WITHIN = 5.0
"""Seconds for requests that are under way when the server ends."""

CONNECTIONS = 64
"""At one time; further requests are answered 503. With `body.LIMIT` it bounds the memory that strangers can take."""

log = logs.get("reconciler.http")


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the daemon's: uvicorn would take SIGTERM away from it."""
        yield


async def serve(app: ASGIApp, listen: str, sockets: Sequence[socket.socket] = ()) -> None:
    """Serves `app` until cancelled; then requests under way have `END_WITHIN` seconds to end.

    On `sockets` when there are any (socket activation: bound and listening stream sockets, closed at the end), else on
    `listen`: `host:port` or `unix:/path`. SettingsFault when that address cannot be had.
    """
    given = tuple(listening.Listener(sock) for sock in sockets)
    listeners = given or listening.listen(listen)
    server = _Server(_config(app))
    task = asyncio.create_task(server.serve([listener.sock for listener in listeners]), name="http")
    try:
        for listener in listeners:
            log.info("listening", address=listener.address)
        await asyncio.shield(task)
    finally:
        try:
            await _end(server, task)
        finally:
            for listener in listeners:
                listener.close()


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,  # ours is in place
        access_log=False,
        proxy_headers=False,  # nobody's word on where a request came from is taken
        server_header=False,
        limit_concurrency=CONNECTIONS,
        h11_max_incomplete_event_size=16384,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=int(END_WITHIN) - 1,
    )


async def _end(server: _Server, task: asyncio.Task[None]) -> None:
    """Lets requests end, then cuts what is left; a second cancellation cuts it at once."""
    server.should_exit = True
    try:
        await asyncio.wait({task}, timeout=END_WITHIN)
    finally:
        server.force_exit = True
        for connection in list(server.server_state.connections):
            connection.transport.abort()
        if not task.done():
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({task}, timeout=1.0)
        if task.done() and not task.cancelled():
            task.exception()  # marks it as seen: a fault of serving was raised to the caller already
