"""`reconciler databases rotate-password` on nodes of both families: the page goes on, and no password is ever lost."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator

import pytest

from lab import Node
from reconciler.store import open_state
from reconciler.store.queries import databases

from .databases import BOTH, Login, administer, password
from .harness import ROOT, Stage, fetch, upload, wait_for
from .test_secrets import Watching

PAGE = (ROOT / "demo/page.php").read_text()


LOGS = {
    "mariadb": "/var/lib/mysql/statements.log",
    "postgresql": "/var/lib/pgsql/data/log /var/log/postgresql",
}


def name(server: str, engine: str) -> str:
    return f"turn{engine[:2]}{server}"


def is_well(node: Node, site: str) -> bool:
    status, page = fetch(node, f"{site}.test")
    return status == 200 and "visit" in page


def password_in_env(stage: Stage, node: Node, site: str) -> str:
    lines = node.read(f"/home/{stage.user(site)}/.env").splitlines()
    (found,) = [line for line in lines if line.startswith("DB_PASSWORD=")]
    return found.partition("=")[2].strip('"')


def pending(stage: Stage, database: str) -> str | None:
    row = stage.row("databases", manifest_name=database)
    assert row is not None
    found: str | None = row["pending_password"]
    return found


@pytest.fixture(scope="module")
def served(stage: Stage) -> Stage:
    """A site with a database in each engine on each server, and a page that writes into it."""
    for server, engine in BOTH:
        site = name(server, engine)
        stage.site(site, server, workers=[{"name": "queue", "command": "exec sleep infinity"}])
        stage.database(site, server, site=site, engine=engine)
    stage.fleet.commit()
    stage.apply()
    for node in stage.nodes.values():
        # from here on the servers write down every statement that they are given
        administer(
            node, "mariadb", f"SET GLOBAL general_log_file = '{LOGS['mariadb']}', GLOBAL general_log = 1;"
        )
        administer(node, "postgresql", "ALTER SYSTEM SET log_statement = 'all';\nSELECT pg_reload_conf();")
    for server, engine in BOTH:
        site, node = name(server, engine), stage.nodes[server]
        upload(node, stage.user(site), PAGE)
        assert is_well(node, site), fetch(node, f"{site}.test")
    return stage


class Visiting:
    """Somebody who looks at a page again and again; `faults` are the times at which it failed."""

    def __init__(self, node: Node, site: str) -> None:
        self._node, self._site = node, site
        self.seen: list[tuple[float, bool]] = []
        self._stop = threading.Event()

    def __enter__(self) -> Visiting:
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.02):
            self.seen.append((time.monotonic(), is_well(self._node, self._site)))

    @property
    def longest(self) -> int:
        """How many looks in a row failed at most."""
        worst = run = 0
        for _, well in self.seen:
            run = 0 if well else run + 1
            worst = max(worst, run)
        return worst


@pytest.mark.parametrize(("server", "engine"), BOTH)
def test_the_node_and_the_site_get_the_new_password_and_the_old_one_is_worth_nothing(
    served: Stage, server: str, engine: str
) -> None:
    site, node = name(server, engine), served.nodes[server]
    old = password(served, site)
    worker = node.output(f"systemctl show -P MainPID panel-worker-{site}_queue@1.service")
    with Visiting(node, site) as visiting, Watching() as watching:
        said = served.run("databases", "rotate-password", site)
    new = password(served, site)
    assert said.out.splitlines()[-2:] == [f"Database/{site} is ready", f"Site/{site} is ready"]
    assert old != new
    assert pending(served, site) is None
    assert password_in_env(served, node, site) == new
    assert is_well(node, site)
    assert visiting.seen[0][1]
    assert visiting.longest < len(visiting.seen) / 2, "it fails for a moment at most"
    assert Login(engine, site, site, new).ask(node, "SELECT 1;") == "1"
    Login(engine, site, site, old).refused(node)
    assert node.output(f"systemctl show -P MainPID panel-worker-{site}_queue@1.service") != worker
    for word in (old, new):
        assert all(word not in seen for seen in watching.seen)
        assert word not in said.text
        journal = node.run(f"journalctl --no-pager -q | grep -cF -e '{word}'", check=False).stdout.strip()
        assert journal == "0"
        places = f"/var/lib/panel /var/log {LOGS[engine]}"
        kept = node.run(f"grep -rlF -e '{word}' {places} --exclude-dir=archive", check=False)
        assert kept.stdout == ""
    if (server, engine) != ("el", "postgresql"):  # that one keeps its statements elsewhere
        seen = node.run(f"grep -rhcE -e 'ALTER (USER|ROLE).*{site}' {LOGS[engine]}", check=False).stdout
        assert any(int(count) for count in seen.split()), "they were written down, without the password"
    served.in_sync()


@pytest.mark.parametrize(("server", "engine"), [("el", "mariadb"), ("deb", "postgresql")])
def test_while_the_engine_is_down_both_passwords_are_kept_and_the_next_apply_goes_on(
    served: Stage, server: str, engine: str
) -> None:
    site, node = name(server, engine), served.nodes[server]
    unit = f"{engine}.service" if engine == "mariadb" else "'postgresql*'"
    old = password(served, site)
    node.run(f"systemctl stop {unit} && systemctl mask --runtime {engine}.service")
    try:
        said = served.run("databases", "rotate-password", site, code=1)
        assert f"Database/{site} is not ready" in said.out
    finally:
        node.run(f"systemctl unmask --runtime {engine}.service && systemctl start {engine}.service")
        node.wait_active(f"{engine}.service")
    began = pending(served, site)
    assert began is not None
    assert password(served, site) == old == password_in_env(served, node, site)
    assert wait_for(lambda: is_well(node, site)), "the page has the old one, as the node does"
    again = served.run("plan").out
    assert (
        "a new password of the database is on its way to the node" in again
        or "the last reconcile of it failed" in again
    )
    served.apply()
    assert pending(served, site) is None
    assert password(served, site) not in (old, "")
    assert is_well(node, site)
    served.in_sync()


@pytest.mark.parametrize("moment", range(3))
def test_a_program_that_is_killed_midway_leaves_nothing_that_the_next_reconcile_does_not_settle(
    served: Stage, moment: int
) -> None:
    server, engine = BOTH[moment]
    site, node = name(server, engine), served.nodes[server]
    old = password(served, site)
    running = served.start("databases", "rotate-password", site)
    wait_for(lambda: pending(served, site) is not None, every=0.005)
    time.sleep(0.3 * moment)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    served.run("databases", "rotate-password", site)
    assert pending(served, site) is None
    assert password(served, site) == password_in_env(served, node, site) != old
    assert is_well(node, site)
    served.in_sync()


@pytest.fixture
def suspended(served: Stage) -> Iterator[str]:
    site = name(*BOTH[0])
    served.run("suspend", f"Site/{site}", "--reason", "a migration")
    yield site
    served.run("resume", f"Site/{site}")


def test_what_is_suspended_or_given_by_a_manifest_is_not_rotated(served: Stage, suspended: str) -> None:
    said = served.run("databases", "rotate-password", suspended, code=1)
    assert f"Site/{suspended} is suspended, so it would not get the new password" in said.err
    assert pending(served, suspended) is None
    served.database("given", "el", password="a-password-of-our-own")
    served.fleet.commit()
    served.apply()
    said = served.run("databases", "rotate-password", "given", code=1)
    assert "is given by its manifest" in said.err
    assert "Database/nowhere" in served.run("databases", "rotate-password", "nowhere", code=1).err
    with open_state(served.state) as store:
        assert store.read(databases.rotating) == frozenset()
