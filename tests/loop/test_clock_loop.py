"""The wall clock is set forward and back by hours: nothing waits longer than it should, and nothing comes all at once."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from reconciler.store.queries import rollouts
from reconciler.testing import builders
from reconciler.testing.simulated import START
from tests.loop.machine.stage import Stage, play
from tests.loop.world import rollout

HOUR = 3600.0
FILES = builders.fleet_files(1, 1)


@pytest.mark.parametrize("jump", [-5 * HOUR, 5 * HOUR])
def test_a_retry_comes_within_its_wait(jump: float) -> None:
    async def scene(stage: Stage) -> None:
        stage.at_leisure()
        stage.start()
        node = stage.node("web1")
        node.down = True
        commit = stage.push()
        await asyncio.sleep(1800)
        stage.clock.jump(jump)
        await asyncio.sleep(30)
        node.down = False
        back = stage.loop.time()
        await stage.comes_right(commit, 1500)
        assert stage.loop.time() - back <= 750, "ten minutes, a quarter more, and the look itself"

    play(FILES, scene)


@pytest.mark.parametrize("jump", [-5 * HOUR, 5 * HOUR])
def test_a_resource_that_failed_is_tried_again_within_its_wait(jump: float) -> None:
    async def scene(stage: Stage) -> None:
        stage.at_leisure()
        stage.start()
        await stage.comes_right(stage.push())
        node = stage.node("web1")
        node.failing = {"Site/site1-1"}
        stage.change("Site", "site1-1", php={"maxChildren": 9})
        commit = stage.push()
        await asyncio.sleep(120)
        began = node.applied
        assert 2 <= began <= 12
        stage.clock.jump(jump)
        await asyncio.sleep(60)
        assert node.applied - began <= 3, "no stampede"
        node.failing = set()
        await stage.comes_right(commit, HOUR * 1.5)

    play(FILES, scene)


@pytest.mark.parametrize("jump", [-5 * HOUR, 5 * HOUR])
def test_a_soak_ends(jump: float) -> None:
    files = builders.fleet_files(2, 1, labels=["one", "two"])
    waves = [{"name": "first", "selector": {"group": "one"}}]
    files |= rollout(waves=waves, soak="5m")

    async def scene(stage: Stage) -> None:
        stage.at_leisure()
        stage.start()
        commit = stage.push()

        async def soaks() -> bool:
            rows = await stage.store.aread(lambda tx: rollouts.listed(tx, "main", commit))
            return "soaking" in {row.state for row in rows}

        await stage.until(soaks, 120)
        stage.clock.jump(jump)
        await stage.comes_right(commit, 2 * 300 + 120)

    play(files, scene)


def test_a_health_check_that_fails_is_not_waited_for_longer_when_the_clock_is_set_back() -> None:
    files = FILES | rollout(healthTimeout="1m")

    async def scene(stage: Stage) -> None:
        healthy = True

        async def faults(*given: object, **more: object) -> dict[str, str]:
            return {} if healthy else {"smoke": "it is on fire"}

        stage.faults = faults
        stage.at_leisure()
        stage.start()
        await stage.comes_right(stage.push())
        stage.change("Site", "site1-1", php={"maxChildren": 9})
        node = stage.node("web1")
        node.step_seconds = 2.0
        commit = stage.push()
        await asyncio.sleep(1)
        healthy = False
        await asyncio.sleep(10)
        stage.clock.jump(-5 * HOUR)

        async def aside() -> bool:
            return await stage.status(commit) == "quarantined"

        await stage.until(aside, 120)

    play(files, scene)


def test_a_window_is_looked_at_anew_when_the_clock_was_wrong() -> None:
    """It opens at 22:00; the scene begins at 12:00, and at 12:10 the clock turns out to be ten hours slow."""
    window = {"name": "night", "mode": "allow", "start": "22:00", "duration": "3h"}
    files = FILES | rollout(windows=[window])

    async def scene(stage: Stage) -> None:
        assert START.hour == 12
        stage.tick = 1.0
        stage.start()
        commit = stage.push()
        await stage.until_says("Site", "site1-1", "Reconciling", "True WindowClosed")
        await asyncio.sleep(600)
        assert not stage.node("web1").applied
        stage.clock.jump(10 * HOUR)
        await stage.comes_right(commit, 30)

    play(files, scene)


def test_work_does_not_begin_in_a_window_that_closed_with_the_clock() -> None:
    window = {"name": "noon", "mode": "allow", "start": "11:00", "duration": "3h"}
    files = FILES | rollout(windows=[window])

    async def scene(stage: Stage) -> None:
        stage.start()
        await stage.comes_right(stage.push())
        stage.clock.jump(6 * HOUR)
        began = stage.node("web1").applied
        stage.change("Site", "site1-1", php={"maxChildren": 9})
        commit = stage.push()
        await stage.until_says("Site", "site1-1", "Reconciling", "True WindowClosed")
        await asyncio.sleep(600)
        assert stage.node("web1").applied == began
        stage.clock.jump(-6 * HOUR)
        await stage.comes_right(commit, 30)

    play(files, scene)


@pytest.mark.parametrize("jump", [-5 * HOUR, 5 * HOUR, 48 * HOUR])
def test_looks_for_drift_keep_their_pace(jump: float) -> None:
    files = builders.fleet_files(20, 0)

    async def scene(stage: Stage) -> None:
        stage.at_leisure()
        stage.start()
        await stage.comes_right(stage.push())
        looks: dict[str, list[float]] = {node.server: [] for node in stage.nodes.values()}
        for node in stage.nodes.values():
            _note_checks(node, looks[node.server])
        await asyncio.sleep(HOUR)
        stage.clock.jump(jump)
        at = stage.loop.time()
        await asyncio.sleep(HOUR)
        for server, times in looks.items():
            after = [time for time in times if time >= at]
            assert after, f"{server} is not looked at any more"
            assert after[0] - at <= 2700, "one and a half intervals"
        first_minute = [time for times in looks.values() for time in times if at <= time < at + 60]
        assert len(first_minute) <= 5, "not all of them at once"

    play(files, scene)


def _note_checks(node: object, times: list[float]) -> None:
    original = node.compare_kept  # type: ignore[attr-defined]

    def noting(*given: object) -> object:
        times.append(asyncio.get_running_loop().time())
        return original(*given)

    node.compare_kept = noting  # type: ignore[attr-defined]


def test_a_suspension_ends_by_the_clock_that_people_see() -> None:
    async def scene(stage: Stage) -> None:
        stage.tick = 1.0
        stage.start()
        await stage.comes_right(stage.push())
        await stage.suspend("Site", "site1-1", "by hand", stage.clock() + timedelta(hours=5))
        await asyncio.sleep(10)
        stage.change("Site", "site1-1", php={"maxChildren": 9})
        commit = stage.push()
        await asyncio.sleep(600)
        assert (await stage.spec("Site", "site1-1")).get("php", {}).get("maxChildren") != 9
        stage.clock.jump(5 * HOUR)
        await stage.comes_right(commit, 60)

    play(FILES, scene)


def test_two_daemons_take_turns_properly_while_the_clock_runs_wild() -> None:
    async def scene(stage: Stage) -> None:
        first, second = stage.start("here:1:a"), stage.start("here:2:b")
        commit = stage.push()
        for jump in (3 * HOUR, -7 * HOUR, 30.0, -4.0, 26 * HOUR, -HOUR):
            stage.clock.jump(jump)
            await asyncio.sleep(20)
            held = [one for one in (first, second) if one.daemon.lease.held and not one.task.done()]
            assert len(held) <= 1
            for ended in [one for one in (first, second) if one.task.done()]:
                await ended.kill()
                if ended is first:
                    first = stage.start()
                else:
                    second = stage.start()
            stage.change("Site", "site1-1", php={"memoryLimit": f"{100 + int(abs(jump))}M"})
            commit = stage.push()
        await stage.comes_right(commit, 120)

    play(FILES, scene)
