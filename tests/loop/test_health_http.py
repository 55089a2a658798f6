"""http checks, against real servers on loopback."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from reconciler.loop.health import HealthTarget, HttpCheck
from reconciler.loop.probes import http

from .health_servers import answer, certificate, closed_port, silent_port, web


async def test_a_site_that_answers_as_expected_is_healthy() -> None:
    async with web(answer(b"<h1>Welcome</h1>")) as server:
        verdict = await http.probe(server.target(), HttpCheck("/health?full=1", contains="Welcome"))
    assert verdict.ok
    assert verdict.message == "answered 200 with 'Welcome'"
    head = server.requests[0].decode().split("\r\n")
    assert head[0] == "GET /health?full=1 HTTP/1.1"
    assert "host: shop.example.test" in [line.lower() for line in head]


async def test_the_name_is_never_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[object] = []
    real = socket.getaddrinfo

    def noted(host: object, *rest: Any, **more: Any) -> Any:
        looked_up.append(host)
        return real(host, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", noted)
    async with web(answer()) as server:
        assert (await http.probe(server.target(), HttpCheck())).ok
    assert {str(name) for name in looked_up} <= {"127.0.0.1"}


async def test_https_names_the_site_and_takes_its_own_certificate(tmp_path: Path) -> None:
    context = certificate(tmp_path, ["other.example.test"]).server_context()
    named: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: named.append(name)
    async with web(answer(), tls=context) as server:
        verdict = await http.probe(server.target(), HttpCheck(scheme="https"))
    assert verdict.ok, verdict.message
    assert named == ["shop.example.test"]


async def test_a_node_may_have_an_ipv6_address() -> None:
    async with web(answer(), address="::1") as server:
        verdict = await http.probe(server.target(), HttpCheck())
    assert verdict.ok, verdict.message


async def test_another_status_is_a_failure_that_names_both() -> None:
    async with web(answer(status="500 Internal Server Error")) as server:
        verdict = await http.probe(server.target(), HttpCheck(status=frozenset({200, 204})))
    assert not verdict.ok
    assert verdict.message == "answered 500, expected 200 or 204"


async def test_redirects_are_told_without_their_query_and_not_followed() -> None:
    handler = answer(b"", "302 Found", "Location: https://login.example.test/in?token=abc")
    async with web(handler) as server:
        refused = await http.probe(server.target(), HttpCheck())
        listed = await http.probe(server.target(), HttpCheck(status=frozenset({302})))
    assert refused.message == "answered 302 (to https://login.example.test/in), expected 200"
    assert listed.ok
    assert len(server.requests) == 2


@pytest.mark.parametrize("location", ["//[", "\x1b[31m", "http://"])
async def test_a_senseless_redirect_is_only_a_failure(location: str) -> None:
    async with web(answer(b"", "301 Moved", f"Location: {location}")) as server:
        verdict = await http.probe(server.target(), HttpCheck())
    assert not verdict.ok
    assert "\x1b" not in verdict.message


async def test_a_server_that_trickles_is_not_waited_for() -> None:
    async def trickle(_request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    async with web(trickle) as server, asyncio.timeout(20):
        verdict = await http.probe(server.target(), HttpCheck(timeout=0.5))
    assert not verdict.ok
    assert verdict.message == "no whole answer within 0.5 s"


async def test_a_server_that_says_nothing_is_not_waited_for() -> None:
    with silent_port() as port:
        target = HealthTarget("Site", "shop", "web1", "127.0.0.1", "shop.example.test", http_port=port)
        async with asyncio.timeout(20):
            verdict = await http.probe(target, HttpCheck(timeout=0.3))
    assert verdict.message == "no whole answer within 0.3 s"


async def test_a_handshake_that_never_ends_leaves_no_connection_open() -> None:
    # httpcore closes it after its own time-out, but not when it is cancelled from outside
    with silent_port() as port:
        target = HealthTarget("Site", "shop", "web1", "127.0.0.1", "shop.example.test", https_port=port)
        verdict = await http.probe(target, HttpCheck(scheme="https", timeout=0.3))
        await asyncio.sleep(0)
        peers = [
            link for link in Path("/proc/self/net/tcp").read_text().splitlines() if f":{port:04X} " in link
        ]
        ours = [line.split() for line in peers if line.split()[2].endswith(f":{port:04X}")]
        assert verdict.message == "no whole answer within 0.3 s"
        assert all(line[9] == "0" for line in ours), ours  # inode 0: no process holds it


async def test_of_an_endless_answer_one_mebibyte_is_read() -> None:
    async def endless(_request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nneedle")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    async with web(endless) as server, asyncio.timeout(30):
        found = await http.probe(server.target(), HttpCheck(contains="needle", timeout=20))
        missing = await http.probe(server.target(), HttpCheck(contains="thread", timeout=20))
    assert found.ok, found.message
    assert missing.message == "answered 200, but 'thread' is not in its first MiB"


async def test_a_compressed_answer_is_unpacked_within_limits() -> None:
    body = gzip.compress(b"needle" + b"\0" * 64 * http.BODY + b"thread")
    assert len(body) < http.BODY
    async with web(answer(body, "200 OK", "Content-Encoding: gzip")) as server:
        found = await http.probe(server.target(), HttpCheck(contains="needle"))
        missing = await http.probe(server.target(), HttpCheck(contains="thread"))
    assert found.ok, found.message
    assert not missing.ok


@pytest.mark.parametrize("encoding", ["gzip", "br"])
async def test_an_answer_that_cannot_be_unpacked_is_a_failure(encoding: str) -> None:
    async with web(answer(b"needle", "200 OK", f"Content-Encoding: {encoding}")) as server:
        verdict = await http.probe(server.target(), HttpCheck(contains="needle"))
    assert verdict.message == "answered 200, but in an encoding that was not asked for"


@pytest.mark.parametrize(
    ("charset", "body"), [("iso-8859-1", "Größe".encode("latin-1")), ("utf-8", "Größe".encode()), ("no-such", "Größe".encode())]
)  # fmt: skip
async def test_text_is_looked_for_in_the_charset_of_the_answer(charset: str, body: bytes) -> None:
    async with web(answer(body, "200 OK", f"Content-Type: text/html; charset={charset}")) as server:
        verdict = await http.probe(server.target(), HttpCheck(contains="Größe"))
    assert verdict.ok, verdict.message


async def test_a_port_without_a_server_is_told_with_its_address() -> None:
    port = closed_port()
    target = HealthTarget("Site", "shop", "web1", "127.0.0.1", "shop.example.test", http_port=port)
    verdict = await http.probe(target, HttpCheck())
    assert not verdict.ok
    assert verdict.message.startswith(f"no connection to 127.0.0.1:{port}")


async def test_an_answer_that_breaks_off_is_a_failure() -> None:
    async def broken(_request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()

    async with web(broken) as server:
        verdict = await http.probe(server.target(), HttpCheck())
    assert not verdict.ok
    assert "broke off" in verdict.message


async def test_what_is_not_http_is_a_failure() -> None:
    async def ssh(_request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        await writer.drain()

    async with web(ssh) as server:
        assert not (await http.probe(server.target(), HttpCheck())).ok
        tls = await http.probe(server.target(), HttpCheck(scheme="https", timeout=1))
    assert not tls.ok


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    async with web(answer()) as server:
        verdict = await http.probe(server.target(), HttpCheck())
    assert verdict.ok, verdict.message


async def test_a_server_has_no_site_to_ask_for() -> None:
    verdict = await http.probe(HealthTarget("Server", "web1", "web1", "127.0.0.1"), HttpCheck())
    assert verdict.message == "Server/web1 has no domain to ask for"


def test_probing_tls_judges_nothing() -> None:
    assert http.any_certificate().verify_mode is ssl.CERT_NONE
