"""The rows behind the resources: what each outcome of an apply makes of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from reconciler.desired.fleet import Key
from reconciler.desired.kinds import Kind
from reconciler.record import forgetting, inventory
from reconciler.store.queries import (
    conditions,
    databases,
    deployments,
    events,
    revisions,
    servers,
    sites,
    software_installations,
    users,
)
from reconciler.store.queries.deployments import Filter
from reconciler.testing.node import FakeNode
from tests.model.world import World


def north(world: World) -> FakeNode:
    return world.nodes["198.18.0.20"]


def domains(world: World) -> dict[str, str]:
    return {row.name: row.domain for row in world.store.read(sites.all)}


def newest(world: World, name: str) -> deployments.Deployment:
    return world.store.read(lambda tx: deployments.listed(tx, Filter(name=name), limit=1))[0]


def revision_status(world: World) -> str:
    found = world.store.read(revisions.newest)
    return found.status if found else ""


def software(world: World) -> dict[str, str]:
    def unit(tx: Any) -> dict[str, str]:
        row = servers.get(tx, "north")
        assert row is not None
        return {f"{r.type} {r.version}".strip(): r.status for r in software_installations.all(tx, row.id)}

    return world.store.read(unit)


def test_sites_that_swap_domains_both_get_theirs(world: World) -> None:
    ant, cat = world.declared["Site", "ant"], world.declared["Site", "cat"]
    ant["domain"], cat["domain"] = cat["domain"], ant["domain"]
    world.apply()
    assert domains(world) == {"ant": "cat.test", "bee": "bee.test", "cat": "ant.test"}


def test_a_site_that_did_not_follow_has_its_domain_back(world: World) -> None:
    ant, cat = world.declared["Site", "ant"], world.declared["Site", "cat"]
    ant["domain"], cat["domain"] = "new.test", "ant.test"
    north(world).failing = {"Site/ant", "Site/cat"}
    world.apply()
    assert domains(world) == {"ant": "ant.test", "bee": "bee.test", "cat": "cat.test"}
    assert {row.status for row in world.store.read(sites.all)} == {"error", "active"}


def test_software_that_is_there_is_installed_also_when_its_server_failed(world: World) -> None:
    assert software(world) == {"nginx": "installed", "mariadb": "installed", "php 8.2": "installed"}
    world.declared["Server", "north"]["databaseEngines"] = ["mariadb", "postgresql"]
    north(world).failing = {"Server/north"}
    world.apply()
    # the section failed after its packages
    assert software(world)["postgresql"] == "installed"
    north(world).failing = set()
    world.apply()
    assert software(world) == {
        "nginx": "installed",
        "mariadb": "installed",
        "php 8.2": "installed",
        "postgresql": "installed",
    }


def test_a_deployment_runs_from_start_to_end(world: World) -> None:
    world.declared["Site", "ant"]["php"] = {"maxChildren": 7}
    world.apply()
    found = newest(world, "ant")
    assert (found.kind, found.status, found.triggered_via, found.corrective) == (
        "Site",
        "success",
        "cli",
        False,
    )
    assert found.commit_hash == f"{world.commits:040x}"
    assert found.plan_id is not None
    assert found.started_at is not None
    assert found.finished_at is not None
    assert timedelta(0) <= found.finished_at - found.started_at
    said = world.store.read(lambda tx: events.listed(tx, deployment_id=found.id))
    assert [(event.type, event.reason) for event in said] == [("Normal", "ReconciliationSucceeded")]


def test_a_person_that_is_declared_in_the_same_commit_is_its_actor(world: World) -> None:
    world.author = ("Ada", "ada@example.test")
    world.declared["User", "ada"] = {"email": "ada@example.test", "displayName": "Ada L."}
    world.declared["Site", "ant"]["php"] = {"maxChildren": 7}
    world.apply()
    person = world.store.read(lambda tx: users.by_email(tx, "ada@example.test"))
    assert person is not None
    assert newest(world, "ant").actor_id == person.id


def test_a_revision_is_applied_or_failed(world: World) -> None:
    world.declared["Site", "ant"]["php"] = {"maxChildren": 7}
    north(world).failing = {"Site/ant"}
    world.apply()
    assert revision_status(world) == "failed"
    north(world).failing = set()
    world.apply()
    assert revision_status(world) == "applied"


def test_the_conditions_of_what_is_gone_are_gone(world: World) -> None:
    del world.declared["Site", "cat"]
    world.apply()
    assert world.store.read(lambda tx: conditions.listed(tx, kind="Site", name="cat")) == []
    assert Key(Kind.SITE, "cat") not in world.store.read(inventory.recorded).resources
    assert world.store.read(lambda tx: deployments.listed(tx, Filter(name="cat"))), "its history stays"


def test_giving_a_server_up_takes_all_that_is_recorded_on_it(world: World) -> None:
    there = world.store.read(lambda tx: forgetting.recorded_on(tx, "north"))
    assert [str(key) for key in there] == ["Site/ant", "Site/cat", "Database/ant", "Server/north"]
    world.store.write(lambda tx: forgetting.forget_server(tx, "north"))
    left = world.store.read(inventory.recorded).resources
    assert sorted(map(str, left)) == ["SSHKey/fleet", "Server/south", "Site/bee"]
    assert list(domains(world)) == ["bee"]
    assert world.store.read(databases.all) == []
    assert world.store.read(lambda tx: conditions.listed(tx, kind="Site", name="ant")) == []
    assert world.store.read(lambda tx: deployments.listed(tx, Filter(name="ant")))
