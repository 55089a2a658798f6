"""An operator stops what is under way: at a safe point, in seconds, for good, and nothing but that."""

from __future__ import annotations

import asyncio

import pytest

from reconciler.store.queries import deployments
from reconciler.store.queries.requests import Request
from reconciler.testing import builders
from reconciler.testing.node import FakeNode
from tests.loop.machine.stage import Stage, play

FILES = builders.fleet_files(2, 1)
WITHIN = 5.0
"""Seconds in which the answer has to come, and a little for the daemon's own writes."""


async def _under_way(stage: Stage, step: float = 2.0) -> FakeNode:
    """A push whose apply takes a while on web1, by default a minute: its node, at work."""
    stage.node("web1").step_seconds = step
    stage.push()
    return await _works(stage)


async def _works(stage: Stage) -> FakeNode:
    node = stage.node("web1")

    async def works() -> bool:
        running = node.journals.get(node.running)
        return running is not None and any(event.type == "step_started" for event in running.events)

    await stage.until(works, 60)
    return node


async def _cancelled(stage: Stage, subject: str) -> Request:
    began = stage.loop.time()
    answer = await stage.ask("cancel", subject)
    assert stage.loop.time() - began <= WITHIN + 0.5
    return answer


async def _reasons(stage: Stage, server: str) -> dict[str, str]:
    """How the newest deployments of what is on a server ended."""
    found = {}
    for one in await stage.deployments():
        if one.name == server or one.name.startswith(f"site{server[-1]}"):
            found[f"{one.kind}/{one.name}"] = f"{one.status} {one.reason}"
    return found


def test_a_cancel_ends_the_apply_at_a_safe_point_and_touches_no_other_server() -> None:
    async def scene(stage: Stage) -> None:
        stage.start()
        node = await _under_way(stage)
        answer = await _cancelled(stage, "Server/web1")
        assert (answer.outcome, answer.message) == ("done", "stopped on web1")
        assert not node.running
        ends = await _reasons(stage, "web1")
        assert sorted(ends) == ["Server/web1", "Site/site1-1"]
        assert all(end.startswith("failed cancelled by ada") for end in ends.values()), ends
        assert (await stage.says("Server", "web1", "Stalled")).startswith("True Cancelled cancelled by ada")
        await stage.until_says("Site", "site2-1", "Ready", "True", 300)
        assert len(stage.node("web2").journals) == 1, "the other server was left alone"
        await stage.check()

    play(FILES, scene)


@pytest.mark.parametrize("by", ["reconcile", "commit"])
def test_what_was_cancelled_stays_so_until_somebody_says_otherwise(by: str) -> None:
    async def scene(stage: Stage) -> None:
        stage.at_leisure()
        stage.start()
        node = await _under_way(stage)
        await _cancelled(stage, "Server/web1")
        began = node.applied
        await asyncio.sleep(2 * 3600)
        assert node.applied == began, "it is not tried again by itself"
        assert (await stage.says("Server", "web1", "Stalled")).startswith("True Cancelled")
        commit = stage.source.commits[-1][0]
        if by == "reconcile":
            await stage.ask("reconcile", "Server/web1")
        else:
            stage.change("Site", "site2-1", php={"maxChildren": 7})
            commit = stage.push()
        await stage.comes_right(commit)

    play(FILES, scene)


@pytest.mark.parametrize("fault", ["frozen", "silent"])
def test_a_node_that_does_not_answer_cannot_keep_an_operator_waiting(fault: str) -> None:
    async def scene(stage: Stage) -> None:
        stage.at_leisure()
        stage.start()
        node = await _under_way(stage, step=600.0)
        setattr(node, fault, True)
        answer = await _cancelled(stage, "Server/web1")
        assert answer.outcome == "done"
        await asyncio.sleep(2)
        ends = await _reasons(stage, "web1")
        assert all(end.startswith("failed cancelled by ada") for end in ends.values()), ends
        assert (await stage.says("Site", "site1-1", "Stalled")).startswith("True Cancelled")
        stage.change("Site", "site2-1", php={"maxChildren": 7})
        await stage.until_says("Site", "site2-1", "Ready", "True", 300)
        began = len(await stage.deployments())
        await asyncio.sleep(2 * 3600)
        setattr(node, fault, False)
        await asyncio.sleep(3600)
        assert not node.running
        journal = next(iter(node.journals.values()))
        assert journal.cancelled, "it is stopped as soon as it answers"
        assert len(await stage.deployments()) == began
        assert (await stage.says("Site", "site1-1", "Stalled")).startswith("True Cancelled")
        node.step_seconds = 0.0
        await stage.ask("reconcile", "Server/web1")
        await stage.comes_right(stage.source.commits[-1][0])

    play(FILES, scene)


def test_a_deployment_can_be_cancelled_by_its_id() -> None:
    async def scene(stage: Stage) -> None:
        stage.start()
        await _under_way(stage)
        running = await stage.store.aread(deployments.unfinished)
        mine = next(one for one in running if one.name == "site1-1")
        answer = await _cancelled(stage, mine.id)
        assert (answer.outcome, answer.message) == ("done", "stopped on web1")
        found = await stage.store.aread(lambda tx: deployments.get(tx, mine.id))
        assert (found.status, (found.reason or "")[:16]) == ("failed", "cancelled by ada")

    play(FILES, scene)


def test_a_cancel_of_what_has_just_ended_is_refused_and_changes_nothing() -> None:
    async def scene(stage: Stage) -> None:
        stage.start()
        await stage.comes_right(commit := stage.push())
        known = await stage.deployments()
        for subject in ("Server/web1", known[-1].id):
            answer = await stage.ask("cancel", subject)
            assert (answer.outcome, answer.message) == ("refused", f"nothing runs for {subject}")
        await asyncio.sleep(60)
        await stage.in_order(commit)
        assert await stage.deployments() == known

    play(FILES, scene)


def test_a_cancelled_update_leaves_what_ran_before_in_place() -> None:
    async def scene(stage: Stage) -> None:
        stage.start()
        await stage.comes_right(stage.push())
        node = stage.node("web1")
        node.step_seconds = 10.0
        before = {key: dict(thing) for key, thing in node.things.items()}
        stage.change("Site", "site1-1", php={"maxChildren": 7}, documentRoot="public")
        stage.push()
        await _works(stage)
        await _cancelled(stage, "Site/site1-1")
        await asyncio.sleep(60)
        kept = {key: thing for key, thing in node.things.items() if key in before}
        assert {key: thing.get("sha256") for key, thing in kept.items()} == {
            key: thing.get("sha256") for key, thing in before.items()
        }
        await stage.ask("reconcile", "Site/site1-1")
        await stage.comes_right(stage.source.commits[-1][0])

    play(FILES, scene)


def test_a_cancel_whose_daemon_dies_is_answered_by_the_next_one() -> None:
    async def scene(stage: Stage) -> None:
        first = stage.start()
        await _under_way(stage)
        first.points.on("before Operators._answer", first.process.die)
        asking = asyncio.create_task(stage.ask("cancel", "Server/web1"))
        await first.killed()
        await first.kill()
        stage.start()
        answer = await asking
        assert answer.outcome in ("done", "refused")
        await asyncio.sleep(300)
        await stage.ask("reconcile", "Server/web1")
        await stage.comes_right(stage.source.commits[-1][0])

    play(FILES, scene)
