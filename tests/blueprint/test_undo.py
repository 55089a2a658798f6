"""Taking away what a manifest no longer declares, without touching what is others'."""

from __future__ import annotations

import pytest

from reconciler import blueprint
from reconciler.blueprint.model import Section, Step
from reconciler.desired.fleet import Fleet, Key
from reconciler.desired.kinds import Kind

from .fleets import fleet_of, only_server, system_users

SERVER = """
kind: Server
metadata: {name: web1}
spec: {address: 203.0.113.10, os: debian_12, sshKey: admin, databaseEngines: [mariadb, postgresql], software: {php: ["8.2"]}}
"""


def _site(name: str, domain: str, **spec: str) -> str:
    more = "".join(f", {key}: {value}" for key, value in spec.items())
    return f'---\nkind: Site\nmetadata: {{name: {name}}}\nspec: {{server: web1, domain: {domain}, phpVersion: "8.2"{more}}}\n'


DATABASE = """---
kind: Database
metadata: {name: shop-db}
spec: {server: web1, site: shop, engine: ENGINE, name: shop, username: shop_user}
"""


def _sections(fleet: Fleet) -> dict[str, Section]:
    made = blueprint.sections(only_server(fleet), fleet, system_users(fleet), blueprint.masked)
    return {section.id: section for section in made}


def _keys(fleet: Fleet) -> set[str]:
    return {step.key for section in _sections(fleet).values() for step in section.steps}


def _bundle(fleet: Fleet, *removals: Section) -> dict[str, list[Step]]:
    made = blueprint.bundle(
        only_server(fleet), fleet, system_users(fleet), blueprint.masked, removals=removals
    )
    return {section.id: list(section.steps) for section in made.sections}


def test_a_removed_site_is_taken_away_last_step_first_and_its_user_with_all_below_the_home() -> None:
    site = _sections(fleet_of(SERVER + _site("shop", "shop.test")))["Site/shop"]
    undone = blueprint.removals(site.steps, ())
    assert [step.key for step in undone] == [
        "symlink:/etc/nginx/sites-enabled/shop.test.conf",
        "file:/etc/nginx/sites-available/shop.test.conf",
        "unit:panel-fpm-shop.service",
        "file:/etc/logrotate.d/panel-shop",
        "file:/etc/systemd/system/panel-fpm-shop.service",
        "symlink:/etc/panel/fpm/shop.php-fpm",
        "file:/etc/panel/fpm/shop.conf",
        "file:/etc/systemd/system/panel-site-shop.slice",
        "user:web1",
    ]
    assert undone[-1].to_json() == {
        "type": "user",
        "key": "user:web1",
        "name": "web1",
        "home": "/home/web1",
        "state": "absent",
    }
    assert all(step.body is None for step in undone)


def test_recorded_steps_are_undone_just_like_fresh_ones() -> None:
    site = _sections(fleet_of(SERVER + _site("shop", "shop.test")))["Site/shop"]
    recorded = [Step.from_json(step.to_json()) for step in site.steps]
    assert blueprint.removals(recorded, ()) == blueprint.removals(site.steps, ())


def test_nothing_of_a_kept_key_is_undone() -> None:
    site = _sections(fleet_of(SERVER + _site("shop", "shop.test")))["Site/shop"]
    assert blueprint.removals(site.steps, [step.key for step in site.steps]) == ()


def test_a_site_that_moves_its_document_root_keeps_the_folder_and_page_of_the_old_one() -> None:
    before = fleet_of(SERVER + _site("shop", "shop.test", documentRoot="old"))
    after = fleet_of(SERVER + _site("shop", "shop.test", documentRoot="new"))
    assert blueprint.removals(_sections(before)["Site/shop"].steps, _keys(after)) == ()


def test_a_link_that_we_made_in_a_home_goes_when_the_site_no_longer_needs_it() -> None:
    before = fleet_of(SERVER + _site("shop", "shop.test", appType="laravel"))
    after = fleet_of(SERVER + _site("shop", "shop.test"))
    undone = blueprint.removals(_sections(before)["Site/shop"].steps, _keys(after))
    assert [step.key for step in undone] == ["symlink:/home/web1/public_html/.env"]


def test_a_site_that_no_longer_runs_php_loses_its_unit_and_keeps_its_files() -> None:
    before = fleet_of(SERVER + _site("shop", "shop.test"))
    after = fleet_of(SERVER + _site("shop", "shop.test", appType="static"))
    undone = blueprint.removals(_sections(before)["Site/shop"].steps, _keys(after))
    assert [step.key for step in undone] == [
        "unit:panel-fpm-shop.service",
        "file:/etc/systemd/system/panel-fpm-shop.service",
        "symlink:/etc/panel/fpm/shop.php-fpm",
        "file:/etc/panel/fpm/shop.conf",
        "file:/etc/systemd/system/panel-site-shop.slice",
    ]


def test_a_renamed_site_keeps_its_user_and_loses_what_carries_its_old_name() -> None:
    before = fleet_of(SERVER + _site("shop", "shop.test"))
    after = fleet_of(SERVER + _site("store", "shop.test"))
    undone = blueprint.removals(_sections(before)["Site/shop"].steps, _keys(after))
    assert [step.key for step in undone] == [
        "unit:panel-fpm-shop.service",
        "file:/etc/logrotate.d/panel-shop",
        "file:/etc/systemd/system/panel-fpm-shop.service",
        "symlink:/etc/panel/fpm/shop.php-fpm",
        "file:/etc/panel/fpm/shop.conf",
        "file:/etc/systemd/system/panel-site-shop.slice",
    ]


