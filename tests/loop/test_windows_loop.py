"""Maintenance windows in the loop: closed, opening, closing under way, overridden, and what a repair does."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

from reconciler.testing import builders

from .world import LoopWorld, Scene, play, rollout

LATE = datetime(2026, 2, 1, 1, 30, tzinfo=UTC)
NIGHT = {"name": "night", "mode": "allow", "start": "02:00", "duration": "1h"}
TWICE = [
    {"name": name, "mode": "allow", "start": start, "duration": "5m", "overrun": False}
    for name, start in (("first", "02:00"), ("second", "02:30"))
]


def played(tmp_path: Path, scene: Scene, servers: int = 1) -> None:
    """Begins half an hour before the window opens, with the fleet as it is before there are windows."""
    play(tmp_path, builders.fleet_files(servers, 2), scene, start=LATE)


async def with_window(world: LoopWorld, **spec: object) -> str:
    """Converge, then have a window at night and a change that comes before it."""
    await world.converged()
    window = NIGHT | spec
    await world.settled(world.commit(rollout(windows=[window])))
    world.change("Site", "site1-1", domain="other.test")
    return world.push()


async def sleep_until(world: LoopWorld, at: datetime) -> None:
    await asyncio.sleep((at - world.clock()).total_seconds())


def test_a_closed_window_is_waited_for_and_its_opening_told(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            commit = await with_window(world)
            said = await world.until_says("Site", "site1-1", "Reconciling", "True WindowClosed")
            assert said == (
                "True WindowClosed the maintenance window is closed until 2026-02-01 02:00 UTC (night)"
            )
            assert await world.ready("Fleet", "main") == "False Progressing"
            await sleep_until(world, datetime(2026, 2, 1, 1, 59, tzinfo=UTC))
            assert (await world.spec("Site", "site1-1"))["domain"] == "site1-1.test"
            await sleep_until(world, datetime(2026, 2, 1, 2, 1, tzinfo=UTC))
            assert await world.status(commit) == "applied"
            made = (await world.deployments("site1-1"))[-1]
            assert (made.triggered_via, made.status) == ("push", "success")
            assert made.created_at.replace(microsecond=0) == datetime(2026, 2, 1, 2, 0, tzinfo=UTC)
            assert await world.says("Site", "site1-1", "Reconciling") == "False Succeeded"

    played(tmp_path, scene)


def test_a_window_is_waited_for_over_a_restart(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            commit = await with_window(world)
            await world.until_says("Site", "site1-1", "Reconciling", "True WindowClosed")
        async with world.daemon(owner="here:2:y"):
            await asyncio.sleep(600)
            assert (await world.spec("Site", "site1-1"))["domain"] == "site1-1.test"
            await sleep_until(world, datetime(2026, 2, 1, 2, 1, tzinfo=UTC))
            assert await world.status(commit) == "applied"

    played(tmp_path, scene)


def test_an_operator_may_go_through_a_closed_window_once(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            commit = await with_window(world)
            await world.until_says("Site", "site1-1", "Reconciling", "True WindowClosed")
            done = await world.ask(
                "reconcile", "Server/web1", override_window=True, reason="the shop is down"
            )
            assert done.outcome == "done"
            await world.settled(commit)
            assert "WindowOverridden ada: the shop is down" in await world.events("Server", "web1")
            world.change("Site", "site1-1", domain="third.test")
            world.push()
            await world.until_says("Site", "site1-1", "Reconciling", "True WindowClosed")
            await asyncio.sleep(600)
            assert (await world.spec("Site", "site1-1"))["domain"] == "other.test"

    played(tmp_path, scene)


def test_an_override_with_nothing_to_do_is_not_kept_for_later(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            await world.settled(world.commit(rollout(windows=[NIGHT])))
            await world.ask("reconcile", "Server/web1", override_window=True, reason="to be sure")
            await asyncio.sleep(30)
            world.change("Site", "site1-1", domain="other.test")
            world.push()
            await world.until_says("Site", "site1-1", "Reconciling", "True WindowClosed")
            await asyncio.sleep(600)
            assert (await world.spec("Site", "site1-1"))["domain"] == "site1-1.test"

    played(tmp_path, scene)


def test_an_override_does_not_count_for_the_order_of_a_rollout(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            await world.settled(world.commit(rollout(windows=[NIGHT], soak="5m")))
            for number in (1, 2):
                world.change("Site", f"site{number}-1", domain=f"other{number}.test")
            commit = world.push()
            await world.until_says("Site", "site1-1", "Reconciling", "True WindowClosed")
            await world.ask("reconcile", "Fleet/main", override_window=True, reason="now")
            await world.until_spec("Site", "site1-1", domain="other1.test")
            said = await world.until_says("Site", "site2-1", "Reconciling", "True RolloutWaiting")
            assert said.endswith("waits for web1")
            await asyncio.sleep(120)
            assert (await world.spec("Site", "site2-1"))["domain"] == "site2-1.test"
            await world.settled(commit, 1800)
            assert world.clock() < LATE + timedelta(minutes=30), (
                "the override lasts until the server's turn came"
            )

    played(tmp_path, scene, servers=2)


def test_a_window_without_overrun_stops_a_run_and_the_next_one_goes_on(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            await world.settled(world.commit(rollout(windows=[*TWICE])))
            web1 = world.node("web1")
            web1.step_seconds = 60.0
            for name in ("site1-1", "site1-2"):
                world.change("Site", name, domain=f"other-{name}.test", phpVersion="8.2")
            world.put("Site", "fresh", {"server": "web1", "domain": "fresh.test", "phpVersion": "8.2"})
            commit = world.push()
            await world.until_says("Site", "site1-1", "Reconciling", "True WindowClosed")
            await sleep_until(world, datetime(2026, 2, 1, 2, 4, tzinfo=UTC))
            assert web1.running
            await sleep_until(world, datetime(2026, 2, 1, 2, 7, tzinfo=UTC))
            assert not web1.running, "it stopped after the step that ran"
            outcome = web1.outcomes[max(web1.outcomes)]
            assert outcome.cancelled
            assert await world.status(commit) in ("applying", "failed")
            made = len(await world.deployments())
            said = await world.until_says("Site", "fresh", "Reconciling", "True WindowClosed", 600)
            assert "window" in said
            assert await world.says("Site", "fresh", "Stalled") != "True Cancelled"
            await sleep_until(world, datetime(2026, 2, 1, 2, 29, tzinfo=UTC))
            assert len(await world.deployments()) == made, "nothing between the windows"
            web1.step_seconds = 0.1
            await sleep_until(world, datetime(2026, 2, 1, 2, 32, tzinfo=UTC))
            assert await world.status(commit) == "applied"
            assert await world.healthy(commit)

    played(tmp_path, scene)


def test_overrun_lets_what_began_go_on(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            await world.settled(world.commit(rollout(windows=[NIGHT | {"duration": "5m"}])))
            world.node("web1").step_seconds = 60.0
            world.put("Site", "fresh", {"server": "web1", "domain": "fresh.test", "phpVersion": "8.2"})
            commit = world.push()
            await sleep_until(world, datetime(2026, 2, 1, 2, 6, tzinfo=UTC))
            assert world.node("web1").running
            await world.settled(commit, 3600)
            assert world.clock() < datetime(2026, 2, 1, 3, 0, tzinfo=UTC)

    played(tmp_path, scene)


def test_a_repair_waits_for_the_window_and_is_made_when_it_opens(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            world.change("Site", "site1-1", drift={"mode": "heal", "every": "12h"})
            await world.converged()
            await world.settled(world.commit(rollout(windows=[NIGHT])))
            web1 = world.node("web1")
            path = next(key for key in web1.things if key.startswith("file:") and "site1-1" in key)
            mode, web1.things[path]["mode"] = web1.things[path]["mode"], "0777"
            await world.ask("reconcile", "Server/web1")
            said = await world.until_says("Site", "site1-1", "Reconciling", "True WindowClosed")
            assert "2026-02-01 02:00" in said
            assert (await world.says("Site", "site1-1", "Drifted")).startswith("True NodeDiffers")
            await sleep_until(world, datetime(2026, 2, 1, 1, 59, tzinfo=UTC))
            assert web1.things[path]["mode"] == "0777"
            await sleep_until(world, datetime(2026, 2, 1, 2, 1, tzinfo=UTC))
            assert web1.things[path]["mode"] == mode
            made = (await world.deployments("site1-1"))[-1]
            assert (made.triggered_via, made.corrective, made.status) == ("drift", True, "success")
            assert await world.says("Site", "site1-1", "Drifted") == "False InSync"

    played(tmp_path, scene)
