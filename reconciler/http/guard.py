"""The outermost layer of the application: no fault of ours gets out, and each is in our log once."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reconciler.http import answers
from reconciler.telemetry import logs

log = logs.get("reconciler.http")


class Guard:
    """ASGI middleware that answers 500 in place of any exception."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception:
            log.exception("a request failed", method=scope.get("method"), path=scope.get("path"))
            if not begun:
                answer = answers.fault(500, "internal fault", "the daemon's log says more", closing=True)
                await answer(scope, receive, send)
