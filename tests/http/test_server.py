"""The server on real sockets: where it listens, how it ends, and what a peer that dawdles gets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from reconciler.errors import SettingsFault
from reconciler.http import body, connection, server, sockets
from reconciler.http.app import build
from tests.http.daemon import StandIn, github, push

LOCAL = "127.0.0.1:0"


@contextlib.asynccontextmanager
async def serving(
    app: ASGIApp | None = None, listen: str = LOCAL
) -> AsyncIterator[tuple[asyncio.Task[None], str]]:
    """A running server and its address, on a socket that is handed in as socket activation does."""
    (listener,) = sockets.listen(listen)
    task = asyncio.create_task(server.serve(app or build(StandIn()), "", (listener.sock,)))
    try:
        yield task, listener.address
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def dial(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if address.startswith("unix:"):
        return await asyncio.open_unix_connection(address.removeprefix("unix:"))
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host.strip("[]"), int(port))


async def spoken(address: str, words: bytes, within: float = 10) -> bytes:
    """Everything that the server answers to `words` until it ends the connection."""
    reader, writer = await dial(address)
    try:
        writer.write(words)
        async with asyncio.timeout(within):
            return await reader.read()
    finally:
        writer.close()


def fault(answer: bytes) -> dict[str, str]:
    value: dict[str, str] = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert set(value) == {"error", "hint"}
    return value


async def get(address: str, path: str = "/healthz") -> int:
    answer = await spoken(address, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    return int(answer.split(b" ")[1])


async def until(address: str) -> None:
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(OSError):
                await get(address)
                return
            await asyncio.sleep(0.02)


async def test_it_answers_on_a_port_and_on_a_unix_socket(tmp_path: Path) -> None:
    for listen in (LOCAL, f"unix:{tmp_path / 'http.sock'}"):
        async with serving(listen=listen) as (_, address):
            assert await get(address) == 200
            assert await get(address, "/nothing") == 404


async def test_it_binds_what_the_settings_say_and_takes_its_socket_away_again(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    for _ in range(2):
        task = asyncio.create_task(server.serve(build(StandIn()), f"unix:{path}"))
        await until(f"unix:{path}")
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not path.exists()


async def test_a_port_that_is_taken_is_a_fault_that_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsFault, match=f"127.0.0.1:{port}.*in use") as told:
            await server.serve(build(StandIn()), f"127.0.0.1:{port}")
        assert "running already" in told.value.hint


def test_addresses_are_read_as_they_are_written() -> None:
    for listen, form in (("127.0.0.1:0", "127.0.0.1:"), ("[::1]:0", "[::1]:"), ("localhost:0", "")):
        try:
            listeners = sockets.listen(listen)
        except SettingsFault:  # a machine without IPv6
            assert listen == "[::1]:0"
            continue
        assert listeners[0].address.startswith(form)
        for listener in listeners:
            listener.close()
    for wrong in (
        "8420",
        "127.0.0.1",
        "127.0.0.1:http",
        "::1:80",
        "127.0.0.1:99999",
        "",
        ":",
        "unix:relative",
        "x:²",
    ):
        with pytest.raises(SettingsFault):
            sockets.listen(wrong)
    with pytest.raises(SettingsFault, match=r"192\.0\.2\.1:0: Cannot assign"):
        sockets.listen("192.0.2.1:0")


def test_only_a_socket_that_nobody_listens_on_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    (first,) = sockets.listen(f"unix:{path}")
    with pytest.raises(SettingsFault, match="another process"):
        sockets.listen(f"unix:{path}")
    first.sock.close()  # as a killed process leaves it
    assert path.exists()
    (second,) = sockets.listen(f"unix:{path}")
    first.close()
    assert path.exists(), "the file of the next one was removed"
    second.close()
    assert not path.exists()
    path.write_text("precious")
    with pytest.raises(SettingsFault, match="no socket"):
        sockets.listen(f"unix:{path}")
    assert path.read_text() == "precious"
    with pytest.raises(SettingsFault, match="too long"):
        sockets.listen(f"unix:{tmp_path}/{'x' * 200}")
    with pytest.raises(SettingsFault, match="No such file"):
        sockets.listen(f"unix:{tmp_path}/missing/http.sock")


def test_a_unix_socket_has_its_mode_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        for mask in (0o000, 0o077):
            os.umask(mask)
            (listener,) = sockets.listen(f"unix:{tmp_path / 'http.sock'}")
            assert stat.S_IMODE((tmp_path / "http.sock").stat().st_mode) == 0o660
            listener.close()
    finally:
        os.umask(before)


async def test_signals_stay_with_the_daemon() -> None:
    heard = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, heard.set)
    try:
        async with serving() as (task, address):
            assert await get(address) == 200
            os.kill(os.getpid(), signal.SIGTERM)
            async with asyncio.timeout(5):
                await heard.wait()
            assert await get(address) == 200
            assert not task.done()
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


async def test_it_ends_with_connections_that_are_kept_open() -> None:
    async with serving() as (task, address):
        kept = []
        for words in (b"", b"GET /healthz HT", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"):
            reader, writer = await dial(address)
            writer.write(words)
            kept.append((reader, writer))
        assert (await kept[-1][0].readline()).startswith(b"HTTP/1.1 200")
        task.cancel()
        async with asyncio.timeout(server.END_WITHIN + 5):
            with pytest.raises(asyncio.CancelledError):
                await task
            for reader, writer in kept:
                await reader.read()
                writer.close()
        with pytest.raises(OSError, match=r"refused|Connect call failed"):
            await dial(address)


async def test_a_request_that_is_under_way_is_answered_before_the_end() -> None:
    begun = asyncio.Event()
    finish = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await finish.wait()
        await build(StandIn())(scope, receive, send)

    async with serving(app) as (task, address):
        asking = asyncio.create_task(get(address))
        await begun.wait()
        task.cancel()
        asyncio.get_running_loop().call_later(0.3, finish.set)
        assert await asking == 200


async def test_a_request_that_never_ends_does_not_hold_the_end_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "END_WITHIN", 2.0)
    begun = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.05)
                if ended.is_set():
                    return

    ended = asyncio.Event()
    async with serving(app) as (task, address):
        reader, writer = await dial(address)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await begun.wait()
        task.cancel()
        async with asyncio.timeout(10):
            with pytest.raises(asyncio.CancelledError):
                await task
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        writer.close()
        ended.set()
        await asyncio.sleep(0.2)


async def test_a_second_cancellation_ends_it_at_once() -> None:
    begun = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with serving(app) as (task, address):
        _, writer = await dial(address)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await begun.wait()
        task.cancel()
        await asyncio.sleep(0.05)
        task.cancel()
        async with asyncio.timeout(3):
            with pytest.raises(asyncio.CancelledError):
                await task
        writer.close()


async def test_a_head_that_does_not_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_WITHIN", 0.3)
    async with serving() as (_, address):
        reader, writer = await dial(address)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        async with asyncio.timeout(
            10
        ):  # one byte now and then, on a connection that was used and on a new one
            assert await drip(reader, writer)
            assert await drip(*await dial(address))
        assert await get(address) == 200


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Sends a byte of a head every moment until the server ends the connection."""
    ended = asyncio.create_task(reader.read())
    with contextlib.suppress(OSError):
        while not ended.done():
            writer.write(b"G")
            await asyncio.sleep(0.05)
    writer.close()
    with contextlib.suppress(OSError):
        await ended
    return True


