"""What an apply does and records when something on the way goes wrong; nodes are played, the rest is real."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from reconciler.blueprint.upgrading import Upgrade
from reconciler.converge.progress import Result
from reconciler.desired.fleet import Key
from reconciler.desired.kinds import Kind
from reconciler.errors import NodeBusy
from reconciler.nodes.answers import Outcome
from reconciler.plan.model import Action
from reconciler.record import inventory, software
from reconciler.store.queries import (
    conditions,
    databases,
    deployments,
    servers,
    sites,
    software_installations,
)
from reconciler.store.queries.deployments import Filter
from reconciler.testing.node import FakeNode
from tests.model.world import World


def node(world: World, server: str) -> FakeNode:
    return world.nodes[world.declared["Server", server]["address"]]


def states(results: list[Result]) -> dict[str, str]:
    return {str(result.key): result.state for result in results}


def ready(world: World, kind: str, name: str) -> str:
    found = world.store.read(lambda tx: conditions.get(tx, kind, name, "Ready"))
    return found.status if found else "-"


def user(world: World, site: str) -> str:
    row = world.store.read(lambda tx: sites.get(tx, site))
    assert row is not None
    return row.system_user


def password(world: World, name: str) -> str:
    def unit(tx: Any) -> str:
        row = databases.get(tx, name)
        assert row is not None
        return databases.password_of(tx, row.id).reveal()

    return world.store.read(unit)


def settled(world: World) -> None:
    """One more apply comes right, and then there is nothing to do."""
    world.apply()
    assert world.apply() == []
    seen = world.observe()
    assert (seen.drift, seen.unreachable) == ([], {})
    assert not world.store.read(deployments.unfinished)


def test_an_update_that_failed_is_made_when_it_is_tried_again(world: World) -> None:
    world.declared["Site", "ant"]["php"] = {"memoryLimit": "300M"}
    node(world, "north").failing = {"Site/ant"}
    assert states(world.apply()) == {"Site/ant": "failed"}
    before = node(world, "north").things["file:/etc/panel/fpm/ant.conf"]["sha256"]
    node(world, "north").failing = set()
    assert states(world.apply()) == {"Site/ant": "succeeded"}
    assert node(world, "north").things["file:/etc/panel/fpm/ant.conf"]["sha256"] != before
    settled(world)


def test_a_defect_on_one_node_stops_neither_the_others_nor_the_record(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = password(world, "ant")

    async def broken(*_: object, **__: object) -> Outcome:
        raise ZeroDivisionError(f"with {secret} inside")

    monkeypatch.setattr(node(world, "north"), "apply", broken)
    for site in ("ant", "bee"):
        world.declared["Site", site]["php"] = {"maxChildren": 7}
    results = world.apply()
    assert states(results) == {"Site/ant": "failed", "Site/bee": "succeeded"}
    message = next(result.message for result in results if result.state == "failed")
    assert "ZeroDivisionError" in message
    assert secret not in message
    newest = world.store.read(lambda tx: deployments.listed(tx, Filter(name="ant"), limit=1))[0]
    assert (newest.status, newest.reason) == ("failed", message)
    monkeypatch.undo()
    settled(world)


def test_a_busy_node_is_waited_for_by_nobody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def busy(*_: object, **__: object) -> Outcome:
        raise NodeBusy("north", "another apply is running", deployment="01X")

    monkeypatch.setattr(node(world, "north"), "apply", busy)
    world.declared["Site", "ant"]["php"] = {"maxChildren": 7}
    assert states(world.apply()) == {"Site/ant": "failed"}
    stalled = world.store.read(lambda tx: conditions.get(tx, "Site", "ant", "Stalled"))
    assert stalled is not None
    assert stalled.status == "False", "it is tried again, nobody has to act"


def test_an_interrupted_apply_is_no_success_even_for_what_was_done(world: World) -> None:
    for site in ("ant", "cat"):
        world.declared["Site", site]["php"] = {"maxChildren": 7}
    # units come up together at the end: both sections are done, the reloads are not
    known = world.store.read(inventory.recorded).resources
    node(world, "north").cut_after = sum(len(known[Key(Kind.SITE, site)].steps) for site in ("ant", "cat"))
    results = world.apply()
    outcome = list(node(world, "north").outcomes.values())[-1]
    assert outcome.sections["Site/ant"].state == "succeeded"
    assert states(results) == {"Site/ant": "failed", "Site/cat": "failed"}
    assert ready(world, "Site", "ant") == "False"
    settled(world)
    assert ready(world, "Site", "ant") == "True"


def test_wherever_the_program_dies_the_next_apply_comes_right(world: World) -> None:
    """Every place between two writes in turn: a create, an update, a deletion, a rename and a move at once."""
    site = dict(world.declared["Site", "cat"])
    for number in range(40):
        world.declared["Site", f"new{number}"] = {**site, "domain": f"new{number}.test"}
        world.declared["Site", "ant"]["php"] = {"maxChildren": number % 9 + 1}
        bee = world.declared["Site", "bee"]
        bee["server"] = "north" if bee["server"] == "south" else "south"
        old, new = ("cat", f"cat{number}") if not number else (f"cat{number - 1}", f"cat{number}")
        world.declared["Site", new] = world.declared.pop(("Site", old))
        world.moved = {("Site", new): old}
        world.declared.pop(("Site", f"new{number - 1}"), None)
        mark = node(world, "north").things[f"user:{user(world, old)}"]["mark"]
        world.apply(dies_after=number)
        finished = not world.store.read(deployments.unfinished) and world.plan().effective == ()
        settled(world)
        assert node(world, "north").things[f"user:{user(world, new)}"]["mark"] == mark
        if finished:
            return
    pytest.fail("the apply never got to its end")


def test_a_failed_move_that_is_taken_back_finds_its_home(world: World) -> None:
    old = user(world, "bee")
    mark = node(world, "south").things[f"user:{old}"]["mark"]
    world.declared["Site", "bee"]["server"] = "north"
    node(world, "north").cut_after = 6
    assert states(world.apply())["Site/bee"] == "failed"
    assert node(world, "south").things[f"user:{old}"]["mark"] == mark, (
        "nothing is taken away before it arrived"
    )
    world.declared["Site", "bee"]["server"] = "south"
    settled(world)
    assert user(world, "bee") == old
    assert node(world, "south").things[f"user:{old}"]["mark"] == mark
    left = [
        key for key in node(world, "north").things if key.startswith(("user:", "file:/etc/panel/fpm/bee"))
    ]
    assert sorted(left) == sorted(f"user:{user(world, site)}" for site in ("ant", "cat"))


def test_a_server_answers_for_what_moved_away_until_it_is_removed(world: World) -> None:
    old = user(world, "bee")
    node(world, "south").down = True
    world.declared["Site", "bee"]["server"] = "north"
    results = world.apply(refresh=False)
    assert states(results) == {"Site/bee": "succeeded", "Server/south": "failed"}
    assert ready(world, "Site", "bee") == "True"
    assert ready(world, "Server", "south") == "False"
    assert f"user:{old}" in node(world, "south").things

    node(world, "south").down = False
    plan = world.plan()
    assert [(c.address, c.action) for c in plan.effective] == [("Server/south", Action.UPDATE)]
    assert f"user:{old}" in {step.key for step in plan.effective[0].steps if step.op == "delete"}
    settled(world)
    assert f"user:{old}" not in node(world, "south").things
    assert ready(world, "Server", "south") == "True"


def test_a_user_is_never_given_to_a_second_site(world: World) -> None:
    """Not even the one of a move that failed halfway."""
    world.declared["Site", "bee"]["server"] = "north"
    node(world, "north").cut_after = 3
    world.apply()
    tried = {key for key in node(world, "north").things if key.startswith("user:")}
    world.declared["Site", "ape"] = {"server": "north", "domain": "ape.test", "phpVersion": "8.2"}
    settled(world)
    assert f"user:{user(world, 'ape')}" not in tried


def test_a_renamed_server_whose_apply_fails_still_is_the_same(world: World) -> None:
    marks = {
        site: node(world, "north").things[f"user:{user(world, site)}"]["mark"] for site in ("ant", "cat")
    }
    world.declared["Server", "arctic"] = world.declared.pop(("Server", "north"))
    world.moved = {("Server", "arctic"): "north"}
    for key in (("Site", "ant"), ("Site", "cat"), ("Database", "ant")):
        world.declared[key]["server"] = "arctic"
    world.declared["Site", "ant"]["php"] = {"maxChildren": 7}
    node(world, "arctic").down = True
    world.apply(refresh=False)
    node(world, "arctic").down = False
    assert Action.REPLACE not in {change.action for change in world.plan().effective}
    settled(world)
    for site, mark in marks.items():
        assert node(world, "arctic").things[f"user:{user(world, site)}"]["mark"] == mark


def test_a_unit_that_could_not_be_stopped_is_stopped_when_its_site_is_renamed(world: World) -> None:
    world.declared["Site", "ant"]["state"] = "suspended"
    node(world, "north").failing = {"Site/ant"}
    world.apply()
    node(world, "north").failing = set()
    world.declared["Site", "emu"] = world.declared.pop(("Site", "ant"))
    world.declared["Database", "ant"]["site"] = "emu"
    world.moved = {("Site", "emu"): "ant"}
    settled(world)
    assert "unit:panel-fpm-ant.service" not in node(world, "north").things


def test_what_two_attempts_left_is_removed_once(world: World) -> None:
    """Both sites are recorded with both domains after a swap that failed; a bundle holds each step once."""
    ant, cat = world.declared["Site", "ant"], world.declared["Site", "cat"]
    ant["domain"], cat["domain"] = cat["domain"], ant["domain"]
    node(world, "north").failing = {"Site/ant", "Site/cat"}
    assert set(states(world.apply()).values()) == {"failed"}
    node(world, "north").failing = set()
    del world.declared["Site", "ant"], world.declared["Site", "cat"], world.declared["Database", "ant"]
    assert set(states(world.apply()).values()) == {"succeeded"}
    settled(world)


def test_a_retained_database_keeps_its_password_and_its_data(world: World) -> None:
    word = password(world, "ant")
    mark = node(world, "north").things["mariadb_database:ant"]["mark"]
    spec = world.declared.pop(("Database", "ant"))
    settled(world)
    world.declared["Database", "ant"] = spec
    settled(world)
    assert password(world, "ant") == word
    assert node(world, "north").things["mariadb_database:ant"]["mark"] == mark


def test_a_replaced_database_keeps_the_password_of_the_login_it_shares(world: World) -> None:
    word = password(world, "ant")
    world.declared["Database", "ant"]["name"] = "ant2"
    settled(world)
    assert password(world, "ant") == word
    rows = world.store.read(databases.all)
    assert {row.name: row.status for row in rows} == {"ant": "retained", "ant2": "active"}


def test_a_retained_database_survives_a_failed_return(world: World) -> None:
    """It is adopted, the apply breaks off, the commit is taken back: the data must not go with the attempt."""
    mark = node(world, "north").things["mariadb_database:ant"]["mark"]
    del world.declared["Database", "ant"]["site"]
    world.declared["Database", "ant"]["server"] = "south"
    settled(world)
    world.declared["Database", "ant"]["server"] = "north"
    node(world, "north").cut_after = 1
    world.apply()
    world.declared["Database", "ant"]["server"] = "south"
    settled(world)
    assert node(world, "north").things["mariadb_database:ant"]["mark"] == mark
    kept = [row for row in world.store.read(databases.all) if row.status == "retained"]
    assert len(kept) == 1


def test_a_value_that_is_taken_fails_only_its_own(world: World) -> None:
    """An address that an enrolled but undeclared server holds."""
    world.store.write(
        lambda tx: servers.upsert(tx, "elsewhere", servers.ServerFields("198.18.0.77", "debian_12"))
    )
    world.declared["Server", "west"] = {**world.declared["Server", "north"], "address": "198.18.0.77"}
    world.declared["Site", "ant"]["php"] = {"maxChildren": 7}
    results = world.apply()
    assert states(results) == {"Server/west": "failed", "Site/ant": "succeeded"}
    assert "198.18.0.77" in next(result.message for result in results if result.state == "failed")


def test_drift_of_what_is_renamed_or_forgotten_makes_no_repair(world: World) -> None:
    del node(world, "north").things["file:/etc/panel/fpm/ant.conf"]
    del node(world, "north").things["mariadb_grant:ant/ant"]
    del world.declared["Database", "ant"]
    world.declared["Site", "emu"] = world.declared.pop(("Site", "ant"))
    world.moved = {("Site", "emu"): "ant"}
    assert {str(r.key): r.action for r in world.apply()} == {"Site/emu": "update", "Database/ant": "forget"}
    settled(world)


def test_what_is_suspended_after_a_failure_stays_failed(world: World) -> None:
    node(world, "north").failing = {"Site/ant"}
    world.declared["Site", "ant"]["php"] = {"maxChildren": 7}
    world.apply()
    world.declared["Site", "ant"]["suspend"] = True
    world.apply()
    assert ready(world, "Site", "ant") == "False"
    assert world.apply() == []
    node(world, "north").failing = set()
    del world.declared["Site", "ant"]["suspend"]
    settled(world)
    assert ready(world, "Site", "ant") == "True"


def test_a_deployment_that_is_followed_twice_is_written_once(world: World) -> None:
    world.declared["Site", "ant"]["php"] = {"maxChildren": 7}
    for number in range(1, 8):
        world.declared["Site", "ant"]["php"] = {"maxChildren": number}
        world.apply(dies_after=number, refresh=False)
        world.apply(refresh=False)
    for deployment in world.store.read(lambda tx: deployments.listed(tx, Filter(name="ant"), limit=50)):
        out = world.store.read(lambda tx, d=deployment: deployments.output_of(tx, d.id, "stdout").shown())  # type: ignore[misc]
        assert out.count("done,") <= 1, out


def test_conditions_name_only_what_was_looked_at(world: World) -> None:
    world.declared["Site", "ant"]["suspend"] = True
    world.apply()
    del node(world, "north").things["file:/etc/panel/fpm/ant.conf"]
    del node(world, "south").things["file:/etc/panel/fpm/bee.conf"]
    world.observe()
    found = {
        name: world.store.read(lambda tx, n=name: conditions.get(tx, "Site", n, "Drifted"))  # type: ignore[misc]
        for name in ("ant", "bee")
    }
    assert found["bee"] is not None
    assert found["bee"].status == "True"
    assert found["ant"] is not None
    assert found["ant"].status == "False"


def test_nodes_are_converged_side_by_side(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each node waits for the other one to be in its apply; one after the other would never end."""
    both = asyncio.Barrier(2)
    for server in ("north", "south"):
        real = node(world, server).apply

        async def together(*args: Any, _real: Any = real, **more: Any) -> Outcome:
            async with asyncio.timeout(10):
                await both.wait()
            outcome: Outcome = await _real(*args, **more)
            return outcome

        monkeypatch.setattr(node(world, server), "apply", together)
    for site in ("ant", "bee"):
        world.declared["Site", site]["php"] = {"maxChildren": 7}
    assert set(states(world.apply(refresh=False)).values()) == {"succeeded"}


