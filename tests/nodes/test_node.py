"""A node over the life of its connection: kept, renewed, lost and found, with scripted agents behind a real sshd."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.errors import AgentFault, DeadlinePassed, NodeBusy, NodeLost, NodeUnreachable
from reconciler.nodes import keys
from reconciler.nodes.answers import Event
from reconciler.nodes.connection import Keepalive
from reconciler.nodes.node import Manner
from reconciler.nodes.pool import Pool

from .loopback import Loopback, free_port, until
from .plays import DEPLOYMENT, DIGEST, PROGRAM, Play, event, hello, no, ok, outcome

OLD = "0" * 64


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


class Notes:
    """Collects the numbers of the events it is given."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    async def __call__(self, event: Event) -> None:
        await asyncio.sleep(0)
        self.numbers.append(event.n)


async def test_the_connection_is_kept_between_uses(pool: Pool, play: Play, sshd: Loopback) -> None:
    play.then(hello(), [ok({"in_sync": True})], [ok({"in_sync": True})])
    for _ in range(2):
        async with pool.node(sshd.target) as node:
            assert (await node.check(DIGEST)).in_sync
    assert play.ops() == ["hello", "check", "check"]
    assert len(sshd.sessions()) == 1


async def test_an_agent_of_another_version_is_renewed_through_itself(
    pool: Pool, play: Play, sshd: Loopback
) -> None:
    play.then(hello(OLD), [ok({"agent": PROGRAM.sha256})]).then(hello())
    async with pool.node(sshd.target) as node:
        assert (await node.ready()).agent == PROGRAM.sha256
    assert play.ops() == ["hello", "upgrade", "hello"]


async def test_an_upgrade_that_does_not_take_is_the_agents_fault(
    pool: Pool, play: Play, sshd: Loopback
) -> None:
    play.then(hello(OLD), [ok({"agent": PROGRAM.sha256})]).then(hello(OLD))
    with pytest.raises(AgentFault, match="after an upgrade"):
        async with pool.node(sshd.target):
            pytest.fail("an old agent was accepted")


async def test_an_agent_with_a_running_apply_is_renewed_later(pool: Pool, play: Play, sshd: Loopback) -> None:
    play.then(hello(OLD, running=DEPLOYMENT), hello(OLD), [ok({"agent": PROGRAM.sha256})]).then(
        hello(), [ok({"in_sync": True})]
    )
    async with pool.node(sshd.target) as node:
        assert (await node.ready()).agent == PROGRAM.sha256
        assert (await node.check(DIGEST)).in_sync
    assert play.ops() == ["hello", "hello", "upgrade", "hello", "check"]


async def test_a_kept_connection_that_died_is_opened_again(pool: Pool, play: Play, sshd: Loopback) -> None:
    play.then(hello(), [ok({"in_sync": True}), {"die": True}]).then(hello(), [ok({"in_sync": False})])
    async with pool.node(sshd.target) as node:
        assert (await node.check(DIGEST)).in_sync
        assert not (await node.check(DIGEST)).in_sync


async def test_a_fresh_connection_that_dies_at_once_is_not_tried_for_ever(
    pool: Pool, play: Play, sshd: Loopback
) -> None:
    play.then([{"die": True}])
    with pytest.raises(NodeLost):
        async with pool.node(sshd.target):
            pytest.fail("a dead node was given")
    assert play.ops() == ["hello"]


async def test_an_apply_that_lost_its_connection_is_followed_to_its_end(
    pool: Pool, play: Play, sshd: Loopback
) -> None:
    play.then(hello(), [event(1), event(2), {"die": True}])
    play.then(hello(), [event(3), {"die": True}])
    play.then(hello(), [event(4), outcome()])
    notes = Notes()
    async with pool.node(sshd.target) as node:
        result = await node.apply(DEPLOYMENT, DIGEST, None, 1, notes, within=30)
    assert result.state == "succeeded"
    assert notes.numbers == [1, 2, 3, 4]
    assert [(r["op"], r.get("from")) for r in play.asked() if r["op"] != "hello"] == [
        ("apply", None),
        ("status", 2),
        ("status", 3),
    ]


async def test_events_that_are_told_twice_are_passed_on_once(pool: Pool, play: Play, sshd: Loopback) -> None:
    play.then(hello(), [event(1), event(2), {"die": True}])
    play.then(hello(), [event(1), event(2), event(3), outcome()])
    notes = Notes()
    async with pool.node(sshd.target) as node:
        await node.apply(DEPLOYMENT, DIGEST, None, 1, notes, within=30)
    assert notes.numbers == [1, 2, 3]


async def test_a_missing_event_is_not_passed_over(pool: Pool, play: Play, sshd: Loopback) -> None:
    play.then(hello(), [event(1), event(3), outcome()])
    async with pool.node(sshd.target) as node:
        with pytest.raises(AgentFault, match="event 2 is missing"):
            await node.apply(DEPLOYMENT, DIGEST, None, 1, Notes(), within=30)


