"""Two fleets in one daemon: each goes its own way, and what both claim stays with the one that has it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from reconciler.testing import builders

from .world import LoopWorld, Scene, play

OURS = builders.fleet_files(1, 2)
KEY = {builders.path_of("SSHKey", "other"): builders.manifest("SSHKey", "other", {})}
SERVER = {"address": "198.18.9.1", "os": "debian_12", "sshKey": "other", "software": {"php": ["8.2"]}}
SITE = {"server": "far", "domain": "far.test", "phpVersion": "8.2"}
THEIRS = KEY | {
    builders.path_of("Server", "far"): builders.manifest("Server", "far", SERVER),
    builders.path_of("Site", "far-1"): builders.manifest("Site", "far-1", SITE),
}


def played(tmp_path: Path, scene: Scene) -> None:
    play(tmp_path, OURS, scene, more={"other": THEIRS})


async def both(world: LoopWorld) -> None:
    await world.converged()
    await world.converged("other")


def test_two_fleets_are_converged_side_by_side(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await both(world)
            assert await world.ready("Fleet", "main") == "True Synced"
            assert await world.ready("Fleet", "other") == "True Synced"
            made = len(await world.deployments())
            world.drop("Site", "far-1", fleet="other")
            commit = world.push("other")
            await world.settled(commit, fleet="other")
            assert {"Site/site1-1", "Site/site1-2", "Server/web1"} <= set(await world.recorded())
            assert [d.name for d in (await world.deployments())[made:]] == ["far-1"]

    played(tmp_path, scene)


def test_a_broken_source_of_one_does_not_touch_the_other(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await both(world)
            world.sources["other"].broken = "the remote does not answer"
            world.push("other")
            said = await world.until_says("Fleet", "other", "SourceReady", "False SourceUnreachable")
            assert said.endswith("the remote does not answer")
            world.change("Site", "site1-1", domain="new.test")
            commit = world.push()
            await world.settled(commit)
            assert await world.says("Fleet", "main", "SourceReady") == "True Accepted"
            assert "Site/far-1" in await world.recorded()
            world.sources["other"].broken = ""
            world.files_of["other"]["sites/far-1.yaml"] = "kind: [\n"
            world.push("other")
            await world.until_says("Fleet", "other", "Stalled", "True InvalidManifest")
            assert await world.says("Fleet", "main", "Stalled") == "False Succeeded"

    played(tmp_path, scene)


def test_a_name_that_another_fleet_has_is_a_conflict_of_the_second_alone(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await both(world)
            before = [c for c in await world.conditions() if c.name in ("site1-1", "web1")]
            spec = SITE | {"domain": "clash.test"}
            world.put("Site", "site1-1", spec, "other")
            world.put("Server", "web1", SERVER | {"address": "198.18.9.2"}, "other")
            world.change("Site", "far-1", domain="new.test", fleet="other")
            commit = world.push("other")
            said = await world.until_says("Fleet", "other", "Stalled", "True Conflict")
            assert said == (
                "True Conflict Server/web1 belongs to the fleet main; choose another name, or remove it there first "
                "(and 1 more)"
            )
            await world.until_spec("Site", "far-1", domain="new.test")
            await asyncio.sleep(300)
            assert await world.status(commit, "other") == "applying"
            assert (await world.spec("Site", "site1-1"))["domain"] == "site1-1.test"
            assert [c for c in await world.conditions() if c.name in ("site1-1", "web1")] == before
            assert [d.status for d in await world.deployments("site1-1")] == ["success"]
            assert await world.ready("Fleet", "main") == "True Synced"

            world.drop("Site", "site1-1", fleet="other")
            world.drop("Server", "web1", fleet="other")
            mended = world.push("other")
            await world.settled(mended, fleet="other")
            assert await world.says("Fleet", "other", "Stalled") == "False Succeeded"
            assert "Site/site1-1" in await world.recorded(), "it was never theirs to remove"

    played(tmp_path, scene)


def test_a_value_that_another_fleet_holds_fails_the_second_resource_alone(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await both(world)
            world.put("Site", "far-2", SITE | {"domain": "site1-1.test"}, "other")
            world.change("Site", "far-1", domain="new.test", fleet="other")
            world.push("other")
            await world.until_spec("Site", "far-1", domain="new.test")
            said = await world.until_says("Site", "far-2", "Stalled", "True")
            assert "site1-1.test" in said
            await asyncio.sleep(300)
            assert await world.ready("Site", "site1-1") == "True ReconciliationSucceeded"
            assert await world.ready("Fleet", "main") == "True Synced"
            assert await world.ready("Fleet", "other") == "False Progressing"
            world.change("Site", "far-2", domain="free.test", fleet="other")
            commit = world.push("other")
            await world.settled(commit, fleet="other")
            assert await world.says("Site", "far-2", "Stalled") == "False Succeeded"

    played(tmp_path, scene)


def test_what_one_fleet_says_of_new_resources_outlives_a_look_at_the_other(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await both(world)
            world.put("Site", "fresh", {"server": "web1", "domain": "fresh.test", "phpVersion": "9.9"})
            world.push()
            await world.until_says("Site", "fresh", "Stalled", "True InvalidManifest")
            world.change("Site", "far-1", domain="new.test", fleet="other")
            await world.settled(world.push("other"), fleet="other")
            assert (await world.says("Site", "fresh", "Stalled")).startswith("True InvalidManifest")
            world.drop("Site", "fresh")
            await world.settled(world.push())
            assert await world.says("Site", "fresh", "Stalled") == ""

    played(tmp_path, scene)


def test_suspending_one_fleet_leaves_the_other_at_work(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await both(world)
            await world.suspend("Fleet", "main", "an audit")
            world.change("Site", "site1-1", domain="new1.test")
            world.push()
            world.change("Site", "far-1", domain="new2.test", fleet="other")
            await world.settled(world.push("other"), fleet="other")
            await asyncio.sleep(60)
            assert (await world.spec("Site", "site1-1"))["domain"] == "site1-1.test"

    played(tmp_path, scene)
