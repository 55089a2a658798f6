"""http: a request to the node's own address, in the name of the site. No DNS, no proxy, no redirects, bounded."""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from reconciler.loop.probes.checks import HttpCheck
from reconciler.loop.probes.model import HealthTarget, Verdict, failed, passed

if TYPE_CHECKING:
    import httpx

BODY = 1024 * 1024
"""Bytes of an answer that are read and searched."""

_SHOWN = 100  # characters of what was looked for, or of an address, in a message


async def probe(target: HealthTarget, check: HttpCheck) -> Verdict:
    """Whether the node answers for the site as expected."""
    import httpx  # noqa: PLC0415 - it is slow to import

    if target.domain is None:
        return failed(f"{target.kind}/{target.name} has no domain to ask for")
    connections = _Connections()
    try:
        # httpx limits each read alone, so a server that sends a byte a second would be waited for without end
        async with asyncio.timeout(check.timeout):
            return await _ask(target, target.domain, check, connections)
    except (TimeoutError, httpx.TimeoutException):
        return failed(f"no whole answer within {check.timeout:g} s")
    except httpx.ConnectError as error:
        return failed(f"no connection to {_place(target, check)}: {_reason(error)}")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return failed(f"the answer of {_place(target, check)} broke off: {_reason(error)}")
    finally:
        await connections.close()


class _Connections:
    """Knows what was opened: httpcore forgets to close a connection whose TLS handshake is cancelled."""

    def __init__(self) -> None:
        self._opened: list[Any] = []

    async def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        if event == "connection.connect_tcp.complete":
            self._opened.append(info["return_value"])

    async def close(self) -> None:
        for stream in self._opened:
            await stream.aclose()


async def _ask(target: HealthTarget, domain: str, check: HttpCheck, connections: _Connections) -> Verdict:
    import httpx  # noqa: PLC0415 - loaded already

    url = httpx.URL(f"{check.scheme}://node").copy_with(
        host=target.address,
        port=_port(target, check),
        raw_path=quote(check.path, safe="/?=&%~:@!$'()*+,;[]").encode("ascii"),
    )
    headers = {"Host": domain, "User-Agent": "reconciler", "Accept": "*/*", "Accept-Encoding": "identity"}
    more = {"sni_hostname": domain, "trace": connections}
    async with (
        httpx.AsyncClient(verify=any_certificate(), trust_env=False, timeout=check.timeout) as client,
        client.stream("GET", url, headers=headers, extensions=more, follow_redirects=False) as response,
    ):
        body = await _read(response)
        return _judge(response, body, check)


def _judge(response: httpx.Response, body: bytes, check: HttpCheck) -> Verdict:
    status = response.status_code
    if status not in check.status:
        wanted = " or ".join(str(number) for number in sorted(check.status))
        return failed(f"answered {status}{_target_of_redirect(response)}, expected {wanted}")
    if check.contains is None:
        return passed(f"answered {status}")
    try:
        text = _decoded(response, body)
    except (zlib.error, LookupError):
        return failed(f"answered {status}, but in an encoding that was not asked for")
    looked_for = check.contains if len(check.contains) <= _SHOWN else check.contains[:_SHOWN] + "…"
    if check.contains not in text:
        where = "its first MiB" if len(body) >= BODY else "the answer"
        return failed(f"answered {status}, but {looked_for!r} is not in {where}")
    return passed(f"answered {status} with {looked_for!r}")


async def _read(response: httpx.Response) -> bytes:
    # raw: httpx would unpack a compressed answer to any size
    found = bytearray()
    async for chunk in response.aiter_raw():
        found += chunk
        if len(found) >= BODY:
            break
    return bytes(found[:BODY])


def _decoded(response: httpx.Response, body: bytes) -> str:
    match response.headers.get("content-encoding", "identity").strip().lower():
        case "identity" | "":
            pass
        case "gzip" | "x-gzip" | "deflate":  # some servers send it unasked
            body = zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(body, BODY)
        case _:
            raise LookupError
    try:
        return body.decode(response.charset_encoding or "utf-8", "replace")
    except LookupError:  # a charset that does not exist
        return body.decode("utf-8", "replace")


def _target_of_redirect(response: httpx.Response) -> str:
    location = response.headers.get("location", "")
    if not 300 <= response.status_code < 400 or not location:
        return ""
    try:
        parts = urlsplit(location)
        where = f"{parts.scheme}://{parts.hostname}{parts.path}" if parts.hostname else parts.path
    except ValueError:
        where = "an address that is none"
    return f" (to {''.join(c for c in where if c.isprintable())[:_SHOWN]})"  # without its query, which may hold a token


@cache
def any_certificate() -> ssl.SSLContext:
    """TLS that takes every certificate: whether it is the right one is for the certificate check to say."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _port(target: HealthTarget, check: HttpCheck) -> int:
    return target.https_port if check.scheme == "https" else target.http_port


def _place(target: HealthTarget, check: HttpCheck) -> str:
    address = f"[{target.address}]" if ":" in target.address else target.address
    return f"{address}:{_port(target, check)}"


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())[:_SHOWN]
    return text or type(error).__name__
