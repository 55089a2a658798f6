"""Drift in the loop: when nodes are compared, what is reported, what is repaired, and when repairs pause."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import yaml

from reconciler.loop import memory
from reconciler.store.queries import loop_state
from reconciler.testing import builders

from .world import LoopWorld, Scene, play

FILES = builders.fleet_files(1, 3)


def played(tmp_path: Path, scene: Scene, files: Mapping[str, str] = FILES) -> None:
    play(tmp_path, files, scene)


def key_of(world: LoopWorld, site: str) -> str:
    """A file of a site on its node."""
    server = world.node(f"web{site.removeprefix('site').partition('-')[0]}")
    return next(key for key in sorted(server.things) if key.startswith("file:") and site in key)


def drift(world: LoopWorld, site: str) -> None:
    world.node(f"web{site.removeprefix('site').partition('-')[0]}").things[key_of(world, site)]["mode"] = (
        "0777"
    )


def has_drifted(world: LoopWorld, site: str) -> bool:
    things = world.node(f"web{site.removeprefix('site').partition('-')[0]}").things
    return bool(things[key_of(world, site)]["mode"] == "0777")


def with_drift(files: Mapping[str, str], settings: Mapping[str, Mapping[str, object]]) -> dict[str, str]:
    """Files with `spec.drift` of some sites."""
    found = dict(files)
    for site, value in settings.items():
        path = builders.path_of("Site", site)
        manifest = yaml.safe_load(found[path])
        manifest["spec"]["drift"] = dict(value)
        found[path] = yaml.safe_dump(manifest, sort_keys=False)
    return found


def test_nodes_are_compared_at_their_interval_each_at_its_own_time(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            looked: dict[str, list[float]] = {f"web{number}": [] for number in range(1, 5)}
            loop = asyncio.get_running_loop()
            last: dict[str, object] = {}
            end = loop.time() + 2 * 3600
            while loop.time() < end:
                for one in await world.store.aread(loop_state.listed):
                    if one.name in looked and last.get(one.name) != one.checked_at:
                        last[one.name] = one.checked_at
                        looked[one.name].append(loop.time())
                await asyncio.sleep(20)
            # the first is that of the start, and the second at the server's own place in the interval
            for times in looked.values():
                gaps = [later - earlier for earlier, later in pairwise(times[2:])]
                assert len(times) in range(11, 16)
                assert all(abs(gap - 600) <= 40 for gap in gaps), gaps
            assert len({round(times[-1] % 600) for times in looked.values()}) == 4, "not all at once"

    every = {f"site{number}-1": {"every": "10m"} for number in range(1, 5)}
    played(tmp_path, scene, with_drift(builders.fleet_files(4, 1), every))


def test_modes_say_whether_drift_is_ignored_told_or_repaired(tmp_path: Path) -> None:
    settings = {"site1-1": {"mode": "off"}, "site1-2": {"mode": "report"}, "site1-3": {"mode": "heal"}}

    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            for site in settings:
                drift(world, site)
            await asyncio.sleep(3600)
            assert [has_drifted(world, site) for site in settings] == [True, True, False]
            assert await world.says("Site", "site1-1", "Drifted") in ("", "False InSync")
            said = await world.says("Site", "site1-2", "Drifted")
            assert said == "True NodeDiffers 1 step on web1 differs from what was applied"
            assert await world.says("Site", "site1-3", "Drifted") == "False InSync"
            assert (await world.events("Site", "site1-2")).count(
                said.replace("True NodeDiffers", "Drifted")
            ) == 1
            [*_, made] = await world.deployments("site1-3")
            assert (made.triggered_via, made.corrective, made.status) == ("drift", True, "success")
            assert not [d for d in await world.deployments("site1-2") if d.corrective]

            done = await world.ask("heal", "Site/site1-2")
            assert done.outcome == "done"
            await asyncio.sleep(10)
            assert [has_drifted(world, site) for site in settings] == [True, False, False]
            [*_, made] = await world.deployments("site1-2")
            assert (made.triggered_via, made.corrective) == ("drift", True)
            assert await world.says("Site", "site1-2", "Drifted") == "False InSync"

    played(tmp_path, scene, with_drift(FILES, settings))


def test_reported_drift_is_not_repaired_by_an_unrelated_push(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            drift(world, "site1-1")
            world.change("Site", "site1-2", domain="other.test")
            await world.settled(world.push())
            await world.ask("reconcile", "Server/web1")
            await asyncio.sleep(60)
            assert has_drifted(world, "site1-1")
            assert (await world.says("Site", "site1-1", "Drifted")).startswith("True NodeDiffers")
            assert len(await world.deployments("site1-1")) == 1

    played(tmp_path, scene)


def test_a_repair_and_a_change_of_one_look_are_told_apart(tmp_path: Path) -> None:
    """Both are found by the same look: the change has its commit's trigger, the repair is corrective."""

    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            await world.suspend("Server", "web1", "a moment")
            await asyncio.sleep(30)
            drift(world, "site1-3")
            world.change("Site", "site1-1", domain="other.test")
            commit = world.push()
            await asyncio.sleep(5)
        await world.resume("Server", "web1")
        async with world.daemon(owner="here:2:y"):
            await world.settled(commit)
            await asyncio.sleep(5)
            assert not has_drifted(world, "site1-3")
            [*_, change] = await world.deployments("site1-1")
            [*_, repair] = await world.deployments("site1-3")
            assert (change.triggered_via, change.corrective) == ("poll", False)
            assert (repair.triggered_via, repair.corrective) == ("drift", True)
            assert change.apply_id != repair.apply_id

    played(tmp_path, scene, with_drift(FILES, {"site1-3": {"mode": "heal"}}))


