"""Reviewed plans in the loop: a merged commit does what was reviewed or less, or nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from reconciler.app.planning import ENGINE
from reconciler.kit.clock import stamp
from reconciler.loop import target
from reconciler.plan.make import make_plan
from reconciler.record import inventory
from reconciler.store import Tx
from reconciler.store.queries import inventory as rows
from reconciler.store.queries import plans
from reconciler.testing import builders

from .world import LoopWorld, Scene, play

FILES = builders.fleet_files(1, 3)


def played(tmp_path: Path, scene: Scene) -> None:
    play(tmp_path, FILES, scene)


async def review(world: LoopWorld) -> str:
    """Review the files as they are, as the verb does it; the plan's id."""
    commit = world.source.push(world.files)
    snapshot, loaded = await world.source.read(commit)
    tree = await world.source.tree(commit)
    world.source.commits.pop()  # nobody merged it yet

    def unit(tx: Tx) -> str:
        recorded = inventory.recorded(tx, "main")
        plan = make_plan(loaded, recorded, head=snapshot, created_at=stamp(world.clock()), engine=ENGINE)
        stored = plans.put(tx, target.new_plan("main", tree, plan, plan.findings))
        plans.review(tx, stored.id, "grace")
        return stored.id

    return await world.store.awrite(unit)


def test_what_was_reviewed_is_applied(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            world.change("Site", "site1-1", domain="new1.test")
            world.change("Site", "site1-2", domain="new2.test")
            world.drop("Site", "site1-3")
            await review(world)
            commit = world.push()
            await world.settled(commit)
            assert (await world.spec("Site", "site1-1"))["domain"] == "new1.test"
            assert "Site/site1-3" not in await world.recorded()

    played(tmp_path, scene)


def test_less_than_what_was_reviewed_is_applied(tmp_path: Path) -> None:
    """Another commit did a part of it before; the tree is the reviewed one in the end."""

    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            world.change("Site", "site1-1", domain="new1.test")
            first = dict(world.files)
            world.change("Site", "site1-2", domain="new2.test")
            whole = dict(world.files)
            await review(world)
            world.files.clear()
            world.files.update(first)
            await world.settled(world.push())
            world.files.update(whole)
            commit = world.push()
            await world.settled(commit)
            assert (await world.spec("Site", "site1-2"))["domain"] == "new2.test"

    played(tmp_path, scene)


async def moved(world: LoopWorld, how: str) -> None:
    """Have the state move between a review and its merge, so that the same files mean more."""
    if how == "another commit":
        kept = dict(world.files)
        world.files.update(FILES)
        world.change("Site", "site1-3", domain="third.test")
        await world.settled(world.push())
        world.files.clear()
        world.files.update(kept)
        return

    def unit(tx: Tx) -> None:
        entry = rows.get(tx, "Site", "site1-3")
        assert entry is not None
        fields = {name: getattr(entry, name) for name in rows.Applied.__dataclass_fields__}
        spec = {**entry.spec, "spec": {**entry.spec["spec"], "domain": "by-hand.test"}}
        rows.put(tx, rows.Applied(**{**fields, "spec": spec, "digest": "0" * 64}))

    await world.store.awrite(unit)


@pytest.mark.parametrize("how", ["another commit", "by hand"])
def test_when_the_state_moved_nothing_runs_until_the_plan_is_approved(tmp_path: Path, how: str) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            world.change("Site", "site1-1", domain="new1.test")
            await review(world)
            await moved(world, how)
            before = {name: await world.spec("Site", name) for name in ("site1-1", "site1-3")}
            made = len(await world.deployments())
            commit = world.push()
            said = await world.until_says("Fleet", "main", "Stalled", "True PlanDiverged plan-diverged:")
            assert "Site/site1-3" in said
            assert (await world.says("Site", "site1-1", "Stalled")).startswith("True PlanDiverged")
            await asyncio.sleep(600)
            assert len(await world.deployments()) == made, "nothing of it runs, not even what was reviewed"
            assert {name: await world.spec("Site", name) for name in before} == before
            plan = said.partition("`reconciler approve ")[2].rstrip("`")
            done = await world.approve(plan)
            assert done.stored.approved == ["plan-diverged"]
            await world.settled(commit)
            assert (await world.spec("Site", "site1-1"))["domain"] == "new1.test"
            assert (await world.spec("Site", "site1-3"))["domain"] == "site1-3.test"
            assert await world.says("Fleet", "main", "Stalled") == "False Succeeded"

    played(tmp_path, scene)


def test_reviewing_again_lets_it_pass_too(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            world.change("Site", "site1-1", domain="new1.test")
            await review(world)
            await moved(world, "another commit")
            commit = world.push()
            await world.until_says("Fleet", "main", "Stalled", "True PlanDiverged")
            await review(world)
            world.nudge()
            await world.settled(commit)

    played(tmp_path, scene)


def test_an_attempt_that_failed_is_tried_again_also_after_a_restart(tmp_path: Path) -> None:
    """The record is another after a failed attempt; that is no divergence from what was reviewed."""

    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            world.change("Site", "site1-1", domain="new1.test")
            world.put("Site", "fresh", {"server": "web1", "domain": "fresh.test", "phpVersion": "8.2"})
            await review(world)
            world.node("web1").failing = {"Site/site1-1", "Site/fresh"}
            commit = world.push()
            await world.until_says("Site", "fresh", "Ready", "False ReconciliationFailed")
        async with world.daemon(owner="here:2:y"):
            await asyncio.sleep(60)
            assert "PlanDiverged" not in await world.says("Fleet", "main", "Stalled")
            world.node("web1").failing = set()
            await world.settled(commit, 1800)

    played(tmp_path, scene)


def test_a_review_is_done_with_once_its_commit_is_applied(tmp_path: Path) -> None:
    """What has to be done later, with the same commit, is no part of the review."""

    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            world.change("Site", "site1-1", domain="new1.test")
            await review(world)
            commit = world.push()
            await world.until(lambda: world.healthy(commit))
            await moved(world, "by hand")
            await world.ask("reconcile", "Fleet/main")
            await world.until_spec("Site", "site1-3", domain="site1-3.test")
            assert (await world.says("Fleet", "main", "Stalled")).startswith("False")

    played(tmp_path, scene)


def test_a_review_approves_no_guard(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            before = await world.recorded()
            world.drop("Site", "site1-1", "site1-2", "site1-3")
            world.drop("Server", "web1")
            await review(world)
            commit = world.push()
            said = await world.until_says("Fleet", "main", "Stalled", "True NeedsApproval")
            await asyncio.sleep(120)
            assert await world.recorded() == before
            listed = [one for one in await world.plans() if one.status == "waiting"]
            assert [one.id for one in listed] == [said.partition("`reconciler approve ")[2].rstrip("`")]
            await world.approve(listed[0].id)
            await world.settled(commit)

    played(tmp_path, scene)
