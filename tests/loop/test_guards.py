"""Guards in the loop: what waits for a person waits, everything else goes on, and an approval is for what was shown."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from reconciler.errors import UsageFault
from reconciler.testing import builders

from .world import LoopWorld, Scene, play

FILES = builders.fleet_files(1, 5, databases=1)
SITES = [f"site1-{number}" for number in range(1, 6)]


def played(tmp_path: Path, scene: Scene, files: Mapping[str, str] = FILES) -> None:
    play(tmp_path, files, scene)


async def plan_that_waits(world: LoopWorld) -> str:
    """The id of the plan that the fleet's condition names."""
    said = await world.until_says("Fleet", "main", "Stalled", "True NeedsApproval")
    return said.partition("`reconciler approve ")[2].rstrip("`")


def test_mass_deletion_waits_and_the_rest_of_the_commit_goes_on(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            first = await world.converged()
            world.drop("Site", *SITES[1:])
            world.change("Site", "site1-1", phpVersion="8.2", domain="other.test")
            commit = world.push()
            plan = await plan_that_waits(world)

            await world.until_spec("Site", "site1-1", domain="other.test")
            await asyncio.sleep(300)
            assert set(SITES) <= {one.partition("/")[2] for one in await world.recorded()}
            told = await world.condition("Site", "site1-3", "Stalled")
            assert told is not None
            assert (told.status, told.reason, told.observed_revision) == ("True", "NeedsApproval", commit)
            assert (
                told.message
                == f"4 of 8 recorded resources would be removed or replaced; `reconciler approve {plan}`"
            )
            assert await world.ready("Site", "site1-3") == "True ReconciliationSucceeded"
            assert await world.ready("Fleet", "main") == "False Progressing"
            assert commit != first

            done = await world.approve(plan)
            assert done.stored.approved == ["mass-deletion"]
            await world.settled(commit)
            assert not set(SITES[1:]) & {one.partition("/")[2] for one in await world.recorded()}
            assert await world.says("Fleet", "main", "Stalled") == "False Succeeded"
            assert await world.condition("Site", "site1-3", "Stalled") is None

    played(tmp_path, scene)


def test_dropping_a_database_waits_and_an_approval_counts_after_a_restart(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            world.change("Database", "db1-1", deletionPolicy="delete")
            await world.converged()
            world.drop("Database", "db1-1")
            commit = world.push()
            plan = await plan_that_waits(world)
            assert (await world.says("Database", "db1-1", "Stalled")).startswith(
                "True NeedsApproval 1 database would be dropped"
            )
            world.node("web1").down = True
            await world.approve(plan)
            await asyncio.sleep(5)
            assert "Database/db1-1" in await world.recorded()
        world.node("web1").down = False
        async with world.daemon(owner="here:2:y"):
            await world.settled(commit)
            assert "Database/db1-1" not in await world.recorded()
            assert not any(key.startswith("mariadb_database") for key in world.node("web1").things)

    played(tmp_path, scene)


def test_an_approval_counts_for_the_same_content_when_the_record_has_moved(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            world.drop("Site", *SITES[1:])
            world.change("Site", "site1-1", domain="other.test")
            world.node("web1").failing = {"Site/site1-1"}
            commit = world.push()
            plan = await plan_that_waits(world)
            await world.until_says("Site", "site1-1", "Ready", "False ReconciliationFailed")
            await world.suspend("Server", "web1", "wait a moment")
            await world.until_says("Server", "web1", "Reconciling", "False Suspended")
            [newest, *_] = await world.plans()
            with pytest.raises(UsageFault, match="was superseded by a newer one") as told:
                await world.approve(plan)
            assert told.value.hint == f"plan {newest.id} of the same fleet waits"
            await world.approve(newest.id)
            await asyncio.sleep(5)
            world.node("web1").failing = {f"Site/{name}" for name in SITES[1:]}
            await world.resume("Server", "web1")
            await world.until_spec("Site", "site1-1", domain="other.test")
        world.node("web1").failing = set()
        async with world.daemon(owner="here:2:y"):
            await world.settled(commit)
            # the plan that is carried out is not the one that was approved: the record was another by then
            assert (await world.plans())[0].identity != newest.identity
            assert (await world.plans())[0].status == "planned"
            assert not set(SITES[1:]) & {one.partition("/")[2] for one in await world.recorded()}

    played(tmp_path, scene)


def test_an_approval_does_not_cover_a_later_larger_deletion(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            world.drop("Site", "site1-2", "site1-3", "site1-4", "site1-5")
            world.push()
            plan = await plan_that_waits(world)
            await world.suspend("Server", "web1", "not yet")
            await world.until_says("Server", "web1", "Reconciling", "False Suspended")
            await world.approve((await world.plans())[0].id)
            await asyncio.sleep(5)
            assert (await world.says("Fleet", "main", "Stalled")).startswith("False")
            world.drop("Database", "db1-1")
            world.drop("Site", "site1-1")
            later = world.push()

            async def waits() -> bool:
                said = await world.condition("Fleet", "main", "Stalled")
                return said is not None and said.observed_revision == later and said.status == "True"

            await world.until(waits, 60)
            await world.resume("Server", "web1")
            await asyncio.sleep(300)
            assert len([one for one in await world.recorded() if one.startswith("Site/")]) == 5
            assert plan != (await world.plans())[0].id
            await world.approve((await world.plans())[0].id)
            await world.settled(later)
            assert not [one for one in await world.recorded() if one.startswith("Site/")]

    played(tmp_path, scene)


def test_approving_one_finding_releases_what_no_other_holds(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            world.change("Database", "db1-1", deletionPolicy="delete")
            await world.converged()
            world.drop("Database", "db1-1")
            world.drop("Site", *SITES[1:])
            commit = world.push()
            plan = await plan_that_waits(world)
            await world.approve(plan, "mass-deletion")

            async def gone() -> bool:
                return "Site/site1-2" not in await world.recorded()

            await world.until(gone, 60)
            await asyncio.sleep(60)
            assert "Database/db1-1" in await world.recorded()
            assert (await world.says("Fleet", "main", "Stalled")).startswith("True NeedsApproval data-loss:")
            await world.approve((await world.plans())[0].id)
            await world.settled(commit)
            assert "Database/db1-1" not in await world.recorded()

    played(tmp_path, scene)


def test_what_is_protected_never_goes(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            world.change("Site", "site1-2", protect=True)
            await world.converged()
            world.drop("Site", "site1-2")
            world.change("Site", "site1-3", domain="other.test")
            world.push()
            said = await world.until_says("Fleet", "main", "Stalled", "True Refused")
            assert "protect: false" in said
            assert "reconciler approve" not in said
            assert (await world.says("Site", "site1-2", "Stalled")).startswith(
                "True Refused 1 protected resource"
            )
            await asyncio.sleep(300)
            assert "Site/site1-2" in await world.recorded()
            assert (await world.spec("Site", "site1-3"))["domain"] == "other.test"

    played(tmp_path, scene)


def test_a_server_with_sites_is_not_forgotten(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            world.drop("Server", "web1")
            world.drop("Site", *SITES)
            world.drop("Database", "db1-1")
            commit = world.push()
            plan = await plan_that_waits(world)
            assert "server-with-sites" in await world.says("Fleet", "main", "Stalled")
            await asyncio.sleep(300)
            assert "Server/web1" in await world.recorded()
            assert world.node("web1").things
            await world.approve(plan)
            await world.settled(commit)
            assert [one for one in await world.recorded() if one.startswith(("Server/", "Site/"))] == []

    played(tmp_path, scene)


def test_an_empty_source_deletes_nothing_and_cannot_be_approved(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            before = await world.recorded()
            kept = dict(world.files)
            world.files.clear()
            world.push()
            said = await world.until_says("Fleet", "main", "Stalled", "True Refused empty-source")
            assert "Nothing is deleted" in said
            assert "approve" not in said
            await asyncio.sleep(300)
            assert await world.recorded() == before
            commit = world.commit(kept)
            await world.settled(commit)
            assert await world.says("Fleet", "main", "Stalled") == "False Succeeded"

    played(tmp_path, scene)


def test_a_source_that_cannot_be_read_deletes_nothing(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon() as daemon:
            good = await world.converged()
            before = await world.recorded()
            world.source.unreadable = "the tree of the commit is damaged"
            world.drop("Site", *SITES)
            commit = world.push()
            said = await world.until_says("Fleet", "main", "SourceReady", "False SourceRefused")
            assert said.endswith("the tree of the commit is damaged")
            target = daemon.fleets["main"].target
            assert target is not None
            assert target.commit == good
            await asyncio.sleep(120)
            assert await world.recorded() == before
        async with world.daemon(owner="here:2:y") as daemon:
            await asyncio.sleep(120)
            assert await world.recorded() == before, "nor after a restart, when no revision is known"
            world.source.unreadable = ""
            daemon.look("main", "poll")
            await plan_that_waits(world)
            assert await world.status(commit) == "applying"

    played(tmp_path, scene)


def test_one_file_of_bad_yaml_stops_removals_and_names_its_line(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            world.drop("Site", "site1-2")
            world.change("Site", "site1-3", domain="other.test")
            commit = world.commit({"sites/site1-4.yaml": "kind: Site\nspec: [unclosed\n"})
            said = await world.until_says("Fleet", "main", "Stalled", "True InvalidManifest")
            assert "sites/site1-4.yaml:" in said
            await asyncio.sleep(120)
            assert {"Site/site1-2", "Site/site1-4"} <= set(await world.recorded())
            assert (await world.spec("Site", "site1-3"))["domain"] == "other.test"
            assert await world.ready("Site", "site1-4") == "True ReconciliationSucceeded"
            assert commit

            mended = world.commit({"sites/site1-4.yaml": FILES["sites/site1-4.yaml"]})
            await world.settled(mended)
            assert "Site/site1-2" not in await world.recorded(), (
                "the removal follows once everything can be read"
            )
            assert "Site/site1-4" in await world.recorded()

    played(tmp_path, scene)


def test_a_broken_manifest_is_told_where_it_is_and_the_others_go_on(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            world.change("Site", "site1-2", phpVersion="9.9")
            world.change("Site", "site1-3", domain="other.test")
            world.put("Site", "fresh", {"server": "web1", "domain": "fresh.test", "phpVersion": 8})
            broken = world.push()
            said = await world.until_says("Site", "site1-2", "Stalled", "True InvalidManifest")
            assert "sites/site1-2.yaml:" in said
            assert (await world.says("Site", "fresh", "Ready")).startswith("Unknown InvalidManifest")
            assert (await world.condition("Site", "site1-2", "Stalled")).observed_revision == broken  # type: ignore[union-attr]
            await asyncio.sleep(60)
            assert (await world.spec("Site", "site1-3"))["domain"] == "other.test"
            assert (await world.spec("Site", "site1-2"))["phpVersion"] == "8.2"
            assert await world.says("Site", "site1-2", "Stalled") == said, "for as long as it is broken"
            assert await world.ready("Site", "site1-2") == "True ReconciliationSucceeded"

            world.change("Site", "site1-2", phpVersion="8.2")
            world.drop("Site", "fresh")
            mended = world.push()
            await world.settled(mended)
            assert await world.says("Site", "site1-2", "Stalled") == "False Succeeded"
            assert await world.condition("Site", "fresh", "Ready") is None

    played(tmp_path, scene)
