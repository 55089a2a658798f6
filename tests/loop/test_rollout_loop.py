"""Rollouts in the loop: waves, how many at one time, soaks, gates, failures, and what a newer commit means."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from reconciler.testing import builders

from .world import LoopWorld, Scene, play, rollout

CANARY = {"name": "canary", "selector": {"group": "canary"}}
REST = {"name": "rest"}


def fleet(labels: Sequence[str], sites: int = 1) -> dict[str, str]:
    """As many servers as labels, each with its label `group`, without a Rollout."""
    return builders.fleet_files(len(labels), sites, labels=labels)


def played(tmp_path: Path, labels: Sequence[str], scene: Scene, **more: Any) -> None:
    play(tmp_path, fleet(labels) | more.pop("also", {}), scene, **more)


def change_all(world: LoopWorld, word: str) -> str:
    """A commit that changes something on every server."""
    for path in list(world.files):
        if path.startswith("sites/"):
            name = path.removeprefix("sites/").removesuffix(".yaml")
            world.change("Site", name, domain=f"{word}-{name}.test")
    return world.push()


async def on(world: LoopWorld, word: str) -> set[str]:
    """The servers that have a commit of `change_all`, as recorded."""
    found = set()
    for server in world.nodes.values():
        spec = await world.spec("Site", f"site{server.server.removeprefix('web')}-1")
        if spec.get("domain", "").startswith(f"{word}-"):
            found.add(server.server)
    return found


class Watch:
    """Samples a world, many times a second of its time: the most servers that were away at once, and who began when."""

    def __init__(self, world: LoopWorld) -> None:
        self.world = world
        self.most = 0
        self.began: dict[str, float] = {}
        self.samples = 0
        self._before = {server.server: server.applied for server in world.nodes.values()}

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            phases = await self.world.phases()
            busy = {node.server for node in self.world.nodes.values() if node.running}
            away = busy | {name for name, state in phases.items() if state in ("applying", "soaking")}
            self.most = max(self.most, len(away))
            for name in away:
                self.began.setdefault(name, loop.time())
            self.samples += 1
            await asyncio.sleep(0.2)


@contextlib.asynccontextmanager
async def watched(world: LoopWorld) -> AsyncIterator[Watch]:
    watch = Watch(world)
    task = asyncio.create_task(watch.run())
    try:
        yield watch
    finally:
        task.cancel()
        await asyncio.wait([task])


def test_the_canary_comes_first_and_never_more_than_allowed_are_away(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            await world.settled(
                world.commit(
                    rollout(waves=[CANARY | {"soak": "30s"}, REST | {"maxUnavailable": 2}], soak="10s")
                )
            )
            for node in world.nodes.values():
                node.step_seconds = 0.5
            async with watched(world) as watch:
                commit = change_all(world, "new")
                said = await world.until_says("Site", "site2-1", "Reconciling", "True RolloutWaiting", 30)
                assert said.endswith("wave canary is not complete")
                await world.until(lambda: world.healthy(commit), 900)
            assert watch.samples > 100
            assert watch.most == 2, "as many as allowed, and no more"
            assert min(watch.began.values()) == watch.began["web1"]
            others = sorted(at for name, at in watch.began.items() if name != "web1")
            assert others[0] - watch.began["web1"] >= 30, "the canary has soaked"
            assert others[2] - others[0] >= 10, "the third waits for one of the first two, soaked"
            assert await on(world, "new") == {f"web{number}" for number in range(1, 6)}
            told = [one for one in await world.events("Fleet", "main") if one.startswith("RolloutComplete")]
            assert told[-1] == f"RolloutComplete {commit[:12]} is on every server that it concerns"
            assert len(told) == 3

    played(tmp_path, ["canary", "rest", "rest", "rest", "rest"], scene)


def test_servers_without_a_rollout_do_not_wait(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            await world.settled(world.commit(rollout(selector={"group": "careful"}, soak="5m")))
            change_all(world, "new")
            await asyncio.sleep(20)
            assert await on(world, "new") == {"web1", "web3"}
            assert (await world.phases())["web2"] == "pending"

    played(tmp_path, ["careful", "careful", "free"], scene)


def test_a_failed_server_stops_its_rollout_only(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            files = rollout("a", selector={"group": "a"}) | rollout("b", selector={"group": "b"})
            await world.settled(world.commit(files))
            world.node("web1").failing = {"Site/site1-1"}
            commit = change_all(world, "new")
            await asyncio.sleep(120)
            assert await on(world, "new") == {"web3", "web4", "web5"}
            assert (await world.says("Site", "site2-1", "Reconciling")).endswith("web1 failed")
            assert await world.phases() == {
                "web1": "failed",
                "web2": "pending",
                "web3": "healthy",
                "web4": "healthy",
                "web5": "healthy",
            }
            assert not await world.healthy(commit)
            world.node("web1").failing = set()
            await world.until(lambda: world.healthy(commit), 1800)
            assert len(await on(world, "new")) == 5

    played(tmp_path, ["a", "a", "b", "b", "free"], scene)


def test_an_unreachable_server_holds_its_rollout_up_until_it_is_back(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            await world.settled(world.commit(rollout()))
            world.node("web1").down = True
            commit = change_all(world, "new")
            await world.until_says("Site", "site1-1", "Reconciling", "True NodeUnreachable")
            await asyncio.sleep(60)
            assert await on(world, "new") == set()
            world.node("web1").down = False
            await world.until(lambda: world.healthy(commit), 1800)
            assert await on(world, "new") == {"web1", "web2"}

    played(tmp_path, ["a", "a"], scene)


def test_a_wave_of_none_waits_for_its_release_over_a_restart(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            await world.settled(world.commit(rollout(waves=[CANARY, REST | {"maxUnavailable": 0}])))

            async def released() -> bool:
                return (await world.says("Site", "site2-1", "Reconciling")).endswith("released")

            commit = change_all(world, "new")
            await world.until(released, 60)
            assert await on(world, "new") == {"web1"}
            wrong = await world.ask("reconcile", "Fleet/main", release_wave="everyone")
            assert (wrong.outcome, wrong.message) == (
                "refused",
                "no rollout has a wave everyone; there are canary, rest",
            )
            world.node("web2").down = True
            done = await world.ask("reconcile", "Fleet/main", release_wave="rest")
            assert done.outcome == "done"
            await world.until_says("Site", "site2-1", "Reconciling", "True NodeUnreachable")
        world.node("web2").down = False
        async with world.daemon(owner="here:2:y"):
            await world.until(lambda: world.healthy(commit))
            assert await on(world, "new") == {"web1", "web2", "web3"}
            later = change_all(world, "newer")
            await world.until(released, 60)
            await asyncio.sleep(300)
            assert await on(world, "newer") == {"web1"}, "a release is of one commit"
            assert not await world.healthy(later)

    played(tmp_path, ["canary", "rest", "rest"], scene)


def test_a_restart_in_the_middle_of_a_soak_goes_on_where_it_was(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            await world.settled(world.commit(rollout(soak="10m")))
            commit = change_all(world, "new")

            async def soaks() -> bool:
                return (await world.phases()).get("web1") == "soaking"

            await world.until(soaks, 60)
            began = world.clock()
            await asyncio.sleep(240)
        await asyncio.sleep(60)
        async with world.daemon(owner="here:2:y"):
            await asyncio.sleep(60)
            assert await world.phases() == {"web1": "soaking", "web2": "pending"}
            await world.until_spec("Site", "site2-1", 1200, domain="new-site2-1.test")
            waited = world.clock() - began
            assert timedelta(minutes=10) <= waited < timedelta(minutes=11), (
                "the soak neither begins anew nor is cut"
            )
            assert [d.status for d in await world.deployments("site1-1")] == ["success", "success"]
            await world.until(lambda: world.healthy(commit), 1200)

    played(tmp_path, ["a", "a"], scene)


def test_the_newest_commit_wins_in_the_middle_of_a_rollout(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            await world.settled(world.commit(rollout(waves=[CANARY, REST], soak="1m")))
            older = change_all(world, "old")
            await world.until_spec("Site", "site1-1", domain="old-site1-1.test")
            newer = change_all(world, "new")
            await world.until(lambda: world.healthy(newer), 1800)
            assert await on(world, "new") == {"web1", "web2", "web3"}
            assert not await world.healthy(older)
            domains = [d.commit_hash for d in await world.deployments("site3-1")]
            assert older not in domains, "what was not begun is not done"

    played(tmp_path, ["canary", "rest", "rest"], scene)


def test_a_newer_commit_waits_for_what_runs_of_the_older_one(tmp_path: Path) -> None:
    """The older revision is still being applied to web2 when the newer one comes: web1 is not taken away as well."""

    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            await world.settled(world.commit(rollout()))
            world.node("web2").step_seconds = 30.0
            change_all(world, "old")

            async def second_runs() -> bool:
                return bool(world.node("web2").running)

            await world.until(second_runs, 60)
            world.node("web1").step_seconds = 5.0
            async with watched(world) as watch:
                newer = change_all(world, "new")
                await world.until(lambda: world.healthy(newer), 3600)
            assert watch.most == 1
            assert await on(world, "new") == {"web1", "web2"}

    played(tmp_path, ["a", "a"], scene)


def test_what_is_approved_later_takes_its_turn_server_by_server(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            await world.settled(world.commit(rollout()))
            for node in world.nodes.values():
                node.step_seconds = 2.0
            for server in (1, 2, 3):
                world.change("Site", f"site{server}-1", domain=f"new{server}.test")
                world.drop("Site", f"site{server}-2", f"site{server}-3")
            commit = world.push()
            said = await world.until_says("Fleet", "main", "Stalled", "True NeedsApproval mass-deletion")

            async def done() -> bool:
                return set((await world.phases()).values()) == {"healthy"}

            await world.until(done, 600)
            async with watched(world) as watch:
                await world.approve(said.partition("`reconciler approve ")[2].rstrip("`"))
                await world.settled(commit)
            assert watch.most == 1
            assert sorted(watch.began) == ["web1", "web2", "web3"]

    play(tmp_path, fleet(["a", "a", "a"], 3), scene)


def test_servers_between_which_something_moves_change_together(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            await world.settled(world.commit(rollout(waves=[CANARY, REST])))
            world.change("Site", "site1-1", server="web3")
            world.change("Site", "site2-1", domain="new.test")
            commit = world.push()
            await world.until(lambda: world.healthy(commit), 900)
            assert (await world.spec("Site", "site1-1"))["server"] == "web3"
            assert not [key for key in world.node("web1").things if "site1-1" in key]

    played(tmp_path, ["canary", "rest", "rest"], scene)


def test_a_suspended_server_does_not_hold_up_the_others(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            await world.settled(world.commit(rollout()))
            await world.suspend("Server", "web1", "the disk is being replaced")
            commit = change_all(world, "new")
            await asyncio.sleep(60)
            assert await on(world, "new") == {"web2", "web3"}
            assert not await world.healthy(commit)
            await world.resume("Server", "web1")
            await world.until(lambda: world.healthy(commit))
            assert await on(world, "new") == {"web1", "web2", "web3"}

    played(tmp_path, ["a", "a", "a"], scene)


def test_a_server_that_is_checked_and_soaks_is_watched_all_the_time(tmp_path: Path) -> None:
    """A check that fails once in the soak begins it anew; the next server waits for it."""
    ill: dict[str, str] = {}

    async def faults(declared: object, server: str, **means: object) -> Mapping[str, str]:
        return ill if server == "web1" else {}

    async def scene(world: LoopWorld) -> None:
        async with world.daemon(faults=faults):
            await world.converged()
            await world.settled(world.commit(rollout(soak="5m")))
            commit = change_all(world, "new")
            await asyncio.sleep(200)
            assert (await world.phases())["web1"] == "soaking"
            ill["Site/site1-1 http /"] = "503"
            await asyncio.sleep(30)
            assert (await world.phases())["web1"] == "applying"
            ill.clear()
            again = world.clock()
            await world.until_spec("Site", "site2-1", 1200, domain="new-site2-1.test")
            assert world.clock() - again >= timedelta(minutes=5)
            await world.until(lambda: world.healthy(commit), 900)

    played(tmp_path, ["a", "a"], scene)