def test_rules_leave_drift_alone_until_they_expire(tmp_path: Path) -> None:
    rule = {"step": "file:*", "field": "mode", "until": "2026-01-31", "reason": "the vendor's installer"}
    settings = {"site1-1": {"mode": "heal", "every": "10m", "ignore": [rule]}}

    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            drift(world, "site1-1")
            await asyncio.sleep(25 * 60)
            assert has_drifted(world, "site1-1"), "its last day is not over"
            assert await world.says("Site", "site1-1", "Drifted") in ("", "False InSync")
            await asyncio.sleep(25 * 60)
            assert not has_drifted(world, "site1-1")

    late = datetime(2026, 1, 31, 23, 30, tzinfo=UTC)
    play(tmp_path, with_drift(FILES, settings), scene, start=late)


def test_an_object_that_flaps_is_left_alone_for_a_while_and_says_so(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            began = world.clock()
            while not (opened := await world.store.aread(memory.open_breakers)):
                drift(world, "site1-1")
                await asyncio.sleep(120)
                assert world.clock() - began < timedelta(hours=2)
            repairs = [d for d in await world.deployments("site1-1") if d.corrective]
            assert len(repairs) == 5
            [(kind, name, until)] = opened
            assert (kind, name) == ("Site", "site1-1")
            said = f"BreakerOpen it drifts again and again; repairs pause until {until:%Y-%m-%d %H:%M} UTC"
            assert said in await world.events("Site", "site1-1")
            drift(world, "site1-1")
            drift(world, "site1-2")
            await asyncio.sleep(1200)
            assert has_drifted(world, "site1-1")
            assert (await world.says("Site", "site1-1", "Drifted")).startswith("True NodeDiffers")
            assert not has_drifted(world, "site1-2"), "the others are repaired"

            await world.ask("heal", "Site/site1-1")
            await asyncio.sleep(10)
            assert not has_drifted(world, "site1-1"), "a person may repair it all the same"
            drift(world, "site1-1")
            await asyncio.sleep((until - world.clock()).total_seconds() + 600)
            assert not has_drifted(world, "site1-1"), "it closes by itself"
            assert await world.store.aread(memory.open_breakers) == []

    settings = {site: {"mode": "heal", "every": "5m"} for site in ("site1-1", "site1-2")}
    played(tmp_path, scene, with_drift(FILES, settings))


def test_a_silent_node_is_asked_more_and_more_seldom(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            web1 = world.node("web1")
            web1.down = True
            await world.ask("reconcile", "Server/web1")
            state = await world.store.aread(lambda tx: loop_state.get(tx, "Server", "web1"))
            await asyncio.sleep(5400)
            later = await world.store.aread(lambda tx: loop_state.get(tx, "Server", "web1"))
            asked = later.failures - state.failures
            assert 7 <= asked <= 20, "about every ten minutes, and at its checks"
            web1.down = False
            await asyncio.sleep(900)
            assert await world.says("Server", "web1", "Reachable") == "True Answered"
            after = await world.store.aread(lambda tx: loop_state.get(tx, "Server", "web1"))
            assert after.failures == 0

    played(tmp_path, scene)