def test_two_sites_may_swap_their_domains() -> None:
    before = fleet_of(SERVER + _site("a", "a.test") + _site("b", "b.test"))
    after = fleet_of(SERVER + _site("a", "b.test") + _site("b", "a.test"))
    old, new = _sections(before), _sections(after)
    undo = [
        Section(name, blueprint.removals(old[name].steps, {step.key for step in new[name].steps}))
        for name in ("Site/a", "Site/b")
    ]
    assert all(section.steps for section in undo)
    made = _bundle(after, *undo)
    states = [step.params.get("state") for step in made["Site/a"] + made["Site/b"]]
    assert states == [None] * len(states)


def test_a_domain_may_move_from_a_removed_site_to_a_new_one() -> None:
    old = _sections(fleet_of(SERVER + _site("a", "a.test")))["Site/a"]
    after = fleet_of(SERVER + _site("b", "a.test"))
    users = {Key(Kind.SITE, "b"): {"system_user": "web2"}}
    undo = Section("Site/a", blueprint.removals(old.steps, ()))
    made = blueprint.bundle(only_server(after), after, users, blueprint.masked, removals=[undo])
    assert [section.id for section in made.sections] == ["Server/web1", "Site/a", "Site/b"]
    assert "file:/etc/nginx/sites-available/a.test.conf" not in [s.key for s in made.sections[1].steps]
    assert "user:web1" in [s.key for s in made.sections[1].steps]


def test_what_a_changed_resource_no_longer_has_goes_before_its_other_steps() -> None:
    before = fleet_of(SERVER + _site("a", "old.test"))
    after = fleet_of(SERVER + _site("a", "new.test"))
    undo = Section("Site/a", blueprint.removals(_sections(before)["Site/a"].steps, _keys(after)))
    made = _bundle(after, undo)["Site/a"]
    assert [(step.key, step.params["state"]) for step in made[:2]] == [
        ("symlink:/etc/nginx/sites-enabled/old.test.conf", "absent"),
        ("file:/etc/nginx/sites-available/old.test.conf", "absent"),
    ]
    assert made[2].key == "user:web1"


def test_a_server_loses_the_software_that_it_names_and_keeps_other_packages_and_access_rules() -> None:
    undone = blueprint.removals(_sections(fleet_of(SERVER))["Server/web1"].steps, ())
    assert (
        {step.target for step in undone if step.type == "package"}
        == {step.target for step in undone if step.type == "package" and step.params["software"]}
        >= {"nginx", "mariadb-server", "postgresql-15", "php8.2-fpm"}
    )
    assert [step.key for step in undone if step.type != "package"] == [
        "unit:postgresql.service",
        "unit:mariadb.service",
        "file:/etc/mysql/mariadb.conf.d/99-panel.cnf",
        "unit:nginx.service",
        "file:/etc/nginx/conf.d/00-panel-default.conf",
        "directory:/etc/panel/tls",
        "directory:/var/log/panel",
        "directory:/etc/panel/fpm",
        "directory:/etc/panel",
    ]


@pytest.mark.parametrize(
    ("engine", "keys"),
    [
        ("mariadb", ["mariadb_grant:shop/shop_user", "mariadb_database:shop", "mariadb_user:shop_user"]),
        ("postgresql", ["postgresql_database:shop", "postgresql_role:shop_user"]),
    ],
)
def test_a_database_that_may_go_is_dropped_with_its_login(engine: str, keys: list[str]) -> None:
    fleet = fleet_of(SERVER + _site("shop", "shop.test") + DATABASE.replace("ENGINE", engine))
    undone = blueprint.removals(_sections(fleet)["Database/shop-db"].steps, ())
    assert [step.key for step in undone] == keys
    assert not {"password", "privileges"} & {name for step in undone for name in step.params}


def test_an_empty_removal_of_a_gone_resource_makes_no_section() -> None:
    assert list(_bundle(fleet_of(SERVER), Section("Site/gone", ()))) == ["Server/web1"]


WITH_CADDY = SERVER.replace("sshKey:", "webServer: caddy, sshKey:")


def _server_steps(text: str) -> tuple[Step, ...]:
    return _sections(fleet_of(text))["Server/web1"].steps


def test_a_web_server_is_not_stopped_before_the_other_one_takes_over() -> None:
    nginx, caddy = _server_steps(SERVER), _server_steps(WITH_CADDY)
    there = {step.key: step for step in blueprint.removals(nginx, {step.key for step in caddy})}
    assert "unit:nginx.service" not in there
    assert "file:/etc/nginx/conf.d/00-panel-default.conf" in there
    back = {step.key: step for step in blueprint.removals(caddy, {step.key for step in nginx})}
    assert "unit:caddy.service" not in back
    assert back["web_server:node"].params["state"] == "absent"
    assert back["web_server:node"].params["instead_of"] == "nginx.service"


def test_a_server_that_goes_has_its_web_server_stopped() -> None:
    gone = {step.key for step in blueprint.removals(_server_steps(WITH_CADDY), ())}
    assert "unit:caddy.service" in gone
    assert "web_server:node" not in gone