def test_the_recorded_base_is_the_commit_that_was_applied(world: World) -> None:
    world.declared["Site", "ant"]["php"] = {"maxChildren": 7}
    world.apply(refresh=False)
    head = f"{world.commits:040x}"
    assert world.store.read(inventory.recorded).base_commit == head


# -- upgrades that were asked for ---------------------------------------------------------------------


def ask_upgrade(world: World, package: str, piece: str, *, offered: bool = True) -> None:
    if offered:
        node(world, "north").things[f"package:{package}"]["newer"] = "1.0-2"
    wanted = Upgrade(piece, {package: ("1.0-1", "1.0-2")})
    world.store.write(lambda tx: software.ask_upgrade(tx, "north", wanted))


def upgrades(world: World) -> list[tuple[str, str, str | None, str | None]]:
    def unit(tx: Any) -> list[tuple[str, str, str | None, str | None]]:
        row = servers.get(tx, "north")
        assert row is not None
        found = software_installations.all(tx, row.id)
        return [(r.type, r.status, r.installed_version, r.reason) for r in found if r.action == "upgrade"]

    return world.store.read(unit)


def test_an_upgrade_is_a_deployment_of_its_server_and_reloads_what_runs_it(world: World) -> None:
    ask_upgrade(world, "php8.2-fpm", "php-8.2")
    ask_upgrade(world, "mariadb-server", "mariadb")
    assert upgrades(world) == [("php", "pending", "1.0-1", None), ("mariadb", "pending", "1.0-1", None)]
    assert states(world.apply()) == {"Server/north": "succeeded"}
    assert upgrades(world) == [("php", "installed", "1.0-2", None), ("mariadb", "installed", "1.0-2", None)]
    assert node(world, "north").things["package:php8.2-fpm"]["version"] == "1.0-2"
    newest = world.store.read(lambda tx: deployments.listed(tx, Filter(name="north"), limit=1))[0]
    outcome = node(world, "north").outcomes[newest.apply_id or ""]
    assert set(outcome.reloaded) == {"panel-fpm-ant.service", "panel-fpm-cat.service", "mariadb.service"}
    settled(world)


def test_an_upgrade_that_fails_is_not_tried_again_by_itself(world: World) -> None:
    ask_upgrade(world, "nginx", "nginx", offered=False)
    assert states(world.apply()) == {"Server/north": "failed"}
    (row,) = upgrades(world)
    assert row[:3] == ("nginx", "failed", "1.0-1")
    assert "no repository has a newer nginx than 1.0-1" in str(row[3])
    settled(world)
    assert upgrades(world) == [row]
    ask_upgrade(world, "nginx", "nginx")
    world.apply()
    assert upgrades(world) == [("nginx", "installed", "1.0-2", None)]
    settled(world)
