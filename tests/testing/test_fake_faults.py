"""What goes wrong between a program and a node, played: the faults that `Node` raises, after the time that they take."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from reconciler.errors import (
    AccessDenied,
    AgentFault,
    DeadlinePassed,
    HostKeyMismatch,
    NodeFault,
    NodeLost,
    NodeUnreachable,
    NotEnrolled,
)
from reconciler.nodes.answers import Outcome
from reconciler.testing.builders import HOST_KEY
from reconciler.testing.machine import AGENT
from reconciler.testing.node import FakeNode
from reconciler.testing.pool import FakeLink, FakePool
from reconciler.testing.simulated import run
from tests.agent.building import bundle, file, section, unit
from tests.agent.talking import ulid
from tests.testing.scenes import BODY, TARGET, Told, begin, hand_over, now, play


def test_an_apply_takes_its_time_and_tells_every_event_once() -> None:
    async def scene(node: FakeNode, link: FakeLink) -> None:
        told = Told()
        outcome = await (await begin(link, told))
        assert (outcome.state, now(), told.complete()) == ("succeeded", 4.0, True)
        assert node.body("/etc/panel/one.conf") == BODY
        assert node.running == ""

    play(scene)


def test_an_apply_goes_on_when_its_follower_goes_away() -> None:
    async def scene(node: FakeNode, link: FakeLink) -> None:
        task = await begin(link, Told())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert node.running == ulid(1)
        told = Told()
        outcome = await link.status(ulid(1), 2, told)
        assert (outcome.state, now()) == ("succeeded", 4.0)
        assert told.events[0].n == 3

    play(scene)


def test_an_apply_goes_on_when_the_program_ends() -> None:
    node = FakeNode(TARGET.address)
    node.step_seconds = 60.0

    async def first() -> None:
        async with FakePool({node.address: node}) as pool, pool.node(TARGET) as link:
            await begin(link, Told())

    async def second() -> Outcome:
        async with FakePool({node.address: node}) as pool, pool.node(TARGET) as link:
            return await link.status(ulid(1))

    run(first())
    assert run(second()).state == "succeeded"
    assert run(first_hello(node)) == ""


async def first_hello(node: FakeNode) -> str:
    return (await node.hello()).running


@pytest.mark.parametrize("after", [0, 1, 5, 9])
def test_a_cut_connection_is_made_again_and_no_event_is_told_twice(after: int) -> None:
    async def scene(node: FakeNode, link: FakeLink) -> None:
        node.drop_after = after
        told = Told()
        outcome = await (await begin(link, told))
        assert outcome.state == "succeeded"
        assert told.complete()
        assert node.applied == 1
        assert node.links == 1

    play(scene)


def test_a_node_that_is_gone_for_a_while_is_waited_for() -> None:
    async def scene(node: FakeNode, link: FakeLink) -> None:
        told = Told()
        task = await begin(link, told)
        node.down = True
        await asyncio.sleep(100)
        assert not task.done()
        assert node.running == "", "the node itself went on"
        node.down = False
        assert (await task).state == "succeeded"
        assert told.complete()
        assert 100 <= now() <= 130

    play(scene)


def test_a_node_that_stays_away_is_given_up_in_time() -> None:
    async def scene(node: FakeNode, link: FakeLink) -> None:
        task = await begin(link, Told(), within=300)
        node.down = True
        with pytest.raises(NodeLost, match="was not seen in time; last: cannot connect"):
            await task
        assert now() == 300
        with pytest.raises(NodeUnreachable):
            await link.check("0" * 64)

    play(scene)


def test_a_power_cut_is_an_interrupted_apply_and_another_boot() -> None:
    async def scene(node: FakeNode, link: FakeLink) -> None:
        before = (await link.hello()).facts
        node.boot_seconds = 40
        told = Told()
        task = await begin(link, told)
        await asyncio.sleep(1.5)
        node.power_cut()
        assert node.running == ""
        outcome = await task
        assert now() >= 41.5
        assert (outcome.state, outcome.doubt) == ("interrupted", "file:/etc/panel/one.conf")
        assert set(node.things) == {"directory:/etc/panel/fpm"}
        after = (await link.hello()).facts
        assert after.boot_id != before.boot_id
        assert after.machine_id == before.machine_id
        digest = await hand_over(link)
        assert (await link.apply(ulid(2), digest, None, 2)).state == "succeeded"
        assert (await link.check(digest)).in_sync

    play(scene)


@pytest.mark.parametrize("steps", range(5))
def test_the_power_goes_after_any_step_and_the_next_apply_comes_right(steps: int) -> None:
    async def scene(node: FakeNode, link: FakeLink) -> None:
        node.cut_after = steps
        outcome = await (await begin(link, Told())) if steps else await first(link)
        assert outcome.state == "interrupted"
        digest = await hand_over(link)
        assert (await link.apply(ulid(2), digest, None, 1)).state == "succeeded"
        assert (await link.check(digest)).in_sync
        assert (await link.status(ulid(1))).state == "interrupted"

    async def first(link: FakeLink) -> Outcome:
        return await link.apply(ulid(1), await hand_over(link), None, 1)

    play(scene)


def test_a_frozen_machine_is_noticed_and_goes_on_where_it_stood() -> None:
    async def scene(node: FakeNode, link: FakeLink) -> None:
        task = await begin(link, Told())
        node.frozen = True
        await asyncio.sleep(500)
        assert not task.done()
        assert node.running == ulid(1), "its time stands still, too"
        with pytest.raises(NodeUnreachable, match="did not complete a login"):
            await node.hello()
        node.frozen = False
        assert (await task).state == "succeeded"

    play(scene)


def test_a_silent_agent_runs_into_the_deadline_of_each_request() -> None:
    async def scene(node: FakeNode, link: FakeLink) -> None:
        node.silent = True
        for ask, seconds in ((link.hello, 20), (lambda: link.check("0" * 64), 120)):
            began = now()
            with pytest.raises(DeadlinePassed):
                await ask()
            assert now() - began == seconds

    play(scene)


def test_a_slow_node_answers_late_but_it_answers() -> None:
    async def scene(node: FakeNode, link: FakeLink) -> None:
        node.slow = 15
        await link.hello()
        assert now() == 15
        node.slow = 25
        with pytest.raises(DeadlinePassed):
            await link.hello()
        assert not (await link.check("0" * 64)).known

    play(scene)


FAULTS: list[tuple[str, object, type[NodeFault]]] = [
    ("down", True, NodeUnreachable),
    ("denied", True, AccessDenied),
    ("enrolled", False, NotEnrolled),
    ("garbage", True, AgentFault),
    ("host_key", "ssh-ed25519 another", HostKeyMismatch),
]


@pytest.mark.parametrize(("name", "value", "fault"), FAULTS, ids=[name for name, _, _ in FAULTS])
def test_a_node_that_cannot_be_used_says_why_and_is_named(
    name: str, value: object, fault: type[NodeFault]
) -> None:
    node = FakeNode(TARGET.address)
    setattr(node, name, value)

    async def main() -> None:
        async with FakePool({node.address: node}) as pool:
            for _ in range(2):
                with pytest.raises(fault) as caught:
                    async with pool.node(TARGET):
                        pass
                assert type(caught.value) is fault
                assert caught.value.server == "web1"

    run(main())


def test_a_machine_that_was_set_up_anew_shows_another_key_and_is_empty() -> None:
    async def scene(node: FakeNode, link: FakeLink) -> None:
        await (await begin(link, Told()))
        node.reinstall("ssh-ed25519 another")
        with pytest.raises(HostKeyMismatch):
            await link.hello()
        node.host_key = HOST_KEY
        with pytest.raises(NotEnrolled):
            await link.hello()
        node.enrolled = True
        hello = await link.hello()
        assert (hello.bundle, hello.fence, hello.facts.machine_id) == ("", 0, "machine-2")
        assert node.things == {}

    play(scene)


def test_an_agent_of_another_version_is_renewed_unless_it_is_at_work() -> None:
    async def scene(node: FakeNode, link: FakeLink) -> None:
        task = await begin(link, Told())
        async with FakePool({node.address: node}, agent="a" * 64) as newer:
            async with newer.node(TARGET) as other:
                assert (await other.ready()).agent == AGENT
            await task
            node.drop()
            async with newer.node(TARGET) as other:
                assert (await other.ready()).agent == "a" * 64
        assert node.upgrades == 1

    play(scene)


def test_a_full_disk_refuses_bundles_and_fails_steps_that_are_put_back() -> None:
    async def scene(node: FakeNode, link: FakeLink) -> None:
        digest = await hand_over(link)
        task = asyncio.create_task(link.apply(ulid(1), digest, None, 1))
        await asyncio.sleep(1.5)
        node.disk_full = True
        outcome = await task
        assert outcome.sections["Server/web1"].message == (
            "cannot write /etc/panel/one.conf: no space left on the file system"
        )
        assert outcome.sections["Site/shop"].state == "skipped"
        assert node.things == {}
        with pytest.raises(AgentFault, match="no space left"):
            await link.send_bundle(bundle())
        with pytest.raises(AgentFault, match="cannot write the journal"):
            await link.apply(ulid(2), digest, [], 1)
        node.disk_full = False
        assert (await link.apply(ulid(2), digest, [], 1)).state == "succeeded"

    play(scene)


def test_a_lock_of_the_package_manager_is_waited_for_and_named() -> None:
    step = {"type": "package", "key": "package:nginx", "name": "nginx", "state": "present"}
    wanted = bundle(section("Server/web1", step))

    async def scene(node: FakeNode, link: FakeLink) -> None:
        node.trouble.locked = "apt-get (process 4711)"
        digest = await link.send_bundle(wanted)
        outcome = await link.apply(ulid(1), digest, None, 1)
        assert "locked by apt-get (process 4711)" in outcome.sections["Server/web1"].message
        assert 180 <= now() <= 184
        task = asyncio.create_task(link.apply(ulid(2), digest, None, 1))
        await asyncio.sleep(10)
        node.trouble.locked = ""
        assert (await task).state == "succeeded"
        node.trouble.locked = "apt-get (process 4711)"
        node.things.clear()
        task = asyncio.create_task(link.apply(ulid(3), digest, None, 1))
        await asyncio.sleep(10)
        assert await link.cancel(ulid(3), 1) == "stopping"
        outcome = await task
        assert (outcome.cancelled, outcome.sections["Server/web1"].message) == (True, "cancelled")

    play(scene)


def test_a_cancel_stops_the_wait_for_units_and_takes_their_sections_back() -> None:
    units = [
        section(
            f"Site/{name}",
            file(f"/etc/systemd/system/panel-{name}.service", BODY),
            unit(f"panel-{name}.service", active=True),
        )
        for name in ("ant", "bee")
    ]

    async def scene(node: FakeNode, link: FakeLink) -> None:
        node.step_seconds = 50
        digest = await link.send_bundle(bundle(*units))
        await link.prepare(digest)
        await link.send_blob(BODY)
        task = asyncio.create_task(link.apply(ulid(1), digest, None, 1))
        await asyncio.sleep(110)
        assert await link.cancel(ulid(1), 1) == "stopping"
        outcome = await task
        assert now() == 110
        assert {name: found.message for name, found in outcome.sections.items()} == {
            "Site/ant": "cancelled",
            "Site/bee": "cancelled",
        }
        assert node.things == {}

    play(scene)


def test_a_reload_that_fails_puts_back_who_asked_for_it() -> None:
    def wanted(body: bytes) -> dict[str, Any]:
        web = unit("nginx.service", active=True, reload_on=["file:/etc/nginx/*"])
        return bundle(section("Server/web1", web), section("Site/shop", file("/etc/nginx/shop.conf", body)))

    async def apply(link: FakeLink, number: int, body: bytes) -> Outcome:
        digest = await link.send_bundle(wanted(body))
        for _ in (await link.prepare(digest)).wants:
            await link.send_blob(body)
        return await link.apply(ulid(number), digest, None, 1)

    async def scene(node: FakeNode, link: FakeLink) -> None:
        await apply(link, 1, b"1")
        node.failing = {"reload:nginx.service"}
        outcome = await apply(link, 2, b"2")
        assert outcome.sections["Site/shop"].state == "failed"
        assert node.body("/etc/nginx/shop.conf") == b"1"
        node.failing = set()
        outcome = await apply(link, 3, b"2")
        assert (outcome.state, outcome.reloaded) == ("succeeded", ("nginx.service",))

    play(scene)