async def test_an_apply_that_never_reached_the_node_is_asked_again(
    pool: Pool, play: Play, sshd: Loopback
) -> None:
    play.then(hello(), [{"die": True}])
    play.then(hello(), [no("unknown_deployment")], [event(1), outcome()])
    notes = Notes()
    async with pool.node(sshd.target) as node:
        assert (await node.apply(DEPLOYMENT, DIGEST, None, 1, notes, within=30)).state == "succeeded"
    assert play.ops() == ["hello", "apply", "hello", "status", "apply"]
    assert notes.numbers == [1]


async def test_a_node_busy_with_this_very_deployment_is_followed(
    pool: Pool, play: Play, sshd: Loopback
) -> None:
    play.then(hello(), [no("busy", deployment=DEPLOYMENT)], [event(1), outcome()])
    notes = Notes()
    async with pool.node(sshd.target) as node:
        assert (await node.apply(DEPLOYMENT, DIGEST, None, 1, notes, within=30)).state == "succeeded"
    assert notes.numbers == [1]


async def test_a_node_busy_with_another_deployment_is_left_alone(
    pool: Pool, play: Play, sshd: Loopback
) -> None:
    play.then(hello(), [no("busy", deployment="other")])
    async with pool.node(sshd.target) as node:
        with pytest.raises(NodeBusy):
            await node.apply(DEPLOYMENT, DIGEST, None, 1, within=30)


async def test_an_interrupted_apply_is_told_as_it_is(pool: Pool, play: Play, sshd: Loopback) -> None:
    play.then(hello(), [event(1), {"die": True}]).then(hello(), [outcome("interrupted")])
    async with pool.node(sshd.target) as node:
        assert (await node.apply(DEPLOYMENT, DIGEST, None, 1, within=30)).state == "interrupted"


async def test_status_follows_an_apply_of_before(pool: Pool, play: Play, sshd: Loopback) -> None:
    play.then(hello(), [event(5), {"die": True}]).then(hello(), [event(6), outcome()])
    notes = Notes()
    async with pool.node(sshd.target) as node:
        assert (await node.status(DEPLOYMENT, 4, notes, within=30)).state == "succeeded"
    assert notes.numbers == [5, 6]


async def test_reattaching_ends_with_the_deadline(pool: Pool, play: Play, sshd: Loopback) -> None:
    play.then(hello(), [event(1), {"die": True}])
    for _ in range(60):
        play.then([{"die": True}])
    async with asyncio.timeout(20):
        async with pool.node(sshd.target) as node:
            with pytest.raises((NodeLost, DeadlinePassed)):
                await node.apply(DEPLOYMENT, DIGEST, None, 1, within=2)


async def test_a_changed_target_gets_a_new_connection(pool: Pool, play: Play, sshd: Loopback) -> None:
    play.then(hello()).then(hello())
    async with pool.node(sshd.target) as first:
        pass
    changed = replace(sshd.target, host_keys=(keys.generate().public, sshd.host.public))
    async with pool.node(changed) as second:
        assert second is not first
    assert not first.connected
    await until(lambda: len(sshd.sessions()) == 1)


async def test_an_unreachable_node_says_so_and_may_come_back(pool: Pool, play: Play, sshd: Loopback) -> None:
    gone = replace(sshd.target, port=free_port())
    with pytest.raises(NodeUnreachable):
        async with pool.node(gone):
            pytest.fail("nobody is there")
    play.then(hello())
    async with pool.node(sshd.target) as node:
        assert node.connected


async def test_a_closed_pool_leaves_no_session(play: Play, sshd: Loopback) -> None:
    play.then(hello())
    pool = Pool(manner=Manner(PROGRAM, command=play.command))
    async with pool.node(sshd.target):
        assert len(sshd.sessions()) == 1
    await pool.close()
    await until(lambda: not sshd.sessions())
    with pytest.raises(RuntimeError):
        async with pool.node(sshd.target):
            pytest.fail("the pool is closed")
    await pool.close()


async def test_a_forgotten_server_is_disconnected(pool: Pool, play: Play, sshd: Loopback) -> None:
    play.then(hello())
    async with pool.node(sshd.target):
        pass
    await pool.forget("web1")
    await pool.forget("never seen")
    await until(lambda: not sshd.sessions())


async def test_many_uses_of_one_node_at_once_share_one_connection(
    pool: Pool, play: Play, sshd: Loopback
) -> None:
    play.then(hello(), *([ok({"in_sync": True})] for _ in range(5)))

    async def use() -> bool:
        async with pool.node(sshd.target) as node:
            return (await node.check(DIGEST)).in_sync

    assert await asyncio.gather(*(use() for _ in range(5))) == [True] * 5
    assert play.ops().count("hello") == 1
