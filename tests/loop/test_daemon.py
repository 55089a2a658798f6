"""The daemon as a whole, on played nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from reconciler.testing import builders
from reconciler.testing.simulated import SimulatedClock, SimulatedLoop, run

from .world import LoopWorld

Play = Callable[[Callable[[LoopWorld], Awaitable[None]]], None]


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Plays a scene with a world of two servers with two sites each."""

    def play(scene: Callable[[LoopWorld], Awaitable[None]]) -> None:
        loop = SimulatedLoop(limit=2 * 86400)
        world = LoopWorld(tmp_path, builders.fleet_files(2, 2, databases=1), SimulatedClock(loop))
        try:
            run(scene(world), loop=loop)  # type: ignore[arg-type]
        finally:
            world.store.close()

    return play


def test_a_push_converges_the_fleet(play: Play) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon() as daemon:
            await asyncio.sleep(5)
            commit = world.push()
            daemon.look("main", "push")
            await world.settled(commit)
            assert await world.ready("Site", "site1-1") == "True ReconciliationSucceeded"
            assert await world.ready("Fleet", "main") == "True Synced"
            made = await world.deployments()
            assert {d.triggered_via for d in made} == {"push"}
            assert {d.status for d in made} == {"success"}
            assert len(made) == len(world.files)
            applied = [node.applied for node in world.nodes.values()]
            await asyncio.sleep(600)
            assert [node.applied for node in world.nodes.values()] == applied, "nothing is repeated"

    play(scene)
