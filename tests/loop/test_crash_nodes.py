"""Nodes that are cut off, freeze, lose power or stay away, and a daemon that is told to end while they work."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from reconciler.store.queries import deployments, revisions
from reconciler.testing import builders
from reconciler.testing.node import FakeNode
from tests.loop.machine.stage import Stage, play

FILES = builders.fleet_files(1, 1)
HOUR = 3600.0


async def _works(stage: Stage, server: str = "web1") -> FakeNode:
    """A server's node, in the middle of an apply."""
    node = stage.node(server)

    async def works() -> bool:
        return bool(node.running) and len(node.journals[node.running].events) > 10

    await stage.until(works, 120)
    return node


def _attempts(node: FakeNode) -> list[float]:
    """From now on, when somebody tries to connect to a node, by the loop's time."""
    times: list[float] = []
    original = node.check_network

    def counted() -> None:
        times.append(asyncio.get_running_loop().time())
        original()

    node.check_network = counted  # type: ignore[method-assign]
    return times


@pytest.mark.parametrize("fault", ["cut", "cut again and again", "frozen", "silent"])
def test_an_apply_goes_on_when_its_node_cannot_be_heard(fault: str) -> None:
    async def scene(stage: Stage) -> None:
        stage.node("web1").step_seconds = 3.0
        stage.start()
        commit = stage.push()
        node = await _works(stage)
        match fault:
            case "cut":
                node.drop()
            case "cut again and again":
                for _ in range(10):
                    node.drop()
                    await asyncio.sleep(4)
            case _:
                setattr(node, fault, True)
                await asyncio.sleep(100)
                setattr(node, fault, False)
        await stage.comes_right(commit)
        known = await stage.deployments()
        assert [one.status for one in known] == ["success"] * 3
        assert set(stage.done()["web1"].values()) == {1}

    play(FILES, scene)


@pytest.mark.parametrize("step", [0, 7, 19, 30])
def test_a_power_cut_in_an_apply_costs_one_more_attempt(step: int) -> None:
    async def scene(stage: Stage) -> None:
        node = stage.node("web1")
        node.boot_seconds, node.cut_after = 40.0, step
        stage.start()
        commit = stage.push()
        await stage.comes_right(commit)
        assert node.facts.boot_id != "boot-1"
        known = await stage.deployments()
        failed = [one for one in known if one.status == "failed"]
        assert len(failed) <= 2, "one for each of its resources"
        assert len(known) <= 5
        assert len([journal for journal in node.journals.values() if journal.sections]) == 2

    play(FILES, scene)


def test_a_node_that_is_away_for_hours_is_asked_seldom_and_collects_no_deployments() -> None:
    async def scene(stage: Stage) -> None:
        stage.at_leisure()
        stage.start()
        await stage.comes_right(stage.push())
        node = stage.node("web1")
        node.down = True
        known = len(await stage.deployments())
        attempts = _attempts(node)
        stage.change("Site", "site1-1", php={"maxChildren": 9})
        commit = stage.push()
        await asyncio.sleep(8 * HOUR)
        assert len(await stage.deployments()) == known
        assert (await stage.says("Server", "web1", "Reachable")).startswith("False NodeUnreachable")
        assert 20 <= len(attempts) <= 200, "with growing waits, up to ten minutes"
        assert max(later - sooner for sooner, later in pairwise(attempts)) <= 900
        # pushes reach nobody meanwhile, and wake nobody who waits
        for turn in range(5):
            stage.change("Site", "site1-1", php={"maxChildren": 10 + turn})
            commit = stage.push()
            await asyncio.sleep(5)
        assert len(await stage.deployments()) == known
        node.down = False
        back = stage.loop.time()
        await stage.comes_right(commit, 1200)
        assert stage.loop.time() - back <= 900
        assert len(await stage.deployments()) == known + 1

    play(FILES, scene)


def test_a_node_that_dies_in_an_apply_and_is_away_for_hours_ends_it_once() -> None:
    async def scene(stage: Stage) -> None:
        stage.at_leisure()
        node = stage.node("web1")
        node.step_seconds = 3.0
        stage.start()
        commit = stage.push()
        await _works(stage)
        node.kill_runner()
        node.down = True
        await asyncio.sleep(3 * HOUR)
        known = await stage.deployments()
        assert [one.status for one in known] == ["success", "failed", "failed"], "the key needs no node"
        node.down = False
        node.step_seconds = 0.0
        await stage.comes_right(commit, 1200)
        assert len(await stage.deployments()) == 5

    play(FILES, scene)


def test_an_interrupted_apply_does_not_stop_the_other_servers() -> None:
    async def scene(stage: Stage) -> None:
        first = stage.node("web1")
        first.step_seconds = 3.0
        stage.start()
        stage.push()
        await _works(stage)
        first.frozen = True
        await stage.until_says("Site", "site2-1", "Ready", "True", 60)
        first.frozen = False
        await stage.comes_right(stage.source.commits[-1][0])

    play(builders.fleet_files(2, 1), scene)


@pytest.mark.parametrize("fault", ["", "frozen", "down"])
def test_a_daemon_ends_in_ten_seconds_and_the_next_one_follows_what_it_parked(fault: str) -> None:
    async def scene(stage: Stage) -> None:
        node = stage.node("web1")
        node.step_seconds = 20.0
        first = stage.start()
        commit = stage.push()
        await _works(stage)
        if fault:
            setattr(node, fault, True)
        began = stage.loop.time()
        assert await first.stop() is None
        assert stage.loop.time() - began <= 10
        unfinished = await stage.store.aread(deployments.unfinished)
        assert {f"{one.kind}/{one.name}" for one in unfinished} == {"Server/web1", "Site/site1-1"}
        assert node.running, "it goes on on the node"
        if fault:
            setattr(node, fault, False)
        stage.start()
        await stage.comes_right(commit, 3000)
        assert set(stage.done()["web1"].values()) == {1}, "nothing was done twice"
        assert len([journal for journal in node.journals.values() if journal.sections]) <= 2

    play(FILES, scene)


def test_a_hundred_pushes_in_a_minute_are_a_few_applies() -> None:
    async def scene(stage: Stage) -> None:
        stage.start()
        await stage.comes_right(stage.push())
        for node in stage.nodes.values():
            node.step_seconds = 8.0
        began = {name: node.applied for name, node in stage.nodes.items()}
        commit = ""
        for turn in range(100):
            for site in ("site1-1", "site2-1", "site3-1"):
                stage.change("Site", site, php={"memoryLimit": f"{100 + turn}M"})
            commit = stage.push()
            await asyncio.sleep(0.6)
        await stage.comes_right(commit)
        for name, node in stage.nodes.items():
            assert 2 <= node.applied - began[name] <= 10
        ends = {one.status for one in await stage.store.aread(lambda tx: revisions.listed(tx, limit=200))}
        assert ends <= {"applied", "superseded", "failed"}
        applied = {one.commit_hash for one in await stage.deployments()}
        assert len(applied) < 40, "most of them were overtaken"

    play(builders.fleet_files(3, 1), scene)
