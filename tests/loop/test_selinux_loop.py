"""SELinux in the loop: a node that should enforce and does not, and levels that stay with their sites."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.nodes.answers import SelinuxState
from reconciler.selinux import mcs
from reconciler.store.queries import servers, sites
from reconciler.testing import builders

from .world import LoopWorld, play, rollout

FILES = builders.fleet_files(2, 2, os="alma_9")


MODES: tuple[SelinuxState, ...] = ("permissive", "disabled")


@pytest.mark.parametrize("mode", MODES)
def test_a_node_that_does_not_enforce_is_stalled_and_nothing_is_applied_to_it(
    tmp_path: Path, mode: SelinuxState
) -> None:
    async def scene(world: LoopWorld) -> None:
        node = world.node("web1")
        node.facts = replace(node.facts, selinux=mode)
        async with world.daemon():
            world.push()
            said = await world.until_says("Server", "web1", "Stalled", "True NeedsAttention")
            assert f"SELinux is {mode} on the node, the manifest says enforcing" in said
            assert node.applied == 0
            await world.until_spec("Site", "site2-1", domain="site2-1.test")
            node.facts = replace(node.facts, selinux="enforcing")
            await world.until_says("Server", "web1", "Stalled", "False", 4000)
            await world.until_spec("Site", "site1-1", 4000, domain="site1-1.test")

    play(tmp_path, FILES, scene)


def test_a_node_that_ceases_to_enforce_is_found_at_the_next_look(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            node = world.node("web1")
            node.facts = replace(node.facts, selinux="permissive")
            said = await world.until_says("Server", "web1", "Stalled", "True SELinuxNotEnforcing", 7200)
            assert "permissive" in said
            applied = node.applied
            world.change("Site", "site1-1", domain="other.test")
            world.push()
            await asyncio.sleep(60)
            assert node.applied == applied
            node.facts = replace(node.facts, selinux="enforcing")
            await world.until_says("Server", "web1", "Stalled", "False", 7200)
            await world.until_spec("Site", "site1-1", 7200, domain="other.test")

    play(tmp_path, FILES, scene)


def test_each_site_of_a_server_has_a_pair_of_its_own_for_life(tmp_path: Path) -> None:
    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            row = await world.store.aread(lambda tx: servers.get(tx, "web1"))
            assert row is not None
            first = {
                s.name: s.mcs_id for s in await world.store.aread(lambda tx: sites.all(tx, server_id=row.id))
            }
            assert sorted(filter(None, first.values())) == [mcs.of_site(1), mcs.of_site(2)]
            world.change("Site", "site1-1", domain="other.test")
            await world.settled(world.push())
            now = {
                s.name: s.mcs_id for s in await world.store.aread(lambda tx: sites.all(tx, server_id=row.id))
            }
            assert now == first

    play(tmp_path, FILES, scene)


RULE = "allow laravel_php_fpm_t ldap_port_t:tcp_socket name_connect;"


def test_a_policy_whose_change_brings_denials_goes_back_before_the_next_wave(tmp_path: Path) -> None:
    """A rule of the fleet's own is rolled out in waves like anything else, and watched by the denials of the soak."""
    files = builders.fleet_files(2, 1, os="alma_9", labels=("canary", "rest"))
    for name in ("web1", "web2"):
        files[builders.path_of("Server", name)] += "  healthChecks:\n    - avc: {max: 0}\n"
    waves = [{"name": "canary", "selector": {"group": "canary"}}, {"name": "rest"}]
    files |= rollout(waves=waves, soak="4m", healthTimeout="1m")

    async def rules_on(world: LoopWorld, name: str) -> bool:
        return "selinux_module:panel_local" in world.node(name).things

    async def scene(world: LoopWorld) -> None:
        async with world.daemon():
            await world.converged()
            for name in ("web1", "web2"):
                world.change("Server", name, selinux={"rules": [RULE]})
            bad = world.push()
            await world.until(lambda: rules_on(world, "web1"))
            assert not await rules_on(world, "web2")
            world.node("web1").audit.deny(world.clock())
            said = await world.until_says("Fleet", "main", "Stalled", "True Quarantined", 900)
            assert "denial on web1" in said
            assert await world.status(bad) == "quarantined"

            async def back() -> bool:
                return not await rules_on(world, "web1")

            await world.until(back, 900)
            await asyncio.sleep(900)
            assert bad not in {d.commit_hash for d in await world.deployments("web2")}, "web2 never got it"

    play(tmp_path, files, scene)
