"""The health check `avc`: what SELinux refused since a change was applied, until its soak is over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from reconciler.testing import builders

from .denying import FILES, counted, deny, levels, played, rows
from .world import LoopWorld, rollout


def watched(tmp_path: Path, scene: Callable[[LoopWorld], Awaitable[None]], most: int = 0) -> None:
    """Play a scene in which web1 is healthy with at most so many denials, and soaks for four minutes."""
    files = dict(FILES)
    files[builders.path_of("Server", "web1")] += f"  healthChecks:\n    - avc: {{max: {most}}}\n"
    played(tmp_path, scene, files | rollout(soak="4m", healthTimeout="1m"))


def change(world: LoopWorld, domain: str) -> str:
    world.change("Site", "site1-1", domain=domain)
    return world.push()


def test_a_denial_while_a_revision_soaks_puts_it_aside_although_an_equal_one_was_known(
    tmp_path: Path,
) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            of = await levels(world)
            deny(world, of, times=30)
            await counted(world, 30)
            commit = change(world, "new.test")
            await world.until(lambda: is_phase(world, "soaking"))
            await asyncio.sleep(120)
            assert await world.status(commit) != "quarantined", "what was before the change does not count"
            deny(world, of)
            await world.until(lambda: is_status(world, commit, "quarantined"))
            counts = sorted(row.count for row in await rows(world))
            assert counts == [1, 30], "no row is continued over a change"
            assert "1 denial on web1" in str(await world.events("Fleet", "main"))

    watched(tmp_path, scene)


def test_denials_up_to_the_number_that_is_allowed_pass(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            of = await levels(world)
            commit = change(world, "new.test")
            await world.until(lambda: is_phase(world, "soaking"))
            deny(world, of, times=5)
            await world.until(lambda: world.healthy(commit), 1800)
            again = change(world, "newer.test")
            await world.until(lambda: is_phase(world, "soaking"))
            deny(world, of, times=6)
            await world.until(lambda: is_status(world, again, "quarantined"))

    watched(tmp_path, scene, most=5)


def test_lost_records_of_the_soak_are_no_proof_of_health(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            of = await levels(world)
            # something that is no denial is all that is left
            node = world.node("web1")
            deny(world, of)
            await counted(world, 1)
            commit = change(world, "new.test")
            await world.until(lambda: is_phase(world, "soaking"))
            await asyncio.sleep(30)
            for _ in range(6):
                node.audit.rotate()
                node.audit.write(f"type=USER_LOGIN msg=audit({world.clock().timestamp():.3f}:{9000}): pid=1")
            await world.until(lambda: is_status(world, commit, "quarantined"))
            assert "is not known" in str(await world.events("Fleet", "main"))

    watched(tmp_path, scene)


async def is_phase(world: LoopWorld, phase: str) -> bool:
    return (await world.phases()).get("web1") == phase


async def is_status(world: LoopWorld, commit: str, status: str) -> bool:
    return await world.status(commit) == status
