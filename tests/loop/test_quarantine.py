"""Health after a change: what passes in time, what puts a revision aside, and what is followed then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path

from reconciler.testing import builders

from .world import LoopWorld, play, rollout

DOWN = {"Site/site1-1 http /": "503 Service Unavailable"}
FILES = builders.fleet_files(2, 2, databases=1)
for _site in ("site1-1", "site1-2"):
    _path = builders.path_of("Site", _site)
    FILES[_path] += "  healthChecks:\n    - http: {path: /}\n"


class Health:
    """Health checks that a test decides: `ill` says what is wrong with a server now, from what is recorded."""

    def __init__(self) -> None:
        self.ill: Callable[[str], Mapping[str, str]] = lambda server: {}
        self.asked: list[str] = []

    async def __call__(self, declared: object, server: str, **means: object) -> Mapping[str, str]:
        self.asked.append(server)
        return self.ill(server)


def on_web1(found: Mapping[str, str]) -> Callable[[str], Mapping[str, str]]:
    return lambda server: found if server == "web1" else {}


def played(tmp_path: Path, scene: Callable[[LoopWorld, Health], object]) -> None:
    async def with_health(world: LoopWorld) -> None:
        await scene(world, Health())  # type: ignore[misc]

    play(tmp_path, FILES, with_health)


def change(world: LoopWorld, word: str) -> str:
    for site in ("site1-1", "site2-1"):
        world.change("Site", site, domain=f"{word}-{site}.test")
    return world.push()


async def domains(world: LoopWorld) -> list[str]:
    """The first words of the domains of site1-1 and site2-1, as recorded."""
    return [(await world.spec("Site", site))["domain"].partition("-")[0] for site in ("site1-1", "site2-1")]


def breaks(world: LoopWorld, word: str) -> Callable[[str], Mapping[str, str]]:
    """web1 is ill as long as its node has what a commit of `change` made of it."""

    def ill(server: str) -> Mapping[str, str]:
        bodies = (
            world.node("web1").written.get(str(thing.get("sha256")), b"")
            for key, thing in world.node("web1").things.items()
            if key.startswith("file:")
        )
        return DOWN if server == "web1" and any(f"{word}-site1-1".encode() in body for body in bodies) else {}

    return ill


def test_checks_that_fail_for_less_than_their_time_are_no_failure(tmp_path: Path) -> None:
    async def scene(world: LoopWorld, health: Health) -> None:
        async with world.daemon(faults=health):
            await world.converged()
            await world.settled(world.commit(rollout(healthTimeout="2m")))
            began = world.clock()
            bad = breaks(world, "new")
            health.ill = lambda server: bad(server) if world.clock() - began < timedelta(seconds=100) else {}
            commit = change(world, "new")
            await asyncio.sleep(60)
            assert (await world.phases())["web1"] == "applying"
            await world.until(lambda: world.healthy(commit))
            assert world.clock() - began >= timedelta(seconds=100)
            assert await world.status(commit) == "applied"
            assert not [one for one in await world.events("Fleet", "main") if one.startswith("Quarantined")]

    played(tmp_path, scene)


def test_the_time_for_checks_begins_when_the_change_is_there(tmp_path: Path) -> None:
    """The apply itself takes longer than the health checks may fail."""

    async def scene(world: LoopWorld, health: Health) -> None:
        async with world.daemon(faults=health):
            await world.converged()
            await world.settled(world.commit(rollout(healthTimeout="30s")))
            world.node("web1").step_seconds = 40.0
            commit = change(world, "new")
            await world.until_spec("Site", "site1-1", 900, domain="new-site1-1.test")
            health.ill = on_web1(DOWN)
            await asyncio.sleep(15)
            health.ill = on_web1({})
            await world.until(lambda: world.healthy(commit))
            assert await world.status(commit) == "applied"

    played(tmp_path, scene)


def test_checks_that_failed_before_say_nothing_about_the_commit(tmp_path: Path) -> None:
    async def scene(world: LoopWorld, health: Health) -> None:
        async with world.daemon(faults=health):
            await world.converged()
            await world.settled(world.commit(rollout(healthTimeout="30s")))
            health.ill = on_web1(DOWN)
            commit = change(world, "new")
            await world.until(lambda: world.healthy(commit))
            assert await domains(world) == ["new", "new"]

    played(tmp_path, scene)


def test_a_revision_whose_checks_fail_is_put_aside_and_the_last_good_one_applied(tmp_path: Path) -> None:
    async def scene(world: LoopWorld, health: Health) -> None:
        async with world.daemon(faults=health) as daemon:
            await world.converged()
            await world.settled(good := world.commit(rollout(healthTimeout="1m")))
            await world.until(lambda: world.healthy(good))
            health.ill = breaks(world, "bad")
            bad = change(world, "bad")
            said = await world.until_says("Fleet", "main", "Stalled", "True Quarantined", 300)
            assert said == (
                f"True Quarantined {bad[:12]} is quarantined (Server/web1: Site/site1-1 http /: 503 Service Unavailable); "
                f"{good[:12]} is followed until the next commit"
            )
            assert (await world.condition("Fleet", "main", "Stalled")).observed_revision == good  # type: ignore[union-attr]
            assert await world.status(bad) == "quarantined"
            await world.until_spec("Site", "site1-1", domain="site1-1.test")
            assert (
                f"Quarantined {bad[:12]} is quarantined: Server/web1: Site/site1-1 http /: 503 Service Unavailable"
                in (await world.events("Fleet", "main"))
            )
            assert await domains(world) == ["site1", "site2"], "web2 never got the bad one"
            assert bad not in {d.commit_hash for d in await world.deployments("site2-1")}
            await asyncio.sleep(900)
            target = daemon.fleets["main"].target
            assert target is not None
            assert target.commit == good
            assert await world.ready("Fleet", "main") == "True Synced"
            assert (await world.says("Fleet", "main", "Stalled")).startswith("True Quarantined")
            made = len(await world.deployments())
        async with world.daemon(owner="here:2:y", faults=health):
            await asyncio.sleep(300)
            assert (await world.says("Fleet", "main", "Stalled")).startswith("True Quarantined"), (
                "also after a restart"
            )
            assert len(await world.deployments()) == made
            commit = change(world, "fixed")
            await world.until(lambda: world.healthy(commit))
            assert await domains(world) == ["fixed", "fixed"]
            assert await world.says("Fleet", "main", "Stalled") == "False Succeeded"
            assert await world.status(bad) in ("quarantined", "superseded")

    played(tmp_path, scene)


def test_servers_without_a_rollout_are_watched_as_well(tmp_path: Path) -> None:
    async def scene(world: LoopWorld, health: Health) -> None:
        async with world.daemon(faults=health):
            await world.converged()
            health.ill = breaks(world, "bad")
            bad = change(world, "bad")
            await world.until_says("Fleet", "main", "Stalled", "True Quarantined", 300)
            await world.until_spec("Site", "site1-1", domain="site1-1.test")
            await world.until_spec("Site", "site2-1", domain="site2-1.test")
            assert await world.status(bad) == "quarantined"

    played(tmp_path, scene)


def test_going_back_that_would_drop_data_waits_for_a_person(tmp_path: Path) -> None:
    async def scene(world: LoopWorld, health: Health) -> None:
        async with world.daemon(faults=health):
            await world.converged()
            await world.settled(world.commit(rollout(healthTimeout="1m")))
            health.ill = breaks(world, "bad")
            spec = {
                "server": "web1",
                "site": "site1-2",
                "engine": "mariadb",
                "name": "fresh",
                "username": "fresh",
            }
            world.put("Database", "fresh", spec | {"deletionPolicy": "delete"})
            change(world, "bad")
            said = await world.until_says("Fleet", "main", "Stalled", "True Quarantined", 300)
            await world.until_spec("Site", "site1-1", domain="site1-1.test")
            await asyncio.sleep(300)
            assert "Database/fresh" in await world.recorded()
            assert "mariadb_database:fresh" in world.node("web1").things
            said = await world.says("Fleet", "main", "Stalled")
            assert said.startswith("True Quarantined")
            assert "data-loss" in said
            plan = said.rpartition("`reconciler approve ")[2].rstrip("`")
            assert (await world.says("Database", "fresh", "Stalled")).startswith("True NeedsApproval")
            await world.approve(plan)

            async def gone() -> bool:
                return "Database/fresh" not in await world.recorded()

            await world.until(gone, 120)

    played(tmp_path, scene)


def test_without_a_good_revision_everything_stays_and_says_so(tmp_path: Path) -> None:
    async def scene(world: LoopWorld, health: Health) -> None:
        async with world.daemon(faults=health):
            world.files.update(rollout(healthTimeout="30s"))
            world.node("web2").failing = {"Site/site2-2"}
            world.push()
            await world.until_says("Site", "site2-2", "Ready", "False ReconciliationFailed", 300)
            await world.until_spec("Site", "site1-1", domain="site1-1.test")
            world.node("web2").failing = set()
            health.ill = breaks(world, "bad")
            bad = change(world, "bad")
            said = await world.until_says("Fleet", "main", "Stalled", "True Quarantined", 600)
            assert said.startswith(f"True Quarantined {bad[:12]} is quarantined (Server/web1:")
            assert said.endswith("and there is no revision to go back to; push another one")
            await asyncio.sleep(60)
            made = len(await world.deployments())
            before = await world.recorded()
            await asyncio.sleep(600)
            assert len(await world.deployments()) == made
            assert await world.recorded() == before
            assert (await world.spec("Site", "site1-1"))["domain"] == "bad-site1-1.test"
            assert (await world.says("Fleet", "main", "Stalled")).startswith("True Quarantined")
            commit = change(world, "fixed")
            await world.until(lambda: world.healthy(commit))
            assert await world.says("Fleet", "main", "Stalled") == "False Succeeded"

    played(tmp_path, scene)


def test_on_failure_stop_only_stops(tmp_path: Path) -> None:
    async def scene(world: LoopWorld, health: Health) -> None:
        async with world.daemon(faults=health):
            await world.converged()
            await world.settled(world.commit(rollout(healthTimeout="30s", onFailure="stop")))
            health.ill = breaks(world, "bad")
            bad = change(world, "bad")
            said = await world.until_says("Fleet", "main", "Stalled", "True Unhealthy", 300)
            assert said == "True Unhealthy web1 is not healthy: Site/site1-1 http /: 503 Service Unavailable"
            await asyncio.sleep(300)
            assert await domains(world) == ["bad", "site2"]
            assert (await world.says("Site", "site2-1", "Reconciling")).endswith("web1 failed")
            assert await world.status(bad) != "quarantined"
            told = [one for one in await world.events("Fleet", "main") if one.startswith("Unhealthy")]
            assert len(told) == 1, "told once, not at every check"
        async with world.daemon(owner="here:2:y", faults=health):
            await asyncio.sleep(120)
            assert (await world.says("Fleet", "main", "Stalled")).startswith("True Unhealthy"), (
                "also after a restart"
            )
            health.ill = on_web1({})
            await world.until(lambda: world.healthy(bad), 900)
            assert await domains(world) == ["bad", "bad"]
            assert await world.says("Fleet", "main", "Stalled") == "False Succeeded"

    played(tmp_path, scene)


def test_a_last_good_revision_that_is_not_healthy_either_is_told(tmp_path: Path) -> None:
    async def scene(world: LoopWorld, health: Health) -> None:
        async with world.daemon(faults=health):
            await world.converged()
            await world.settled(world.commit(rollout(healthTimeout="1m")))
            other = {"Site/site1-2 http /": "404 Not Found"}
            bad = breaks(world, "bad")
            seen: list[str] = []

            def ill(server: str) -> Mapping[str, str]:
                if server == "web1" and bad(server):
                    seen.append(server)
                    return DOWN
                return other if server == "web1" and seen else {}

            health.ill = ill
            change(world, "bad")
            await world.until_says("Fleet", "main", "Stalled", "True Quarantined", 300)

            async def told() -> bool:
                return "404 Not Found" in await world.says("Fleet", "main", "Stalled")

            await world.until(told, 600)
            assert (await world.says("Fleet", "main", "Stalled")).startswith("True Quarantined")
            assert await domains(world) == ["site1", "site2"]
            health.ill = on_web1({})

            async def over() -> bool:
                return not await told()

            await world.until(over, 300)

    played(tmp_path, scene)
