"""Steps in words, and what changing them may cost."""

from __future__ import annotations

import pytest

from reconciler import blueprint
from reconciler.blueprint.model import Step
from reconciler.desired.fleet import Fleet, Key
from reconciler.desired.kinds import Kind
from reconciler.kit.secret import Secret
from reconciler.platforms import NAMES, for_os, matches

from .fleets import fleet_of, only_server, system_users

FLEET = """
kind: Server
metadata: {name: web1}
spec: {address: 203.0.113.10, os: alma_9, sshKey: admin, databaseEngines: [mariadb, postgresql], software: {php: ["8.2"]}}
---
kind: Site
metadata: {name: shop}
spec: {server: web1, domain: shop.test, phpVersion: "8.2", appType: laravel}
---
kind: Database
metadata: {name: stats}
spec: {server: web1, engine: mariadb, name: stats, username: reader, privileges: [SELECT, SHOW VIEW]}
---
kind: Database
metadata: {name: shop-db}
spec: {server: web1, site: shop, engine: postgresql, name: shop, username: shop_user}
"""


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    return fleet_of(FLEET)


@pytest.fixture(scope="module")
def steps(fleet: Fleet) -> dict[str, Step]:
    made = blueprint.sections(only_server(fleet), fleet, system_users(fleet), blueprint.masked)
    return {step.key: step for section in made for step in section.steps}


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("package:nginx", "package nginx"),
        ("repository:remi-release", "package repository remi-release"),
        ("directory:/etc/panel", "directory /etc/panel (0755 root:root)"),
        ("file:/etc/nginx/conf.d/panel-shop.conf", "file /etc/nginx/conf.d/panel-shop.conf (0644 root:root)"),
        ("file:/home/web1/.env", "file /home/web1/.env (0600 web1:web1)"),
        (
            "file:/home/web1/public_html/public/index.html",
            "file /home/web1/public_html/public/index.html (0644 web1:web1, only if there is none)",
        ),
        ("user:web1", "system user web1 with home /home/web1"),
        ("symlink:/home/web1/public_html/.env", "symbolic link /home/web1/public_html/.env to ../.env"),
        ("unit:panel-fpm-shop.service", "unit panel-fpm-shop.service (running, enabled)"),
        ("mariadb_database:stats", "MariaDB database stats"),
        ("mariadb_user:reader", "MariaDB user reader"),
        ("mariadb_grant:stats/reader", "MariaDB grant of SELECT, SHOW VIEW on stats to reader"),
        ("postgresql_cluster:main", "PostgreSQL cluster in /var/lib/pgsql/data"),
        ("postgresql_role:shop_user", "PostgreSQL role shop_user"),
        ("postgresql_database:shop", "PostgreSQL database shop owned by shop_user"),
    ],
)
def test_a_step_is_described_in_one_fragment(steps: dict[str, Step], key: str, words: str) -> None:
    assert blueprint.describe(steps[key]) == words
    assert blueprint.describe(Step.from_json(steps[key].to_json())) == words


@pytest.mark.parametrize(
    ("keys", "risks"),
    [
        (["file:/etc/nginx/conf.d/panel-shop.conf"], {"reload nginx.service"}),
        (["file:/etc/panel/fpm/shop.conf"], {"reload panel-fpm-shop.service"}),
        (
            ["file:/etc/panel/fpm/shop.conf", "file:/etc/systemd/system/panel-fpm-shop.service"],
            {"restart panel-fpm-shop.service"},
        ),
        # a unit that is being made disturbs nobody
        (["file:/etc/systemd/system/panel-fpm-shop.service", "unit:panel-fpm-shop.service"], set()),
        (["file:/var/lib/pgsql/data/pg_hba.conf"], {"reload postgresql.service"}),
        (["file:/etc/my.cnf.d/zz-panel.cnf"], {"restart mariadb.service"}),
        (["file:/home/web1/.env", "package:nginx", "user:web1", "mariadb_database:stats"], set()),
    ],
)
def test_the_cost_of_a_change_is_named(steps: dict[str, Step], keys: list[str], risks: set[str]) -> None:
    assert blueprint.risks([steps[key] for key in keys]) == risks


def test_removing_a_site_and_its_data_is_named_as_such(steps: dict[str, Step]) -> None:
    gone = blueprint.removals(list(steps.values()), [key for key in steps if "nginx.service" in key])
    assert blueprint.risks(gone) >= {
        "downtime panel-fpm-shop.service",
        "data-loss user:web1",
        "data-loss mariadb_database:stats",
        "data-loss postgresql_database:shop",
        "reload nginx.service",
    }
    assert blueprint.describe(gone[0]).startswith("file /etc/nginx/conf.d/panel-shop.conf")


def test_a_suspended_site_is_down() -> None:
    fleet = fleet_of(
        FLEET.replace('phpVersion: "8.2", appType', 'phpVersion: "8.2", state: suspended, appType')
    )
    made = blueprint.sections(only_server(fleet), fleet, system_users(fleet), blueprint.masked)
    unit = next(s for s in made[-1].steps if s.type == "unit")
    assert blueprint.describe(unit) == "unit panel-fpm-shop.service (stopped, disabled)"
    assert blueprint.risks([unit]) == {"downtime panel-fpm-shop.service"}
    assert not {"reload_on", "restart_on"} & set(unit.params)  # systemd refuses to reload what does not run


def test_a_site_without_a_system_user_cannot_be_rendered(fleet: Fleet) -> None:
    with pytest.raises(ValueError, match="Site/shop has no system user yet"):
        blueprint.sections(only_server(fleet), fleet, {}, blueprint.masked)


@pytest.mark.parametrize("user", ["", "root/../x", "web1\nUser=root", "Web1", "a" * 33, "web 1", "-web"])
def test_a_system_user_that_is_no_account_name_is_refused(fleet: Fleet, user: str) -> None:
    with pytest.raises(ValueError, match="is not a system user's name"):
        blueprint.sections(
            only_server(fleet), fleet, {Key(Kind.SITE, "shop"): {"system_user": user}}, blueprint.masked
        )


def test_secrets_are_asked_for_once_a_database(fleet: Fleet) -> None:
    asked: list[tuple[str, str]] = []

    def source(key: Key, field: str) -> Secret:
        asked.append((str(key), field))
        return Secret("x")

    blueprint.sections(only_server(fleet), fleet, system_users(fleet), source)
    assert sorted(asked) == [("Database/shop-db", "password"), ("Database/stats", "password")]


@pytest.mark.parametrize(
    ("os", "name", "facts", "fits"),
    [
        ("alma_9", "el9", ("almalinux", "9.4"), True),
        ("rocky_8", "el8", ("rocky", "8.10"), True),
        ("alma_10", "el10", ("almalinux", "10.1"), True),
        ("debian_12", "debian12", ("debian", "12"), True),
        ("debian_13", "debian13", ("debian", "12"), False),
        ("alma_9", "el9", ("rocky", "9.4"), False),
        ("alma_9", "el9", ("almalinux", "8.10"), False),
        ("rocky_10", "el10", ("rocky", "1"), False),
        ("debian_12", "debian12", ("", ""), False),
    ],
)
def test_a_node_that_runs_something_else_than_declared_is_told(
    os: str, name: str, facts: tuple[str, str], fits: bool
) -> None:
    platform = for_os(os)
    assert platform.name == name
    message = matches(platform, *facts)
    assert (message == "") is fits
    if not fits:
        assert platform.os_id in message
        assert facts[1] in message


def test_every_os_of_a_manifest_has_a_platform() -> None:
    from reconciler.desired.kinds.server import Os

    assert set(NAMES) == {os.value for os in Os}
