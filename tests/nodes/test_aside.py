"""What does not wait for its turn: cancel and units, while another task follows an apply on the same node."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from reconciler.errors import AgentFault, Fenced
from reconciler.nodes.answers import Outcome, UnitState
from reconciler.nodes.connection import Keepalive
from reconciler.nodes.node import Manner, Node
from reconciler.nodes.pool import Pool

from .loopback import Loopback, running, until
from .plays import DEPLOYMENT, DIGEST, PROGRAM, Act, Play, event, hello, no, ok, outcome

UNIT = {"active": "active", "sub": "running", "result": "success", "restarts": 1, "description": "a server"}
STOPPING = [ok({"state": "stopping"}), {"touch": "stopped"}]


@pytest.fixture
def play(tmp_path: Path) -> Play:
    return Play(tmp_path)


@pytest.fixture
async def pool(play: Play, sshd: Loopback) -> AsyncIterator[Pool]:
    manner = Manner(
        PROGRAM, command=play.command, keepalive=Keepalive(1, 2), first_wait=0.05, longest_wait=0.2
    )
    async with Pool(manner=manner) as opened:
        yield opened


def stoppable(play: Play, *aside: list[Act]) -> None:
    """The first agent follows an apply until it is cancelled; the next one answers `aside`."""
    play.then(hello(), [event(1), {"until": "stopped"}, outcome("failed", cancelled=True)], hello())
    play.then(*aside)


async def begin(node: Node, play: Play) -> asyncio.Task[Outcome]:
    task = asyncio.create_task(node.apply(DEPLOYMENT, DIGEST, None, 7, within=60))
    await until(lambda: "apply" in play.ops())
    return task


async def test_an_apply_is_cancelled_while_it_is_followed(pool: Pool, play: Play, sshd: Loopback) -> None:
    stoppable(play, STOPPING)
    async with pool.node(sshd.target) as node:
        task = await begin(node, play)
        assert await node.cancel(DEPLOYMENT, 7) == "stopping"
        assert play.asked()[-1] == {"id": 1, "op": "cancel", "deployment": DEPLOYMENT, "fence": 7}
        result = await task
        assert (result.state, result.cancelled) == ("failed", True)
        assert len(sshd.sessions()) == 1
        await node.hello()
    assert play.ops() == ["hello", "apply", "cancel", "hello"]


async def test_the_agent_that_answered_aside_does_not_stay(pool: Pool, play: Play, sshd: Loopback) -> None:
    stoppable(play, [ok({"units": {"nginx.service": UNIT}})])
    async with pool.node(sshd.target) as node:
        task = await begin(node, play)
        assert (await node.units(["nginx.service"]))["nginx.service"].active == "active"
        await until(lambda: len(running(str(play.folder))) == 1)
        (play.folder / "stopped").touch()
        await task


async def test_without_an_apply_nothing_is_opened(pool: Pool, play: Play, sshd: Loopback) -> None:
    play.then(hello(), [ok({"state": "unknown"})], [ok({"units": {"a.service": {**UNIT, "load": "masked"}}})])
    async with pool.node(sshd.target) as node:
        assert await node.cancel(DEPLOYMENT, 7) == "unknown"
        assert await node.units(["a.service"]) == {
            "a.service": UnitState("active", "running", "success", 1, "a server", "masked")
        }
    assert not (play.folder / "2.started").exists()


async def test_a_dead_connection_does_not_stop_a_cancel(pool: Pool, play: Play, sshd: Loopback) -> None:
    play.then(hello(), [{"die": True}]).then(hello(), [ok({"state": "ended"})])
    async with pool.node(sshd.target) as node:
        assert await node.cancel(DEPLOYMENT, 7) == "ended"
    assert play.ops() == ["hello", "cancel", "hello", "cancel"]


async def test_a_cancel_that_is_refused_leaves_the_apply_alone(
    pool: Pool, play: Play, sshd: Loopback
) -> None:
    stoppable(play, [no("fenced")])
    async with pool.node(sshd.target) as node:
        task = await begin(node, play)
        with pytest.raises(Fenced):
            await node.cancel(DEPLOYMENT, 6)
        assert not task.done()
        (play.folder / "stopped").touch()
        assert (await task).state == "failed"


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"units": []},
        {"units": {"a.service": {**UNIT, "restarts": "1"}}},
        {"units": {"a.service": "active"}},
        {"units": {}},
        {"units": {"a.service": UNIT, "b.service": UNIT}},
    ],
    ids=str,
)
async def test_units_outside_the_protocol_are_the_agents_fault(
    pool: Pool, play: Play, sshd: Loopback, answer: object
) -> None:
    play.then(hello(), [ok(answer)])
    async with pool.node(sshd.target) as node:
        with pytest.raises(AgentFault) as caught:
            await node.units(["a.service"])
    assert caught.value.code == "protocol"


@pytest.mark.parametrize("answer", [{}, {"state": "gone"}, {"state": None}], ids=str)
async def test_a_cancel_outside_the_protocol_is_the_agents_fault(
    pool: Pool, play: Play, sshd: Loopback, answer: object
) -> None:
    play.then(hello(), [ok(answer)])
    async with pool.node(sshd.target) as node:
        with pytest.raises(AgentFault) as caught:
            await node.cancel(DEPLOYMENT, 7)
    assert caught.value.code == "protocol"
