"""One HTTP request to a receiver: bounded in time and size, no redirects, no proxies, no cookies, no secrets in errors."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from reconciler.kit.clock import Clock
from reconciler.kit.secret import Secret
from reconciler.notify.notice import Notice, one_line
from reconciler.notify.outcome import Delivered, Failed, Outcome, Refused
from reconciler.secrets.redact import Redactor

if TYPE_CHECKING:
    import httpx

SECONDS = 15.0
"""How long a receiver may take for one message."""

_BODY = 64 * 1024  # of an answer; the rest is not read
_SAID = 120  # characters of an answer that are told
_LONGEST_PAUSE = 24 * 3600.0


@dataclass(frozen=True)
class Outgoing:
    """A request. Its repr shows neither the address nor the headers, since both may hold secrets."""

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


def open_client() -> httpx.AsyncClient:
    """A client that trusts what the system trusts. It takes nothing from the environment: no proxy, no `.netrc`."""
    from http.cookiejar import CookieJar, DefaultCookiePolicy  # noqa: PLC0415 - the command line does not need it

    import httpx  # noqa: PLC0415 - as above; it is slow to import

    for name in ("httpx", "httpcore"):  # they log whole addresses
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.level, logging.WARNING))
    return httpx.AsyncClient(
        verify=ssl.create_default_context(),
        trust_env=False,
        follow_redirects=False,
        # shorter than `HttpSender`'s own limit: cancelled from outside, httpcore leaves a half-made TLS connection open
        timeout=httpx.Timeout(SECONDS, connect=SECONDS / 3),
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        headers={"User-Agent": "reconciler", "Accept-Encoding": "identity"},
    )


class HttpSender:
    """Sends each notice as one request, which `build` makes."""

    batch = 1
    at_once = 4

    def __init__(
        self,
        client: httpx.AsyncClient,
        clock: Clock,
        build: Callable[[Notice], Outgoing],
        secrets: Sequence[Secret],
        *,
        seconds: float = SECONDS,
    ) -> None:
        self._client = client
        self._clock = clock
        self._build = build
        self._redact = Redactor(secrets)
        self._redact.add(*(part for secret in secrets for part in _address_parts(secret)))
        self._seconds = seconds

    async def send(self, notices: Sequence[Notice]) -> Outcome:
        """Sends one request. Anything but an answer from 200 to 299 is a failure."""
        import httpx  # noqa: PLC0415 - the client is there, so it is loaded already

        request = self._build(notices[0])
        try:
            async with asyncio.timeout(self._seconds):
                return await self._exchange(request)
        except (httpx.ConnectTimeout, httpx.PoolTimeout):
            return Failed("no connection in time")
        except (TimeoutError, httpx.TimeoutException):
            return Failed(f"no answer within {self._seconds:g} s")
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
            detail = one_line(self._redact(str(error)), _SAID)
            return Failed(f"{_what(error)}{': ' + detail if detail else ''}")

    async def _exchange(self, request: Outgoing) -> Outcome:
        async with self._client.stream(
            request.method,
            request.url,
            headers=request.headers,
            content=request.body,
            follow_redirects=False,
        ) as response:
            if 200 <= response.status_code < 300:
                return Delivered()  # its answer does not matter, so it is not waited for
            said = await self._read(response)
            return self._judge(response, said)

    async def _read(self, response: httpx.Response) -> bytes:
        found = b""
        async for chunk in response.aiter_raw():
            found += chunk
            if len(found) >= _BODY:
                break
        return found[:_BODY]

    def _judge(self, response: httpx.Response, said: bytes) -> Outcome:
        status = response.status_code
        text = one_line(self._redact(said.decode("utf-8", "replace")), _SAID)
        detail = f": {text}" if text else ""
        if status == 410:
            return Refused(f"it is gone for good (410){detail}")
        if 300 <= status < 400:
            return Failed(
                f"it answered with a redirect ({status}), which is not followed; set its final address"
            )
        pause = _pause(response, said, self._clock()) if status in (429, 503) else None
        return Failed(f"it answered {status}{detail}", retry_after=pause)


def _address_parts(secret: Secret) -> list[str]:
    # an answer that repeats the path, or the token at its end, repeats the secret
    parts = urlsplit(secret.reveal())
    long_segments = [segment for segment in parts.path.split("/") if len(segment) >= 12]
    return [part for part in (parts.path, parts.query, *long_segments) if len(part) >= 8]


def _what(error: Exception) -> str:
    import httpx  # noqa: PLC0415 - loaded already

    return "cannot connect" if isinstance(error, httpx.ConnectError) else "the connection failed"


def _pause(response: httpx.Response, said: bytes, now: datetime) -> float | None:
    # RFC 9110, 10.2.3: seconds or a date. Older Matrix servers put milliseconds into the answer instead.
    value = response.headers.get("retry-after", "").strip()
    pause: float | None = None
    if value.isascii() and value.isdigit():
        pause = float(value[:9])
    elif value:
        try:
            date = parsedate_to_datetime(value)
            pause = (date - now).total_seconds()
        except (ValueError, TypeError):
            pause = None
    else:
        try:
            pause = float(json.loads(said)["retry_after_ms"]) / 1000
        except (ValueError, TypeError, KeyError, RecursionError):
            pause = None
    return None if pause is None else min(max(pause, 0.0), _LONGEST_PAUSE)
