"""uvicorn's HTTP/1.1 connection with deadlines of our own.

uvicorn ends a connection only when it idles between requests: a peer that sends one byte of a request's head, or never
reads the answer, would hold it forever. Here every connection must make progress: the next request's head, and then
the whole exchange, each within a time; else it is cut.
"""

from __future__ import annotations

import asyncio
import json

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_WITHIN = 10.0
"""Seconds from the connection, or from the last answer, to the end of a request's head."""

EXCHANGE_WITHIN = 30.0
"""Seconds from the end of a request's head until the answer has been handed to the peer."""


class Connection(H11Protocol):
    """One connection of a peer."""

    _watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins to wait for a request."""
        super().connection_made(transport)
        self._expect(HEAD_WITHIN)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the clocks; uvicorn leaves its own running after an error."""
        self._expect(None)
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Reads what has arrived; a request that begins gets its time."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before and not self.cycle.response_complete:
            self._expect(EXCHANGE_WITHIN)

    def on_response_complete(self) -> None:
        """An answer is written; closing too has its time, as the peer may not read it."""
        self._expect(HEAD_WITHIN)
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answers what is not HTTP, in the form of every other fault."""
        body = json.dumps(
            {"error": "this is not HTTP/1.1", "hint": "TLS ends at the proxy in front"}
        ).encode()
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("connection", "close"),
        ]
        try:
            for event in (
                h11.Response(status_code=400, headers=headers),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        except h11.LocalProtocolError:  # an answer was under way already
            self.transport.abort()
        else:
            self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """Says nothing: uvicorn would tell us, at each such request of a stranger, to install a library."""

    def _expect(self, within: float | None) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if within is not None:
            self._watch = self.loop.call_later(within, self.transport.abort)
