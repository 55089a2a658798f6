"""Suspensions in the loop: nothing is done, and it is taken up again when they end; history and conditions meanwhile."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from reconciler.store.queries import history
from reconciler.testing import builders

from .world import LoopWorld, play

FILES = builders.fleet_files(2, 2)


def drifted(world: LoopWorld, server: str, site: str) -> str:
    """Change the mode of a site's file on the node; the thing's key."""
    things = world.node(server).things
    key = next(key for key in sorted(things) if key.startswith("file:") and site in key)
    things[key]["mode"] = "0777"
    return key


@pytest.mark.parametrize("kind", ["Fleet", "Server", "Site"])
def test_what_is_suspended_is_left_alone_until_it_is_resumed(tmp_path: Path, kind: str) -> None:
    name = {"Fleet": "main", "Server": "web1", "Site": "site1-1"}[kind]

    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            world.change("Site", "site1-1", drift={"mode": "heal", "every": "5m"})
            await world.converged()
            await world.suspend(kind, name, "the disk is being replaced")
            told = ("Server", "web1") if kind == "Fleet" else (kind, name)
            said = await world.until_says(*told, "Stalled", "False Suspended")
            assert said == "False Suspended suspended by ada: the disk is being replaced"
            made = len(await world.deployments("site1-1"))
            key = drifted(world, "web1", "site1-1")
            world.change("Site", "site1-1", domain="other.test")
            commit = world.push()
            await asyncio.sleep(1800)
            await world.ask("heal", "Server/web1")
            await asyncio.sleep(30)
            assert len(await world.deployments("site1-1")) == made
            assert world.node("web1").things[key]["mode"] == "0777"
            assert await world.status(commit) == "applying"
            assert (await world.condition(*told, "Stalled")).observed_revision == commit  # type: ignore[union-attr]

            await world.resume(kind, name)
            await world.settled(commit)
            assert (await world.spec("Site", "site1-1"))["domain"] == "other.test"
            assert world.node("web1").things[key]["mode"] != "0777"
            assert not (await world.says(*told, "Stalled")).startswith("False Suspended")

    play(tmp_path, FILES, scene)


def test_a_suspended_site_does_not_hold_up_its_server(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            await world.suspend("Site", "site1-1", "its owner works on it")
            world.change("Site", "site1-1", domain="other1.test")
            world.change("Site", "site1-2", domain="other2.test")
            world.change("Server", "web1", hostname="web1.example.test")
            world.push()
            await world.until_spec("Site", "site1-2", domain="other2.test")
            await world.until_spec("Server", "web1", hostname="web1.example.test")
            assert (await world.spec("Site", "site1-1"))["domain"] == "site1-1.test"

    play(tmp_path, FILES, scene)


def test_a_suspended_fleet_records_nothing_either(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            await world.suspend("Fleet", "main", "an audit")
            await world.until_says("Server", "web1", "Stalled", "False Suspended")
            before = await world.recorded()
            world.put("User", "grace", {"email": "grace@example.test", "role": "viewer"})
            world.put("Site", "fresh", {"server": "web1", "domain": "fresh.test", "phpVersion": "8.2"})
            world.push()
            await asyncio.sleep(120)
            assert await world.recorded() == before

    play(tmp_path, FILES, scene)


def test_a_suspension_that_expires_is_taken_up_again(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            until = world.clock() + timedelta(minutes=20)
            await world.suspend("Server", "web1", "until the disk is there", until)
            world.change("Site", "site1-1", domain="other.test")
            commit = world.push()
            await asyncio.sleep(19 * 60)
            assert (await world.spec("Site", "site1-1"))["domain"] == "site1-1.test"
            await asyncio.sleep(120)
            assert await world.status(commit) == "applied"
            assert "Resumed the suspension's time is over" in await world.events("Server", "web1")

    play(tmp_path, FILES, scene)


def test_repeats_are_one_entry_of_the_history(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            world.node("web1").failing = {"Site/site1-1"}
            world.change("Site", "site1-1", domain="other.test")
            bad = world.push()
            await asyncio.sleep(900)
            tries = [d for d in await world.deployments("site1-1") if d.status == "failed"]
            assert len(tries) > 3
            entries = await world.store.aread(lambda tx: history.listed(tx, "Site", "site1-1"))
            assert [(e.status, e.revision, e.times) for e in entries[:1]] == [("failed", bad, len(tries))]
            assert entries[0].first_at < entries[0].last_at
            assert len(entries) == 2
            world.node("web1").failing = set()
            await world.settled(bad, 4000)  # what is stalled is tried again within the hour
            entries = await world.store.aread(lambda tx: history.listed(tx, "Site", "site1-1"))
            assert [e.status for e in entries] == ["succeeded", "failed", "succeeded"]

    play(tmp_path, FILES, scene)


def test_every_condition_names_the_revision_it_speaks_of(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            drifted(world, "web1", "site1-1")
            world.node("web2").failing = {"Site/site2-1"}
            world.change("Site", "site2-1", domain="other.test")
            world.change("Site", "site2-2", phpVersion="9.9")
            known = {world.push(), *(commit for commit, _ in world.source.commits)}
            await world.suspend("Site", "site1-2", "a reason")
            await world.ask("reconcile", "Fleet/main")
            await asyncio.sleep(60)
            world.node("web1").down = True
            await world.ask("reconcile", "Fleet/main")
            await world.until_says("Server", "web1", "Reachable", "False")
            world.source.broken = "the remote does not answer"
            world.push()
            await world.until_says("Fleet", "main", "SourceReady", "False")
            found = await world.conditions()
            assert {c.type for c in found} == {
                "Ready",
                "Reconciling",
                "Stalled",
                "Drifted",
                "Reachable",
                "RebootNeeded",
                "SourceReady",
            }
            assert not [c for c in found if c.observed_revision not in known]

    play(tmp_path, FILES, scene)
