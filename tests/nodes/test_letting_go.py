"""Calls that are cancelled and nodes that are closed while the other side is silent, frozen or does not read.

Keepalives are off here (an hour), so nothing but the call itself can end what hangs. `BOUND` is far below every other
time limit in play; it is not a measure of speed.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import NodeLost
from reconciler.nodes.answers import Event
from reconciler.nodes.connection import Connection, Keepalive
from reconciler.nodes.node import Manner, Node
from reconciler.nodes.pool import Pool

from .loopback import Loopback, running, until
from .plays import DEPLOYMENT, DIGEST, PROGRAM, Play, event, hello, ok, outcome

NEVER = Keepalive(3600, 1)
BOUND = 3.0
CLOSE_BOUND = 12.0
"""Two graces for a remote command, one for the connection, and a busy machine."""


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Play]:
    yield Play(tmp_path)
    for pid in running(str(tmp_path)):  # an agent whose sshd was killed while it sleeps
        os.kill(pid, signal.SIGKILL)


def manner(play: Play) -> Manner:
    return Manner(PROGRAM, command=play.command, keepalive=NEVER, first_wait=30, longest_wait=30)


@pytest.fixture
async def pool(play: Play, sshd: Loopback) -> AsyncIterator[Pool]:
    async with Pool(manner=manner(play)) as opened:
        yield opened


@contextmanager
def frozen(sshd: Loopback) -> Iterator[None]:
    """The processes of sshd that serve our connections stand still; killed afterwards."""
    pids = sshd.sessions()
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@asynccontextmanager
async def silence() -> AsyncIterator[int]:
    """A port where connections are accepted and nothing is ever said."""
    over = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        over.set()
        await asyncio.sleep(0)


async def drop(task: asyncio.Task[Any]) -> None:
    """Cancel a task; it ends as cancelled, in time."""
    task.cancel()
    async with asyncio.timeout(BOUND):
        with pytest.raises(asyncio.CancelledError):
            await task


async def use(node: Node, play: Play) -> None:
    """The node answers, over the same connection or another, and answers the right thing."""
    play.then(hello(), [ok({"in_sync": True})])
    async with asyncio.timeout(20):
        assert (await node.check(DIGEST)).in_sync


def apply(node: Node, on_event: Any = None) -> asyncio.Task[Any]:
    return asyncio.create_task(node.apply(DEPLOYMENT, DIGEST, None, 1, on_event, within=600))


async def test_an_apply_that_is_followed(pool: Pool, play: Play, sshd: Loopback) -> None:
    play.then(hello(), [event(1), {"sleep": 600}])
    async with pool.node(sshd.target) as node:
        task = apply(node)
        await until(lambda: "apply" in play.ops())
        await drop(task)
        await use(node, play)
    assert len(sshd.sessions()) == 1
    assert play.ops() == ["hello", "apply", "hello", "check"]


async def test_an_apply_in_the_middle_of_an_event(pool: Pool, play: Play, sshd: Loopback) -> None:
    """What comes after is never taken for the rest of the line."""
    half = '{"id": 2, "event": {"n": 1, "at": "2026-01-31T12:00:00Z", "ty'
    play.then(
        hello(), [{"raw": half}, {"touch": "half"}, {"until": "go"}, {"raw": 'pe": "log"}}\n'}, outcome()]
    )
    async with pool.node(sshd.target) as node:
        task = apply(node)
        await until((play.folder / "half").exists)
        await drop(task)
        (play.folder / "go").touch()
        await use(node, play)


async def test_an_apply_whose_event_is_being_stored(pool: Pool, play: Play, sshd: Loopback) -> None:
    at = asyncio.Event()

    async def store(_: Event) -> None:
        at.set()
        await asyncio.sleep(600)

    play.then(hello(), [event(1), event(2), outcome()])
    async with pool.node(sshd.target) as node:
        task = apply(node, store)
        await at.wait()
        await drop(task)
        await use(node, play)


async def test_an_apply_that_waits_to_connect_again(pool: Pool, play: Play, sshd: Loopback) -> None:
    play.then(hello(), [event(1), {"die": True}]).then([{"die": True}])
    async with pool.node(sshd.target) as node:
        task = apply(node)
        await until((play.folder / "2.started").exists)
        await asyncio.sleep(0.3)
        await drop(task)
        await use(node, play)


async def test_an_apply_that_waits_for_its_turn(pool: Pool, play: Play, sshd: Loopback) -> None:
    """The call before it is not disturbed."""
    play.then(hello(), [{"until": "go"}, ok({"in_sync": True})])
    async with pool.node(sshd.target) as node:
        before = asyncio.create_task(node.check(DIGEST))
        await until(lambda: "check" in play.ops())
        task = apply(node)
        await asyncio.sleep(0.1)
        await drop(task)
        (play.folder / "go").touch()
        assert (await before).in_sync
    assert play.ops() == ["hello", "check"]


async def test_a_call_behind_one_that_is_dropped(pool: Pool, play: Play, sshd: Loopback) -> None:
    """It is answered by the next agent, as if nothing had been."""
    play.then(hello(), [event(1), {"sleep": 600}]).then(hello(), [ok({"in_sync": True})])
    async with pool.node(sshd.target) as node:
        task = apply(node)
        await until(lambda: "apply" in play.ops())
        behind = asyncio.create_task(node.check(DIGEST))
        await asyncio.sleep(0.1)
        await drop(task)
        async with asyncio.timeout(20):
            assert (await behind).in_sync


async def test_a_login_at_a_silent_port(play: Play, sshd: Loopback) -> None:
    async with silence() as port, Pool(manner=manner(play)) as pool:
        target = replace(sshd.target, port=port, connect_timeout=600)

        async def connect() -> None:
            async with pool.node(target):
                pytest.fail("nobody answered")

        task = asyncio.create_task(connect())
        await asyncio.sleep(0.2)
        await drop(task)
        async with asyncio.timeout(BOUND):
            await pool.close()


async def test_an_apply_on_a_frozen_node(play: Play, sshd: Loopback) -> None:
    pool = Pool(manner=manner(play))
    play.then(hello(), [event(1), {"sleep": 600}])
    async with pool.node(sshd.target) as node:
        task = apply(node)
        await until(lambda: "apply" in play.ops())
        with frozen(sshd):
            await drop(task)
            async with asyncio.timeout(CLOSE_BOUND):
                await pool.close()
            assert not node.connected


async def test_a_cancel_to_a_frozen_node(play: Play, sshd: Loopback) -> None:
    """The second conversation cannot be opened there; giving up is not held up either."""
    pool = Pool(manner=manner(play))
    play.then(hello(), [event(1), {"sleep": 600}])
    async with pool.node(sshd.target) as node:
        following = apply(node)
        await until(lambda: "apply" in play.ops())
        with frozen(sshd):
            asking = asyncio.create_task(node.cancel(DEPLOYMENT, 1))
            await asyncio.sleep(0.3)
            await drop(asking)
            assert not following.done()
            async with asyncio.timeout(CLOSE_BOUND):
                await pool.close()
            async with asyncio.timeout(BOUND):
                with pytest.raises(NodeLost):
                    await following


async def test_a_peer_that_stops_reading(play: Play, sshd: Loopback) -> None:
    pool = Pool(manner=manner(play))
    play.then(hello(), [ok({"in_sync": True}), {"deaf": True}])
    async with pool.node(sshd.target) as node:
        await node.check(DIGEST)
        await until((play.folder / "deaf").exists)
        task = asyncio.create_task(node.send_bundle({"x": "y" * 7_000_000}))
        await asyncio.sleep(0.5)
        assert not task.done()
        await drop(task)
        await use(node, play)
        async with asyncio.timeout(CLOSE_BOUND):
            await pool.close()


async def test_a_frozen_node_with_much_on_its_way(play: Play, sshd: Loopback) -> None:
    pool = Pool(manner=manner(play))
    play.then(hello())
    async with pool.node(sshd.target) as node:
        with frozen(sshd):
            task = asyncio.create_task(node.send_bundle({"x": "y" * 7_000_000}))
            await asyncio.sleep(0.3)
            await drop(task)
            async with asyncio.timeout(CLOSE_BOUND):
                await pool.close()


async def test_closing_that_is_cancelled_still_ends_the_connection(play: Play, sshd: Loopback) -> None:
    pool = Pool(manner=manner(play))
    play.then(hello(), [{"sleep": 600}])
    async with pool.node(sshd.target) as node:
        task = apply(node)
        await until(lambda: "apply" in play.ops())
        with frozen(sshd):
            await drop(task)
            closing = asyncio.create_task(pool.close())
            await asyncio.sleep(0.1)
            await drop(closing)
            await asyncio.sleep(0.1)
            assert _established(sshd.port) == 0


def _established(port: int) -> int:
    """Our ends of TCP connections to a port of this machine, established or closing with data left to send."""
    lines = Path("/proc/self/net/tcp").read_text().splitlines()[1:]
    return sum(line.split()[2].endswith(f":{port:04X}") and line.split()[3] in {"01", "04"} for line in lines)


async def test_closing_the_pool_ends_a_followed_apply_and_does_not_connect_again(
    play: Play, sshd: Loopback
) -> None:
    pool = Pool(manner=manner(play))
    play.then(hello(), [event(1), {"sleep": 600}])
    async with pool.node(sshd.target) as node:
        task = apply(node)
        await until(lambda: "apply" in play.ops())
        await pool.close()
        async with asyncio.timeout(BOUND):
            with pytest.raises(NodeLost):
                await task
        with pytest.raises(NodeLost, match="was closed here"):
            await node.hello()
    assert not (play.folder / "2.started").exists()
    await until(lambda: not sshd.sessions())


async def test_a_login_that_ends_after_the_pool_was_closed_leaves_no_connection(
    play: Play, sshd: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Connection.open
    at, go = asyncio.Event(), asyncio.Event()

    async def slow(*words: Any, **more: Any) -> Connection:
        connection = await real(*words, **more)
        at.set()
        await go.wait()
        return connection

    monkeypatch.setattr(Connection, "open", slow)
    pool = Pool(manner=manner(play))

    async def connect() -> None:
        async with pool.node(sshd.target):
            pytest.fail("the pool was closed")

    task = asyncio.create_task(connect())
    await at.wait()
    await pool.close()
    go.set()
    with pytest.raises(NodeLost, match="was closed here"):
        await task
    await until(lambda: not sshd.sessions())


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "sending"])
async def test_keepalive_decides_within_its_bound(play: Play, sshd: Loopback, busy: bool) -> None:
    """Nobody is cancelled here: the keepalive alone ends the call, also while there is something to send."""
    keepalive = Keepalive(0.3, 2)
    assert keepalive.bound == pytest.approx(0.9)
    play.then(hello(), [{"sleep": 600}])
    asked: Awaitable[object]
    async with await Connection.open(sshd.target, keepalive=keepalive) as connection:
        data = b"x" * 30_000_000 if busy else b""
        asked = asyncio.create_task(connection.run("sleep 30", stdin=data, within=600))
        await until(lambda: running("sleep 30"))
        with frozen(sshd):
            async with asyncio.timeout(CLOSE_BOUND):
                with pytest.raises(NodeLost):
                    await asked
            assert connection.closed


@pytest.mark.parametrize("words", [(0, 3), (-1, 3), (15, 0)])
def test_a_keepalive_that_never_decides_is_refused(words: tuple[float, int]) -> None:
    with pytest.raises(ValueError, match="keepalive"):
        Keepalive(*words)
