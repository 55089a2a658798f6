"""Built fleets are whole: they are valid, committed, enrolled, and converge on the nodes built for them."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from reconciler import platforms
from reconciler.app import planning
from reconciler.converge.executor import Executor
from reconciler.converge.observer import Observer
from reconciler.converge.progress import Silent
from reconciler.desired.snapshot import load_snapshot
from reconciler.desired.source import read_commit
from reconciler.nodes.answers import Event
from reconciler.nodes.pool import Pool
from reconciler.plan.make import make_plan
from reconciler.record import inventory
from reconciler.store.state import open_state
from reconciler.testing import builders
from reconciler.testing.node import FakeNode
from reconciler.testing.pool import FakePool
from reconciler.testing.simulated import START, SimulatedClock, SimulatedLoop, run


@pytest.mark.parametrize("os", ["debian_12", "alma_9"])
def test_a_built_fleet_is_committed_planned_and_converged_in_played_time(tmp_path: Path, os: str) -> None:
    loop = SimulatedLoop()
    clock = SimulatedClock(loop)
    files = builders.fleet_files(2, 3, databases=1, os=os, labels=["early", "late"])
    repository = builders.Repository(tmp_path / "fleet")
    repository.write(files)
    commit = repository.commit()
    snapshot = read_commit(repository.folder, commit, "")
    loaded = load_snapshot(snapshot)
    assert not loaded.errors
    nodes = builders.nodes(loaded.fleet, clock=clock, step_seconds=1.0)
    store = builders.enrolled(tmp_path / "state", loaded.fleet, clock=clock)

    async def main() -> None:
        recorded = await store.aread(inventory.recorded)
        plan = make_plan(
            loaded, recorded, head=snapshot, created_at="2026-01-31T12:00:00Z", engine=planning.ENGINE
        )
        async with FakePool(nodes) as played:
            pool = cast("Pool", played)
            results = await Executor(store, pool, Silent()).apply(plan)
            assert {result.state for result in results} == {"succeeded"}
            assert len(results) == 2 + 2 * 3 + 2 + 1
            after = await store.aread(inventory.recorded)
            seen = await Observer(store, pool, Silent()).observe(after)
            assert (seen.drift, seen.unreachable, sorted(seen.asked)) == ([], {}, ["web1", "web2"])

    run(main(), loop=loop)
    store.close()
    assert loop.time() > 20, "steps take their time"
    assert all(node.applied == 1 for node in nodes.values())
    assert all(event.at >= START.strftime("%Y-%m-%dT%H:%M:%SZ") for event in _events(nodes))


def _events(nodes: dict[str, FakeNode]) -> list[Event]:
    return [e for node in nodes.values() for journal in node.journals.values() for e in journal.events]


def test_a_repository_is_changed_file_by_file(tmp_path: Path) -> None:
    repository = builders.Repository(tmp_path / "fleet")
    repository.write(builders.fleet_files(1, 2))
    first = repository.commit()
    repository.change("Site", "site1-1", domain="other.test", phpVersion=None)
    repository.drop("Site", "site1-2")
    repository.put("User", "ada", email="ada@example.test", role="admin")
    second = repository.commit("Change a site", ("Bob", "bob@example.test"))
    changed = repository.git("diff", "--name-status", first, second).splitlines()
    assert changed == ["M\tsites/site1-1.yaml", "D\tsites/site1-2.yaml", "A\tusers/ada.yaml"]
    assert repository.git("log", "-1", "--format=%an %ae %s") == "Bob bob@example.test Change a site"
    assert repository.commit() != second
    with pytest.raises(RuntimeError, match="git checkout"):
        repository.git("checkout", "nowhere")


def test_state_is_enrolled_once_and_opens_again(tmp_path: Path) -> None:
    fleet = builders.load(builders.fleet_files(1, 1))
    builders.enrolled(tmp_path / "state", fleet).close()
    with open_state(tmp_path / "state", {}) as store:
        assert store.read(inventory.recorded) is not None
    assert oct((tmp_path / "state").stat().st_mode & 0o777) == "0o700"


def test_manifests_that_are_not_valid_are_told() -> None:
    with pytest.raises(ValueError, match="domain"):
        builders.load({"sites/a.yaml": builders.manifest("Site", "a", {"server": "web1", "domain": "?"})})


@pytest.mark.parametrize("os", platforms.NAMES)
def test_a_built_node_is_of_the_platform_that_its_manifest_names(os: str) -> None:
    facts = builders.facts_of(os)
    assert platforms.matches(platforms.for_os(os), facts.os_id, facts.os_version) == ""
