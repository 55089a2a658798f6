"""Answers as JSON: a fault is `{"error": what, "hint": what to do}` and tells nothing of the inside."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import JSONResponse

HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
CLOSING = {"connection": "close"}
"""For an answer that comes before the request was read to its end: what is left of that is not a next request."""


def said(value: Mapping[str, object], status: int = 200) -> JSONResponse:
    """An answer that is no fault."""
    return JSONResponse(dict(value), status, headers=HEADERS)


def fault(
    status: int,
    error: str,
    hint: str = "",
    *,
    more: Mapping[str, object] | None = None,
    closing: bool = False,
) -> JSONResponse:
    """An answer that is a fault. `closing` ends the connection after it."""
    body = {"error": error, "hint": hint, **(more or {})}
    return JSONResponse(body, status, headers={**HEADERS, **(CLOSING if closing else {})})
