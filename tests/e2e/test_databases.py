"""Databases on nodes of both families and in both engines: what a login may do, what is taken over, what is left."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from lab import Node

from .databases import BOTH, Login, administer, password, word
from .harness import Stage

GIVEN = "Given-Pa55word'with\\odd$\"signs"


def declare(stage: Stage, purpose: str, **more: object) -> None:
    """A database of the purpose in each engine on each server."""
    for server, engine in BOTH:
        stage.database(f"{word(purpose, engine)}-{server}", server, engine=engine, **{
            "name": word(purpose, engine), "username": word(purpose, engine), **more
        })  # fmt: skip
    stage.fleet.commit(f"Declare {purpose}")


def login(stage: Stage, purpose: str, server: str, engine: str, given: str = "", host: str = "") -> Login:
    name = word(purpose, engine)
    return Login(engine, name, name, given or password(stage, f"{name}-{server}"), host)


@pytest.fixture(scope="module")
def declared(stage: Stage) -> Stage:
    declare(stage, "plain")
    declare(stage, "given", password=GIVEN)
    stage.apply()
    return stage


@pytest.mark.parametrize(("server", "engine"), BOTH)
def test_a_login_may_do_everything_in_its_database_and_nothing_elsewhere(
    declared: Stage, server: str, engine: str
) -> None:
    node = declared.nodes[server]
    mine = login(declared, "plain", server, engine)
    assert mine.ask(node, "CREATE TABLE t (n INT); INSERT INTO t VALUES (7); SELECT n FROM t;") == "7"
    other = word("given", engine)
    if engine == "mariadb":
        assert "denied" in mine.refused(node, f"USE {other};")
        assert mine.ask(node, "SHOW DATABASES;").split() == ["information_schema", mine.database]
        assert "denied" in mine.refused(node, "SELECT * FROM mysql.user;")
        for statement in (
            "CREATE DATABASE more;",
            "CREATE USER more@localhost;",
            "SELECT 'x' INTO OUTFILE '/tmp/outfile';",
            "LOAD DATA INFILE '/etc/passwd' INTO TABLE t;",
            "SET GLOBAL general_log = 1;",
            f"GRANT SELECT ON {mine.database}.* TO root@localhost;",
            "SHUTDOWN;",
        ):
            assert "denied" in mine.refused(node, statement), statement
        assert mine.ask(node, "SELECT COUNT(*) FROM information_schema.USER_PRIVILEGES WHERE PRIVILEGE_TYPE<>'USAGE';") == "0"  # fmt: skip
        return
    assert "permission denied" in Login(engine, other, mine.user, mine.password).refused(node)
    assert "permission denied" in Login(engine, "template1", mine.user, mine.password).refused(node)
    common = Login(engine, "postgres", mine.user, mine.password)
    assert "permission denied" in common.refused(node, "CREATE TABLE t (n INT);")
    assert "permission denied" in common.refused(node, "CREATE TEMPORARY TABLE t (n INT);")
    for statement in (
        "CREATE DATABASE more;",
        "CREATE ROLE more;",
        "COPY (SELECT 1) TO '/tmp/outfile';",
        "SELECT pg_read_file('/etc/passwd');",
        "ALTER SYSTEM SET work_mem = '1GB';",
        "SELECT rolpassword FROM pg_authid;",
    ):
        said = mine.refused(node, statement)
        assert "permission denied" in said or "must be" in said, (statement, said)


@pytest.mark.parametrize(("server", "engine"), BOTH)
def test_a_password_that_is_given_logs_in_whatever_signs_it_has(
    declared: Stage, server: str, engine: str
) -> None:
    node = declared.nodes[server]
    assert login(declared, "given", server, engine, GIVEN).ask(node, "SELECT 1;") == "1"
    login(declared, "given", server, engine, GIVEN + "x").refused(node)
    assert GIVEN not in "".join(said.text for said in declared.transcript)


def by_hand(node: Node, engine: str, name: str) -> None:
    """What somebody had before: a database with a table, and a user who may do everything."""
    fill = "CREATE TABLE kept (n INT PRIMARY KEY, t TEXT); INSERT INTO kept VALUES (1, 'old');"
    if engine == "mariadb":
        administer(
            node,
            engine,
            f"CREATE DATABASE {name} CHARACTER SET latin1; USE {name}; {fill}"
            f"CREATE USER {name}@localhost IDENTIFIED BY 'old-password-1';"
            f"GRANT SELECT, FILE, PROCESS ON *.* TO {name}@localhost WITH GRANT OPTION;",
        )
        return
    administer(
        node,
        engine,
        f"CREATE ROLE {name} LOGIN CREATEDB CREATEROLE PASSWORD 'old-password-1';\nCREATE DATABASE {name};\n",
    )
    more = "CREATE SCHEMA own; CREATE TABLE own.more (n SERIAL, k INT); CREATE VIEW v AS SELECT n FROM kept;"
    more += "CREATE TYPE mood AS ENUM ('a'); CREATE FUNCTION f() RETURNS INT LANGUAGE sql AS 'SELECT 1';"
    administer(node, engine, fill + more, name)


def test_what_is_there_already_is_left_alone_until_it_is_to_be_taken_over(stage: Stage) -> None:
    for server, engine in BOTH:
        by_hand(stage.nodes[server], engine, word("old", engine))
    declare(stage, "old")
    results = stage.applied(code=1)
    for server, engine in BOTH:
        name, node = word("old", engine), stage.nodes[server]
        result = results[f"Database/{name}-{server}"]
        assert result["state"] == "failed"
        assert f"{name} exists on this node already and was not made by Reconciler" in result["message"]
        assert "adopt: true" in result["message"]
        before = Login(engine, name, name, "old-password-1")
        if engine == "mariadb":
            assert before.ask(node, "SELECT t FROM kept;") == "old"
    # the same once more: what was refused is not ours for having been asked for
    assert {r["state"] for r in stage.applied(code=1).values()} == {"failed"}
    for server, engine in BOTH:
        stage.fleet.change("Database", f"{word('old', engine)}-{server}", adopt=True)
    stage.fleet.commit("Adopt")
    stage.apply()
    for server, engine in BOTH:
        node, mine = stage.nodes[server], login(stage, "old", server, engine)
        assert mine.ask(node, "SELECT t FROM kept;") == "old"
        assert mine.ask(node, "INSERT INTO kept VALUES (2, 'new'); SELECT COUNT(*) FROM kept;") == "2"
        Login(engine, mine.database, mine.user, "old-password-1").refused(node)
        if engine == "mariadb":
            assert "denied" in mine.refused(node, "SELECT * FROM mysql.user;")
            assert "denied" in mine.refused(node, "SELECT 'x' INTO OUTFILE '/tmp/outfile2';")
        else:
            mine.ask(
                node, "ALTER TABLE own.more ADD COLUMN m INT; DROP VIEW v; DROP FUNCTION f(); DROP TYPE mood;"
            )
            assert "permission denied" in mine.refused(node, "CREATE DATABASE more;")
    stage.in_sync()


def test_a_refused_database_that_is_no_longer_declared_stays_as_it_was(stage: Stage) -> None:
    for server, engine in BOTH:
        by_hand(stage.nodes[server], engine, word("alien", engine))
    declare(stage, "alien", deletionPolicy="delete")
    stage.applied(code=1)
    for server, engine in BOTH:
        stage.fleet.drop("Database", f"{word('alien', engine)}-{server}")
    stage.fleet.commit("Never mind")
    stage.run("apply", "--yes", "--approve", "data-loss", "--approve", "mass-deletion", code=None)
    for server, engine in BOTH:
        name, node = word("alien", engine), stage.nodes[server]
        assert administer(node, engine, "SELECT t FROM kept;", name).strip() == "old"
        assert Login(engine, name, name, "old-password-1").run(node, "SELECT 1;").returncode == 0


def listens(node: Node, port: int) -> set[str]:
    """The addresses on which a port is open."""
    found = node.run(f"ss -Hltn 'sport = :{port}'").stdout
    return {line.split()[3].rpartition(":")[0].strip("[]") for line in found.splitlines()}


def test_an_engine_is_reached_from_elsewhere_only_while_a_database_says_so(stage: Stage) -> None:
    names = {"el": "deb", "deb": "el"}
    loopback = {"127.0.0.1", "::1"}
    for server, engine in BOTH:
        name, other = word("far", engine), stage.nodes[names[server]]
        network = f"{other.ip}/32" if engine == "mariadb" else f"{other.ip.rpartition('.')[0]}.0/24"
        stage.database(
            f"{name}-{server}", server, engine=engine, name=name, username=name, remoteAccess=[network]
        )
    declare(stage, "near")
    stage.apply()
    for server, engine in BOTH:
        node, client = stage.nodes[server], stage.nodes[names[server]]
        far = login(stage, "far", server, engine, host=node.ip)
        assert far.ask(client, "CREATE TABLE t (n INT); INSERT INTO t VALUES (3); SELECT n FROM t;") == "3"
        assert login(stage, "far", server, engine).ask(node, "SELECT n FROM t;") == "3", "and on the node"
        near = login(stage, "near", server, engine, host=node.ip)
        assert "denied" in near.refused(client) or "no pg_hba.conf entry" in near.refused(client)
        if (server, engine) == ("deb", "postgresql"):
            assert far.ask(client, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid();") == "t"
        if engine == "postgresql":
            assert "no pg_hba.conf entry" in Login(engine, word("near", engine), far.user, far.password, node.ip).refused(client)  # fmt: skip
    stage.in_sync()
    for server, engine in BOTH:
        stage.fleet.change("Database", f"{word('far', engine)}-{server}", remoteAccess=["203.0.113.0/25"])
    stage.fleet.commit("From elsewhere")
    stage.apply()
    for server, engine in BOTH:
        login(stage, "far", server, engine, host=stage.nodes[server].ip).refused(stage.nodes[names[server]])
    for server, engine in BOTH:
        stage.fleet.change("Database", f"{word('far', engine)}-{server}", remoteAccess=None)
    stage.fleet.commit("From nowhere")
    stage.apply()
    for server in names:
        node = stage.nodes[server]
        assert listens(node, 3306) <= loopback
        assert listens(node, 5432) <= loopback
        assert administer(node, "mariadb", "SELECT Host FROM mysql.user WHERE User = 'farma';").split() == ["localhost"]  # fmt: skip
        assert login(stage, "far", server, "mariadb").ask(node, "SELECT n FROM t;") == "3"
    stage.in_sync()


@contextlib.contextmanager
def full(node: Node) -> Iterator[None]:
    """A node on whose archive there is no room."""
    node.run("mount -t tmpfs -o size=64k,mode=0700 tmpfs /var/lib/panel/archive")
    try:
        yield
    finally:
        node.run("umount /var/lib/panel/archive")


def test_a_database_is_dropped_only_once_it_is_dumped_and_the_dump_brings_it_back(stage: Stage) -> None:
    declare(stage, "gone", deletionPolicy="delete")
    declare(stage, "stays")
    stage.apply()
    rows = "SELECT COUNT(*), MIN(t), MAX(LENGTH(t)) FROM big;"
    for server, engine in BOTH:
        node = stage.nodes[server]
        # nothing that gzip makes small
        noise = node.run("head -c 300000 /dev/urandom | base64 -w 1000").stdout.split()
        values = ", ".join(f"({n}, '{text}')" for n, text in enumerate(noise))
        for purpose in ("gone", "stays"):
            mine = login(stage, purpose, server, engine)
            mine.ask(node, "CREATE TABLE big (n INT PRIMARY KEY, t TEXT);")
            mine.ask(node, f"INSERT INTO big VALUES {values};")
    before = {at: login(stage, "gone", *at).ask(stage.nodes[at[0]], rows) for at in BOTH}
    passwords = {at: login(stage, "gone", *at) for at in BOTH}
    for server, engine in BOTH:
        for purpose in ("gone", "stays"):
            stage.fleet.drop("Database", f"{word(purpose, engine)}-{server}")
    stage.fleet.commit("Drop")
    approved = ("--approve", "data-loss", "--approve", "mass-deletion")
    with full(stage.nodes["el"]), full(stage.nodes["deb"]):
        results = stage.applied(*approved, code=1)
        for server, engine in BOTH:
            result = results[f"Database/{word('gone', engine)}-{server}"]
            assert result["state"] == "failed"
            assert "dump" in result["message"]
            assert passwords[server, engine].ask(stage.nodes[server], rows) == before[server, engine]
    stage.applied(*approved)
    for server, engine in BOTH:
        node, name = stage.nodes[server], word("gone", engine)
        passwords[server, engine].refused(node)
        stays = administer(node, engine, rows, word("stays", engine))
        assert stays.split()[0] == before[server, engine].split()[0], "kept by default"
        (dump,) = node.run(f"ls /var/lib/panel/archive/{engine}-{name}-*.sql.gz").stdout.split()
        assert node.run(f"stat -c %a {dump}").stdout.strip() == "600"
        if engine == "mariadb":
            node.run(f"zcat {dump} | mariadb")
        else:
            administer(node, engine, f"CREATE ROLE {name};")
            node.run(f"zcat {dump} | (cd / && runuser -u postgres -- psql -Xq -v ON_ERROR_STOP=1)")
        assert administer(node, engine, rows, name).strip() == before[server, engine]
