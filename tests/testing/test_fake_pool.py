"""Played connections: turns, versions of the agent, closing, observers, and what is asked beside an apply."""

from __future__ import annotations

import pytest

from reconciler.errors import (
    NodeBusy,
    NodeLost,
    NodeUnreachable,
)
from reconciler.nodes.answers import UnitState
from reconciler.testing.node import FakeNode
from reconciler.testing.pool import FakeLink, FakePool
from reconciler.testing.simulated import run
from tests.agent.talking import ulid
from tests.testing.scenes import TARGET, Told, begin, hand_over, now, play


def test_units_are_told_while_an_apply_is_followed() -> None:
    async def scene(node: FakeNode, link: FakeLink) -> None:
        node.things["unit:nginx.service"] = {"name": "nginx.service", "active": True, "enabled": True}
        node.unit_states["mariadb.service"] = UnitState("failed", "failed", "exit-code", 3, "MariaDB")
        task = await begin(link, Told())
        found = await link.units(["nginx.service", "mariadb.service", "none.service"])
        assert {name: (state.active, state.load) for name, state in found.items()} == {
            "nginx.service": ("active", "loaded"),
            "mariadb.service": ("failed", "loaded"),
            "none.service": ("inactive", "not-found"),
        }
        assert now() == 0
        await task

    play(scene)


def test_requests_of_one_connection_queue_and_those_of_another_do_not() -> None:
    async def scene(node: FakeNode, link: FakeLink) -> None:
        task = await begin(link, Told())
        async with FakePool({node.address: node}) as pool, pool.node(TARGET) as other:
            assert (await other.hello()).running == ulid(1)
            with pytest.raises(NodeBusy) as caught:
                await other.apply(ulid(2), await hand_over(other), None, 1)
            assert caught.value.deployment == ulid(1)
        assert now() == 0
        await link.hello()
        assert now() == 4
        assert task.done()

    play(scene)


def test_a_closed_connection_ends_the_following_and_not_the_apply() -> None:
    async def scene(node: FakeNode, link: FakeLink) -> None:
        task = await begin(link, Told())
        await link.close()
        with pytest.raises(NodeLost, match="closed here"):
            await task
        with pytest.raises(NodeLost, match="closed here"):
            await link.hello()
        async with FakePool({node.address: node}) as pool, pool.node(TARGET) as other:
            assert (await other.status(ulid(1))).state == "succeeded"

    play(scene)


def test_a_pool_forgets_closes_and_tells_its_observer() -> None:
    heard: list[str] = []

    class Observer:
        def connected(self, server: str, seconds: float) -> None:
            heard.append(f"connected {server}")

        def failed(self, server: str, reason_word: str) -> None:
            heard.append(f"failed {server} {reason_word}")

        def answered(self, op: str, seconds: float) -> None:
            heard.append(f"{op} {seconds:g}")

    async def main() -> None:
        node = FakeNode(TARGET.address)
        node.slow = 2
        pool = FakePool({node.address: node}, observer=Observer())
        async with pool.node(TARGET) as first:
            await first.hello()
        await pool.forget("web1")
        async with pool.node(TARGET) as second:
            assert second is not first
        node.down = True
        with pytest.raises(NodeUnreachable):
            async with pool.node(TARGET):
                pass
        await pool.close()
        with pytest.raises(RuntimeError):
            async with pool.node(TARGET):
                pass

    run(main())
    assert heard == ["connected web1", "hello 2", "connected web1", "failed web1 NodeUnreachable"]


def test_a_node_never_shows_what_it_was_given() -> None:
    async def scene(node: FakeNode, link: FakeLink) -> None:
        await link.send_blob(b"canary-secret")
        assert "canary" not in repr(node) + repr(link) + repr(vars(node)["facts"])

    play(scene)


def test_a_step_that_breaks_the_played_node_itself_is_raised_and_hangs_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    async def scene(node: FakeNode, link: FakeLink) -> None:
        monkeypatch.setattr("reconciler.testing.things.carry_out", broken)
        digest = await hand_over(link)
        with pytest.raises(ZeroDivisionError):
            await link.apply(ulid(1), digest, None, 1)

    play(scene)