async def test_a_body_that_does_not_come_is_answered_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body.read, "__kwdefaults__", {"limit": body.LIMIT, "within": 0.3})
    daemon = StandIn()
    async with serving(build(daemon)) as (_, address):
        head = f"POST /api/webhooks/github/main HTTP/1.1\r\nHost: x\r\nContent-Length: {len(push()) + 1}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in github(push()).items())
        answer = await spoken(address, head.encode() + b"\r\n" + push())
    assert answer.startswith(b"HTTP/1.1 408")
    assert "in time" in fault(answer)["error"]
    assert daemon.looks == []


async def test_an_answer_that_is_not_read_does_not_hold_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "EXCHANGE_WITHIN", 0.5)
    ended = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(1000):  # far more than the buffers between us take
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        ended.set()

    async with serving(app) as (_, address):
        _, writer = await dial(address)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(10):
            await ended.wait()
        writer.close()


async def test_what_is_not_http_is_told_so_in_json() -> None:
    async with serving() as (_, address):
        for words in (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
            b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        ):
            answer = await spoken(address, words)
            assert answer.startswith(b"HTTP/1.1 400")
            assert "not HTTP" in fault(answer)["error"]
        answer = await spoken(address, b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 40_000)
        assert answer.startswith(b"HTTP/1.1 400")


async def test_strangers_cannot_make_us_log_that_a_library_is_missing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    head = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: upgrade, close\r\nUpgrade: websocket\r\n\r\n"
    async with serving() as (_, address):
        assert (await spoken(address, head)).startswith(b"HTTP/1.1 200")
    assert "pip install" not in caplog.text
    assert "upgrade" not in caplog.text


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_sender_of_too_much_reads_the_answer(chunked: bool) -> None:
    daemon = StandIn()

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 65536

    async with serving(build(daemon)) as (_, address), httpx.AsyncClient(trust_env=False) as client:
        content = pieces() if chunked else b"x" * 40 * 65536
        answer = await client.post(
            f"http://{address}/api/webhooks/github/main", content=content, headers=github(b"")
        )
        assert answer.status_code == 413


async def test_a_sender_that_does_not_stop_is_stopped() -> None:
    async with serving() as (_, address):
        _, writer = await dial(address)
        writer.write(
            b"POST /api/webhooks/github/main HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        sent = 0
        with contextlib.suppress(OSError):
            async with asyncio.timeout(30):
                while sent < 64 * body.LIMIT:
                    writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                    await writer.drain()
                    sent += 65536
        assert sent < 32 * body.LIMIT
        writer.close()


async def test_a_length_that_lies_gets_nothing_through() -> None:
    daemon = StandIn()
    signed = "".join(f"{name}: {value}\r\n" for name, value in github(push()).items())
    async with serving(build(daemon)) as (_, address):
        for length in (str(len(push()) - 1), "-1", "0x10", str(2**70)):
            head = f"POST /api/webhooks/github/main HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n"
            head += "Expect: 100-continue\r\nConnection: close\r\n" + signed + "\r\n"
            answer = await spoken(address, head.encode() + push())
            assert b" 202 " not in answer
    assert daemon.looks == []


async def test_strangers_cannot_take_more_than_a_number_of_connections() -> None:
    async with serving() as (_, address):
        kept = [await dial(address) for _ in range(server.CONNECTIONS + 3)]
        answer = await spoken(address, b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 503")
        for _, writer in kept:
            writer.close()
        await asyncio.sleep(0.2)
        assert await get(address) == 200
