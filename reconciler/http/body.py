"""Reading a request's body within a limit of bytes and of time. uvicorn has neither."""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect, Request

LIMIT = 1024 * 1024
"""Bytes of a body. A push of hundreds of commits stays below it."""

WITHIN = 10.0
"""Seconds until all of it is there."""

_DISCARDED = 8 * LIMIT  # read on so far: a sender that is still sending would not see our answer


class TooLarge(Exception):
    """The body has more than `LIMIT` bytes."""


class TooSlow(Exception):
    """The body, or the connection it came on, ended or stood still before all of it was there."""


async def read(request: Request, *, limit: int = LIMIT, within: float = WITHIN) -> bytes:
    """The body as it was sent. What counts is what arrives, whatever Content-Length says. TooLarge, TooSlow."""
    if request.headers.get("expect", "").lower() == "100-continue" and _announced(request) > limit:
        raise TooLarge  # the sender waits for our word before it sends anything
    body = bytearray()
    arrived = 0
    try:
        async with asyncio.timeout(within):
            async for chunk in request.stream():
                arrived += len(chunk)
                if arrived > _DISCARDED:
                    break
                if arrived <= limit:
                    body += chunk
    except (TimeoutError, ClientDisconnect):
        raise (TooLarge if arrived > limit else TooSlow) from None
    if arrived > limit:
        raise TooLarge
    return bytes(body)


def _announced(request: Request) -> int:
    given = request.headers.get("content-length", "")
    return int(given) if given.isascii() and given.isdigit() and len(given) < 19 else 0
