"""nginx, php-fpm, MariaDB and PostgreSQL of both families under the agent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lab import Node

from .building import bundle, directory, file, gone, section, sha, unit, user
from .on_nodes import family, install, manager, messages, talk
from .talking import Talk, ulid


@pytest.fixture
def agent(web_node: Node) -> Iterator[Talk]:
    install(web_node)
    with talk(web_node) as agent:
        yield agent


NGINX = {"type": "nginx"}


def vhost(name: str, text: str = "") -> tuple[dict[str, Any], bytes]:
    body = (
        f"server {{ listen 127.0.0.1:80; server_name {name}.test; return 200 '{name}'; {text} }}\n".encode()
    )
    return file(f"/etc/nginx/conf.d/panel-{name}.conf", body, validate=NGINX), body


def nginx() -> dict[str, Any]:
    return section("Server/web1", unit("nginx.service", active=True, reload_on=["file:/etc/nginx/*"]))


def answer(node: Node, name: str) -> str:
    return node.run(f"curl -s -H 'Host: {name}.test' http://127.0.0.1/", check=False).stdout


def wait_for(node: Node, name: str) -> None:
    """nginx tells nobody when its new processes have taken over."""
    node.run(
        f"for n in $(seq 100); do [ \"$(curl -s -H 'Host: {name}.test' http://127.0.0.1/)\" = {name} ] && exit; "
        "sleep 0.1; done; exit 1"
    )


def test_the_site_that_breaks_nginx_is_put_back_and_the_others_go_live(web_node: Node, agent: Talk) -> None:
    before, old = vhost("before")
    assert agent.apply(1, bundle(nginx(), section("Site/b", before)), old)["reloaded"] == ["nginx.service"]
    wait_for(web_node, "before")
    good, one = vhost("good")
    worse, two = vhost("before", "no_such_directive on;")
    late, three = vhost("late")
    outcome = agent.apply(
        2,
        bundle(nginx(), section("Site/a", good), section("Site/b", worse), section("Site/c", late)),
        one,
        two,
        three,
    )
    states = {name: part["state"] for name, part in outcome["sections"].items()}
    assert states == {
        "Server/web1": "unchanged",
        "Site/a": "succeeded",
        "Site/b": "failed",
        "Site/c": "succeeded",
    }
    assert 'unknown directive "no_such_directive"' in outcome["sections"]["Site/b"]["message"]
    assert [event["ok"] for event in agent.events if event["type"] == "validate"] == [False, True]
    wait_for(web_node, "late")
    assert [answer(web_node, name) for name in ("before", "good", "late")] == ["before", "good", "late"]


def test_a_fault_that_names_an_innocent_file_is_found_by_trial(web_node: Node, agent: Talk) -> None:
    """Two upstreams of one name: nginx blames the file that it reads second, which was there before."""
    first, one = (
        file("/etc/nginx/conf.d/zz.conf", b"upstream same { server 127.0.0.1:1; }\n", validate=NGINX),
        b"upstream same { server 127.0.0.1:1; }\n",
    )
    assert agent.apply(1, bundle(nginx(), section("Site/z", first)), one)["state"] == "succeeded"
    clash = file("/etc/nginx/conf.d/aa.conf", one + b"#\n", validate=NGINX)
    good, body = vhost("good")
    outcome = agent.apply(
        2,
        bundle(nginx(), section("Site/z", first), section("Site/a", clash), section("Site/g", good)),
        one + b"#\n",
        body,
    )
    states = {name: part["state"] for name, part in outcome["sections"].items()}
    assert states == {
        "Server/web1": "unchanged",
        "Site/z": "unchanged",
        "Site/a": "failed",
        "Site/g": "succeeded",
    }
    assert "duplicate upstream" in outcome["sections"]["Site/a"]["message"]
    wait_for(web_node, "good")


def test_a_configuration_broken_by_hand_is_told_apart(web_node: Node, agent: Talk) -> None:
    web_node.run("echo 'broken;' > /etc/nginx/conf.d/by-hand.conf")
    good, body = vhost("good")
    outcome = agent.apply(1, bundle(nginx(), section("Site/a", good)), body)
    assert outcome["state"] == "failed"
    assert "by-hand.conf" in messages(outcome)
    assert "fails without the changes of this apply, too" in messages(outcome)
    assert outcome["reloaded"] == []
    assert web_node.run("test -e /etc/nginx/conf.d/panel-good.conf", check=False).returncode == 1


def test_php_fpm_judges_a_pool_as_the_sites_user(web_node: Node, agent: Talk) -> None:
    binary = {"el": "/opt/remi/php84/root/usr/sbin/php-fpm", "debian": "/usr/sbin/php-fpm8.2"}[
        family(web_node)
    ]

    def pool(more: str = "") -> bytes:
        return f"[global]\nerror_log = /home/web1/log\n[shop]\nlisten = /home/web1/s\npm = ondemand\npm.max_children = 2\n{more}".encode()

    def site(body: bytes) -> dict[str, Any]:
        check = {"type": "php_fpm", "binary": binary, "config": "/etc/panel/fpm/shop.conf", "user": "web1"}
        steps = [user("web1"), directory("/etc/panel"), directory("/etc/panel/fpm")]
        return bundle(section("Site/shop", *steps, file("/etc/panel/fpm/shop.conf", body, validate=check)))

    outcome = agent.apply(1, site(pool()), pool())
    assert outcome["state"] == "succeeded", messages(outcome)
    assert web_node.output("stat -c %U /home/web1/log") == "web1"
    outcome = agent.apply(2, site(pool("nonsense = 1\n")), pool("nonsense = 1\n"))
    assert "unknown entry 'nonsense'" in messages(outcome)
    assert web_node.output("grep -c nonsense /etc/panel/fpm/shop.conf || true") == "0"


def maria(password: bytes, privileges: tuple[str, ...] = ("ALL",)) -> list[dict[str, Any]]:
    user_step = {
        "type": "mariadb_user",
        "key": "mariadb_user:shop",
        "name": "shop",
        "host": "localhost",
        "password": sha(password),
    }
    place = {"database": "shop_db", "user": "shop", "host": "localhost"}
    return [
        {"type": "mariadb_database", "key": "mariadb_database:shop_db", "name": "shop_db", "charset": "utf8mb4", "collation": "utf8mb4_unicode_ci"},
        user_step,
        {"type": "mariadb_grant", "key": "mariadb_grant:shop_db/shop", **place, "privileges": list(privileges)},
    ]  # fmt: skip


def logged_in(node: Node, password: str, statement: str, database: str = "shop_db") -> str:
    done = node.run_argv(["mariadb", "-ushop", f"-p{password}", "-N", "-e", statement, database], check=False)
    return done.stdout.strip() if done.returncode == 0 else f"refused: {done.stderr.strip()}"


ODD, NEW = b'it\'s \\ a "pass"%word;--', b"another-password-9"


def test_mariadb_database_user_and_grant(web_node: Node, agent: Talk) -> None:
    def site(*steps: dict[str, Any]) -> dict[str, Any]:
        return bundle(section("Site/shop", *steps), package_manager=manager(web_node))

    outcome = agent.apply(1, site(*maria(ODD)), ODD)
    assert outcome["state"] == "succeeded", messages(outcome)
    assert (
        logged_in(web_node, ODD.decode(), "CREATE TABLE t (a int); INSERT INTO t VALUES (7); SELECT a FROM t")
        == "7"
    )
    web_node.run("mariadb -e 'CREATE DATABASE shopXdb'")
    assert "Access denied" in logged_in(web_node, ODD.decode(), "SELECT 1", "shopXdb")
    digest = agent.ask("hello", protocol=1)["bundle"]
    assert agent.ask("check", digest=digest)["in_sync"]

    web_node.run("mariadb -e \"SET PASSWORD FOR shop@localhost = PASSWORD('by-hand')\"")
    web_node.run(
        "mariadb -e 'GRANT SELECT ON shopXdb.* TO shop@localhost; REVOKE DROP ON `shop\\_db`.* FROM shop@localhost'"
    )
    drift = agent.ask("check", digest=digest)["differences"]
    assert [difference["key"] for difference in drift] == ["mariadb_user:shop", "mariadb_grant:shop_db/shop"]
    assert "by-hand" not in str(drift)
    assert agent.apply(2, site(*maria(ODD)), ODD)["sections"]["Site/shop"]["changed"] == 2

    fewer = ("SELECT", "CREATE TEMPORARY TABLES")
    assert agent.apply(3, site(*maria(NEW, fewer)), NEW)["state"] == "succeeded"
    assert "denied" in logged_in(web_node, NEW.decode(), "DROP TABLE t")
    assert logged_in(web_node, NEW.decode(), "SELECT a FROM t") == "7"
    assert agent.ask("check", digest=agent.ask("hello", protocol=1)["bundle"])["in_sync"]

    outcome = agent.apply(4, site(*[gone(step) for step in reversed(maria(NEW))]))
    assert outcome["state"] == "succeeded", messages(outcome)
    assert "Access denied" in logged_in(web_node, NEW.decode(), "SELECT 1", "mysql")
    dump = f"/var/lib/panel/archive/mariadb-shop_db-{ulid(4)}.sql.gz"
    assert "INSERT INTO `t` VALUES" in web_node.output(f"zcat {dump}")
    assert web_node.output(f"stat -c '%a %U' {dump}") == "600 root"


@pytest.mark.usefixtures("scram")
def test_a_failed_section_gets_its_old_password_back(web_node: Node, agent: Talk) -> None:
    def site(password: bytes, *more: dict[str, Any]) -> dict[str, Any]:
        return bundle(section("Site/shop", *maria(password), *postgres(password), *more))

    assert agent.apply(1, site(ODD), ODD)["state"] == "succeeded"
    outcome = agent.apply(2, site(NEW, file("/etc/panel/no/such", b"x")), NEW, b"x")
    assert outcome["state"] == "failed"
    assert logged_in(web_node, ODD.decode(), "SELECT 1") == "1"
    assert pg(web_node, ODD.decode(), "SELECT 1") == "1"
    first = bundle(
        section("Site/new", *[dict(step) for step in maria(NEW)], file("/etc/panel/no/such", b"x"))
    )
    for step, name in zip(
        first["sections"][0]["steps"],
        ("mariadb_database:n", "mariadb_user:n", "mariadb_grant:n/n"),
        strict=False,
    ):
        step.update({"name": "n"} if "name" in step else {"database": "n", "user": "n"}, key=name)
    assert agent.apply(3, first, NEW, b"x")["sections"]["Site/new"]["kept"] == []
    left = "SELECT (SELECT COUNT(*) FROM mysql.user WHERE User='n') + (SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME='n')"
    assert web_node.output(f'mariadb -N -e "{left}"') == "0"


def test_passwords_are_in_no_event_no_log_and_no_process_list(web_node: Node, agent: Talk) -> None:
    web_node.run("mariadb -e 'SET GLOBAL general_log=1, GLOBAL log_output=\"TABLE\"'")
    web_node.run(
        "runuser -u postgres -- psql -c \"ALTER SYSTEM SET log_statement='all'\" -c 'SELECT pg_reload_conf()'"
    )
    steps = [*maria(NEW), *postgres(NEW), file("/home/secret.env", b"DB=" + NEW, secret=True, mode="0600")]
    outcome = agent.apply(1, bundle(section("Site/shop", *steps)), NEW, b"DB=" + NEW)
    assert outcome["state"] == "succeeded", messages(outcome)
    assert NEW.decode() not in str(outcome) + str(agent.events)
    statements = web_node.output("mariadb -N -e 'SELECT argument FROM mysql.general_log'")
    assert "IDENTIFIED" in statements
    assert NEW.decode() not in statements
    found = web_node.run(
        f"grep -rl {NEW.decode()} /var/lib/panel /run/panel /var/log /var/lib/pgsql/data/log", check=False
    )
    assert found.stdout == ""


def postgres(password: bytes, owner: str = "shop", role: str = "shop") -> list[dict[str, Any]]:
    return [
        {"type": "postgresql_role", "key": f"postgresql_role:{role}", "name": role, "password": sha(password)},
        {"type": "postgresql_database", "key": "postgresql_database:shop_db", "name": "shop_db", "owner": owner},
        {"type": "postgresql_grant", "key": f"postgresql_grant:shop_db/{role}", "database": "shop_db", "role": role, "privileges": ["ALL"]},
    ]  # fmt: skip


def pg(node: Node, password: str, statement: str, database: str = "shop_db") -> str:
    """A statement as shop over TCP with its password, which the server checks by scram-sha-256."""
    argv = [
        "env",
        f"PGPASSWORD={password}",
        "psql",
        "-h",
        "127.0.0.1",
        "-U",
        "shop",
        "-At",
        "-c",
        statement,
        database,
    ]
    done = node.run_argv(argv, check=False)
    return done.stdout.strip().splitlines()[-1] if done.returncode == 0 else f"refused: {done.stderr.strip()}"


@pytest.fixture
def scram(web_node: Node) -> None:
    """Have the server ask for passwords over TCP; Enterprise Linux comes with ident."""
    data = {"el": "/var/lib/pgsql/data", "debian": "/etc/postgresql/15/main"}[family(web_node)]
    web_node.run(
        f"sed -i 's/ident$/scram-sha-256/' {data}/pg_hba.conf; systemctl reload postgresql; sleep 0.5"
    )


@pytest.mark.usefixtures("scram")
@pytest.mark.parametrize("owner", ["shop", "postgres"])
def test_postgresql_role_database_and_grant(web_node: Node, agent: Talk, owner: str) -> None:
    def site(*steps: dict[str, Any]) -> dict[str, Any]:
        return bundle(section("Site/shop", *steps), package_manager=manager(web_node))

    outcome = agent.apply(1, site(*postgres(ODD, owner)), ODD)
    assert outcome["state"] == "succeeded", messages(outcome)
    assert (
        pg(web_node, ODD.decode(), "CREATE TABLE t (a int); INSERT INTO t VALUES (7); SELECT a FROM t") == "7"
    )
    assert "refused" in pg(web_node, "wrong-password", "SELECT 1")
    digest = agent.ask("hello", protocol=1)["bundle"]
    assert agent.ask("check", digest=digest)["in_sync"]
    web_node.run(
        "runuser -u postgres -- psql -c 'GRANT CONNECT ON DATABASE shop_db TO PUBLIC' -c \"ALTER ROLE shop PASSWORD 'by-hand'\""
    )
    drift = agent.ask("check", digest=digest)["differences"]
    assert [difference["key"] for difference in drift] == [
        "postgresql_role:shop",
        "postgresql_database:shop_db",
    ]
    assert agent.apply(2, site(*postgres(NEW, owner)), NEW)["state"] == "succeeded"
    assert pg(web_node, NEW.decode(), "SELECT a FROM t") == "7"
    order = [1, 0] if owner == "shop" else [2, 1, 0]
    outcome = agent.apply(3, site(*[gone(postgres(NEW, owner)[place]) for place in order]))
    assert outcome["state"] == "succeeded", messages(outcome)
    assert agent.ask("check", digest=agent.ask("hello", protocol=1)["bundle"])["in_sync"]
    assert "refused" in pg(web_node, NEW.decode(), "SELECT 1", "postgres")
    dump = web_node.output(f"zcat /var/lib/panel/archive/postgresql-shop_db-{ulid(3)}.sql.gz")
    assert "COPY public.t" in dump


@pytest.mark.usefixtures("scram")
def test_a_role_that_may_only_connect_makes_no_tables(web_node: Node, agent: Talk) -> None:
    steps = postgres(NEW, "postgres")
    steps[2]["privileges"] = ["CONNECT"]
    assert agent.apply(1, bundle(section("Site/shop", *steps)), NEW)["state"] == "succeeded"
    assert agent.ask("check", digest=agent.ask("hello", protocol=1)["bundle"])["in_sync"]
    assert "permission denied for schema public" in pg(web_node, NEW.decode(), "CREATE TABLE t (a int)")


def test_a_database_server_that_is_down_is_started_by_its_unit_first(web_node: Node, agent: Talk) -> None:
    web_node.run("systemctl stop mariadb")
    alone = bundle(section("Site/shop", *maria(NEW)))
    outcome = agent.apply(1, alone, NEW)
    assert outcome["state"] == "failed"
    assert "MariaDB" in messages(outcome)
    drift = agent.ask("check", digest=agent.ask("hello", protocol=1)["bundle"])["differences"]
    assert all("MariaDB" in difference["note"] for difference in drift)
    both = bundle(section("Server/web1", unit("mariadb.service", active=True)), *alone["sections"])
    outcome = agent.apply(2, both, NEW)
    assert outcome["state"] == "succeeded", messages(outcome)
