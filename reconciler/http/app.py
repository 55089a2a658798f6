"""The FastAPI application: health, metrics, webhooks. docs/http.md describes it for who calls it."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from reconciler.http import answers
from reconciler.http.guard import Guard
from reconciler.http.ports import Daemon
from reconciler.http.webhooks import Heard, Webhooks
from reconciler.kit.clock import Clock, utc_now


def build(daemon: Daemon, *, clock: Clock = utc_now, heard: Heard | None = None) -> FastAPI:
    """The application for `daemon`. `heard(forge, result)` is told of every webhook, for the metrics."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.add_middleware(Guard)
    app.add_exception_handler(HTTPException, _refused)
    hooks = Webhooks(daemon, clock, heard or (lambda _forge, _result: None))
    app.add_api_route("/api/webhooks/{forge}/{fleet}", hooks.receive, methods=["POST"])

    async def healthz() -> Response:
        health = daemon.healthy()
        if health.ok:
            return answers.said({"status": "ok"})
        return answers.fault(503, health.detail or "the loop does not answer", "see the daemon's log")

    async def readyz() -> Response:
        state = daemon.ready()
        if state.ok:
            return answers.said({"status": "ready"})
        return answers.fault(
            503, "not ready", "it says so itself when it is", more={"reasons": state.reasons}
        )

    async def metrics() -> Response:
        content, kind = daemon.metrics()
        return Response(content, headers={**answers.HEADERS, "content-type": kind})

    for path, answer in (("/healthz", healthz), ("/readyz", readyz), ("/metrics", metrics)):
        app.add_api_route(path, answer, methods=["GET", "HEAD"])
    return app


async def _refused(request: Request, why: Exception) -> Response:
    status = why.status_code if isinstance(why, HTTPException) else 500
    words = {
        404: ("there is nothing at this address", "see docs/http.md for what there is"),
        405: (f"{request.method} is not answered here", "see the Allow header"),
    }
    error, hint = words.get(status, ("the request cannot be answered", ""))
    answer = answers.fault(status, error, hint, closing=True)
    if isinstance(why, HTTPException) and why.headers:
        answer.headers.update(why.headers)
    return answer
