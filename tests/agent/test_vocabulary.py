"""The closed vocabulary: what is let in, and what hostile values meet."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.agent import canonical, fields
from reconciler.agent.bundle import Bundle
from reconciler.agent.faults import Refusal
from reconciler.kit import canonical as daemon_canonical

from .building import bundle, directory, file, gone, package, section, sha, symlink, unit, user

SHA = sha(b"x")

GOOD: list[dict[str, Any]] = [
    package("php8.2-fpm"),
    package("libstdc++", "absent"),
    {"type": "repository", "key": "repository:epel-release", "package": "epel-release"},
    {"type": "repository", "key": "repository:r", "package": "r", "url": "https://rpms.test/e/remi-release-9.rpm"},
    {"type": "hostname", "key": "hostname:node", "name": "web1.example.test"},
    {"type": "group", "key": "group:web", "name": "web", "system": True},
    user("web1", groups=["web"], comment="site shop"),
    gone(user("web1")),
    directory("/home/web1/public_html", mode="2750"),
    file("/etc/nginx/conf.d/a.conf", b"", validate={"type": "nginx"}),
    gone(file("/etc/nginx/conf.d/a.conf", b"")),
    symlink("/etc/nginx/sites-enabled/a", "../sites-available/a"),
    unit("panel-fpm@shop.service", active=True, enabled=None, reload_on=["file:/etc/panel/*"], restart_on=[]),
    {"type": "mariadb_database", "key": "mariadb_database:shop", "name": "shop", "charset": "utf8mb4"},
    {"type": "mariadb_user", "key": "mariadb_user:u@10.0.0.0/255.0.0.0", "name": "u", "host": "10.0.0.0/255.0.0.0", "password": SHA},
    {"type": "mariadb_grant", "key": "mariadb_grant:d/u", "database": "d", "user": "u", "host": "localhost",
     "privileges": ["SELECT", "CREATE TEMPORARY TABLES"]},
    {"type": "postgresql_cluster", "key": "postgresql_cluster:main", "data": "/var/lib/pgsql/data", "setup": "el"},
    {"type": "postgresql_role", "key": "postgresql_role:u", "name": "u", "password": SHA},
    {"type": "postgresql_database", "key": "postgresql_database:d", "name": "d", "owner": "postgres"},
    {"type": "postgresql_grant", "key": "postgresql_grant:d/u", "database": "d", "role": "u", "privileges": ["ALL"]},
    {"type": "quota", "key": "quota:web1", "user": "web1", "path": "/home/web1", "bytes": 10 * 1024**3},
    {"type": "quota", "key": "quota:web1", "user": "web1", "path": "/home/web1", "state": "absent"},
    {"type": "web_server", "key": "web_server:node", "unit": "caddy.service", "user": "caddy",
     "instead_of": "nginx.service", "other_user": "www-data"},
    file("/etc/caddy/Caddyfile", b"", validate={"type": "caddy"}),
]  # fmt: skip


@pytest.mark.parametrize("step", GOOD, ids=lambda step: step["key"] + ("-" if "state" in step else ""))
def test_every_type_is_taken_with_its_fields(step: dict[str, Any]) -> None:
    assert [kept for _, kept in Bundle(bundle(section("Site/shop", step))).steps()] == [step]


@pytest.mark.parametrize("step", GOOD, ids=lambda step: step["key"] + ("-" if "state" in step else ""))
def test_an_unknown_field_is_refused(step: dict[str, Any]) -> None:
    with pytest.raises(Refusal, match="unknown field 'command'"):
        Bundle(bundle(section("Site/shop", {**step, "command": "id"})))


def keyed(step: dict[str, Any], field: str, value: object) -> dict[str, Any]:
    """The step with a hostile value, its key made to fit, so that the field alone is to blame."""
    changed = {**step, field: value}
    if step["key"] == f"{step['type']}:{step.get(field)}":
        changed["key"] = f"{step['type']}:{value}"
    return changed


HOSTILE = [
    "x\n",
    "x\ny",
    "a b; rm -rf /",
    "$(id)",
    "`id`",
    "x'y",
    'x"y',
    "x\\y;",
    "-rf",
    "--help",
    "../x",
    "x/../../y",
    "ü",
    "x\u202ey",
    "x\x00y",
    "",
    " ",
    "a" * 2000,
    7,
    None,
    ["x"],
    {"x": 1},
    True,
    {"type": "module", "key": "module:nginx", "name": "nginx", "stream": "1.24", "package": "nginx"},
    dict(package("php8.2-fpm", "absent"), software="php-8.2"),
]
NAMED = [
    (package("nginx"), "name"),
    ({"type": "repository", "key": "repository:r", "package": "r"}, "package"),
    ({"type": "repository", "key": "repository:r", "package": "r", "url": "https://a.test/r.rpm"}, "url"),
    ({"type": "hostname", "key": "hostname:node", "name": "web1"}, "name"),
    ({"type": "group", "key": "group:web", "name": "web"}, "name"),
    ({"type": "quota", "key": "quota:web1", "user": "web1", "path": "/home/web1", "bytes": 1024}, "user"),
    ({"type": "quota", "key": "quota:web1", "user": "web1", "path": "/home/web1", "bytes": 1024}, "path"),
    ({"type": "quota", "key": "quota:web1", "user": "web1", "path": "/home/web1", "bytes": 1024}, "bytes"),
    (user("web1"), "name"),
    (user("web1"), "home"),
    (user("web1"), "home_group"),
    (user("web1"), "shell"),
    (user("web1"), "home_mode"),
    (directory("/home/web1/x"), "path"),
    (directory("/home/web1/x"), "mode"),
    (file("/etc/nginx/a", b""), "path"),
    (file("/etc/nginx/a", b""), "owner"),
    (file("/etc/nginx/a", b""), "group"),
    (file("/etc/nginx/a", b""), "mode"),
    (file("/etc/nginx/a", b""), "sha256"),
    (symlink("/etc/nginx/a", "b"), "path"),
    (unit("nginx.service"), "name"),
    (GOOD[13], "name"),
    (GOOD[13], "charset"),
    (GOOD[14], "name"),
    (GOOD[14], "host"),
    (GOOD[14], "password"),
    (GOOD[16], "data"),
    (GOOD[17], "name"),
    (GOOD[18], "owner"),
]


@pytest.mark.parametrize(
    ("step", "field"), NAMED, ids=lambda value: value if isinstance(value, str) else value["type"]
)
def test_hostile_values_are_refused_in_every_named_field(step: dict[str, Any], field: str) -> None:
    refused = {}
    for value in HOSTILE:
        if value is None and field == "url":
            continue
        with pytest.raises(Refusal) as caught:
            Bundle(bundle(section("Site/shop", keyed(step, field, value))))
        refused[str(value)] = caught.value
    assert {refusal.code for refusal in refused.values()} == {"bad_request"}
    assert all(refusal.message.isascii() and "\n" not in refusal.message for refusal in refused.values())


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "/etc/nginx/",
        "/etc/nginx",
        "/etc/nginx/../passwd",
        "/etc/nginx/./a",
        "/etc/nginx//a",
        "/etc/nginxx/a",
        "/home/",
        "/home",
        "/home/web1/../../etc/shadow",
        "/etc/sudoers",
        "/etc/sudoers.d/other",
        "/etc/systemd/system/sshd.service",
        "/var/lib/pgsql/data/pg_hba.conf.d/x",
        "/var/lib/panel/bundle.json",
        "/usr/bin/panel-ssh-manager",
        "etc/nginx/a",
        "/etc/nginx/" + "a" * 256,
    ],
)
def test_paths_outside_the_prefixes_are_refused(path: str) -> None:
    with pytest.raises(Refusal, match="path"):
        Bundle(bundle(section("Site/shop", file(path, b""))))


@pytest.mark.parametrize(
    "path", ["/etc/panel", "/var/log/panel", "/var/lib/pgsql/data/pg_hba.conf", "/etc/php.d/x.ini"]
)
def test_the_named_folders_and_files_are_let_in(path: str) -> None:
    fields.path(path)


@pytest.mark.parametrize("name", ["root", "postgres", "panel"])
def test_accounts_of_the_system_are_refused(name: str) -> None:
    with pytest.raises(Refusal, match="belongs to"):
        Bundle(bundle(section("Site/shop", user(name))))


@pytest.mark.parametrize(
    ("place", "name"), [(13, "mysql"), (14, "root"), (17, "postgres"), (17, "pg_read_all_data")]
)
def test_names_of_the_database_servers_are_refused(place: int, name: str) -> None:
    with pytest.raises(Refusal, match="belongs to"):
        Bundle(bundle(section("Site/shop", keyed(GOOD[place], "name", name))))


@pytest.mark.parametrize(
    "validate",
    [
        {"type": "shell", "command": "id"},
        {"type": "nginx", "binary": "/bin/sh"},
        {"type": "php_fpm", "binary": "/bin/sh", "config": "/etc/panel/fpm/a.conf", "user": "web1"},
        {
            "type": "php_fpm",
            "binary": "/usr/sbin/php-fpm",
            "config": "/etc/panel/fpm/../../shadow.conf",
            "user": "web1",
        },
        {
            "type": "php_fpm",
            "binary": "/usr/sbin/php-fpm",
            "config": "/etc/panel/fpm/a.conf",
            "user": "web1;id",
        },
        {"type": "php_fpm", "binary": "/usr/sbin/php-fpm", "config": "/etc/panel/fpm/a.conf"},
        {},
        "nginx",
    ],
)
def test_validators_are_a_closed_list_too(validate: object) -> None:
    with pytest.raises(Refusal, match="validat"):
        Bundle(bundle(section("Site/shop", file("/etc/nginx/a", b"", validate=validate))))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format"),
        ({"format": True}, "format"),
        ({"server": "web1; id"}, "server"),
        ({"package_manager": "yum"}, "package_manager"),
        ({"sections": {}}, "sections"),
        ({"extra": 1}, "unknown field"),
        ({"sections": [section("Site/shop"), section("Site/shop")]}, "twice"),
        ({"sections": [section("Site/shop", needs=("Site/later",)), section("Site/later")]}, "earlier"),
        ({"sections": [section("Site/shop", package("a")), section("Site/b", package("a"))]}, "twice"),
        ({"sections": [section("Site/../x")]}, "section id"),
        ({"sections": [section("Site/a", {"type": "run", "key": "run:x"})]}, "unknown step type"),
        ({"sections": [section("Site/a", {**package("a"), "key": "package:b"})]}, "key"),
        (
            {"sections": [section("Site/a", {"type": "file", "key": "file:/home/a/b", "path": "/home/a/b"})]},
            "needs the",
        ),
        ({"paths": {"writable": ["/etc/"]}}, "beyond"),
        (
            {"paths": {"writable": ["/etc/panel/"]}, "sections": [section("Site/a", file("/home/a/b", b""))]},
            "outside",
        ),
    ],
)
def test_a_bundle_of_another_shape_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(Refusal, match=message):
        Bundle({**bundle(), **change})


def test_the_digest_is_the_daemons() -> None:
    value = bundle(section("Site/shop", user("web1", comment="a (b)"), file("/etc/nginx/a", b"\xff")))
    assert Bundle(value).digest == daemon_canonical.digest(value) == canonical.digest(value)
    assert canonical.dumps({"ü": "\u2028"}) == daemon_canonical.dumps({"ü": "\u2028"})
