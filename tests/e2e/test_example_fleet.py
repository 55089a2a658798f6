"""The example fleet, converged on real nodes: what it declares is there, and a second look finds nothing to do.

`old1` is not (no node of the lab is an EL 8), its sites are on web1; web3 is a Debian 12. What else is changed is in
`adapted`, each with its reason; everything that is not named there is converged as it stands.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import Lab, Node
from reconciler.kit.secret import Secret
from reconciler.store import open_state
from reconciler.store.identity import put
from tests.nodes import loopback

from . import ca
from .applications import Application, Hosting, hosted
from .ca import Ca
from .harness import PROGRAM, ROOT, SELINUX, Fleet, Stage, boot, wait_for
from .test_tls import Answer, ask

EXAMPLE = ROOT / "example-infra"
IDENTITY = ROOT / "tests" / "example" / "identity.txt"
IMAGES = {"web1": "el9-web", "web2": "debian12-web", "web3": "debian12-web", "db1": "el9-web"}
SMOKE = ["/usr/bin/curl", "-sfk", "--resolve", "{domain}:443:{address}", "https://{domain}/"]
ARTISAN = """<?php
if ($argv[1] === 'queue:work') { while (true) { touch(__DIR__ . '/storage/working'); sleep(1); } }
file_put_contents(__DIR__ . '/storage/' . strtr($argv[1], ':', '-'), parse_ini_file(__DIR__ . '/.env')['APP_ENV']);
"""
CHAT = """#!/usr/bin/python3
import http.server, os, socketserver, sys
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"chatting")
    def address_string(self): return "-"
    def log_message(self, *_): pass
path = sys.argv[2]
if os.path.exists(path): os.unlink(path)
class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer): pass
Server(path, Page).serve_forever()
"""
NAMES = {
    **dict.fromkeys(("shop.example.test", "www.shop.example.test", "store.example.test"), "web1"),
    "crm.example.test": "web2",
    "handbook.example.test": "web3",
}
"""The names that the CA has to find, and where they lead."""
SITES = ("archive", "chat", "crm", "handbook", "old-shop", "shop", "status")
WAREHOUSE = """set -e
systemctl disable -q --now nginx php-fpm mariadb || true
systemctl is-active postgresql
cd /tmp
runuser -u postgres -- psql -q -c "CREATE ROLE warehouse LOGIN" -c "CREATE DATABASE warehouse OWNER warehouse"
runuser -u postgres -- psql -q -d warehouse -c "CREATE TABLE goods (n int); INSERT INTO goods VALUES (42)"
"""
"""The database that was there before."""


class Example(Fleet):
    """The manifests of the example, in its own files."""

    def edit(self, kind: str, name: str, /, **spec: Any) -> None:
        """Replace fields of a spec, or of the values of Defaults; None takes one away."""
        for path in sorted(self.folder.rglob("*.yaml")):
            found = list(yaml.safe_load_all(path.read_text()))
            for manifest in found:
                if (manifest["kind"], manifest["metadata"]["name"]) != (kind, name):
                    continue
                within = manifest["spec"]["values"] if kind == "Defaults" else manifest["spec"]
                for field, value in spec.items():
                    if value is None:
                        assert within.pop(field, None) is not None, f"{kind}/{name} has no {field}"
                    else:
                        within[field] = value
                path.write_text(yaml.safe_dump_all(found, sort_keys=False))
                return
        raise AssertionError(f"the example has no {kind}/{name}")


@dataclass(frozen=True)
class Applications:
    """The repositories of the sites that are deployed from git."""

    crm: Application
    handbook: Application
    archive: Application
    archived: str
    """The commit that `archive` is to stay at."""


def _pushed(hosting: Hosting) -> Applications:
    crm, handbook, archive = (Application(hosting, name) for name in ("crm", "handbook", "archive"))
    up = "<?php header('Cache-Control: no-store'); echo $_SERVER['REQUEST_URI'] === '/up' ? 'up' : 'crm';"
    crm.push(public__index_php=up, artisan=ARTISAN, storage__keep="", public__uploads__keep="")
    handbook.push(build__index_html="the handbook")
    handbook.git("tag", "published")
    handbook.git("push", "-q", f"{handbook.copy}.git", "published")
    handbook.push(build__index_html="not yet published")
    archived = archive.push(index_php="<?php echo 'the archive';")
    archive.push(index_php="<?php echo 'too new';")
    return Applications(crm, handbook, archive, archived)


def adapted(fleet: Example, authority: Ca, apps: Applications) -> None:
    """What the lab cannot have or has in another place."""
    kept = yaml.safe_load((EXAMPLE / "sites" / "crm.yaml").read_text())["spec"]["source"]
    fleet.edit("Site", "crm", source={**kept, "repository": apps.crm.address})
    tagged = {"repository": apps.handbook.address, "key": "deploy", "tag": "published"}
    fleet.edit("Site", "handbook", source=tagged)
    fixed = {"repository": apps.archive.address, "key": "deploy", "commit": apps.archived}
    fleet.edit("Site", "archive", source=fixed, server="web1", phpVersion="8.2")
    fleet.edit("Site", "old-shop", server="web1", phpVersion="8.2")
    (fleet.folder / "servers" / "old1.yaml").unlink()
    account = {"email": "hosting@example.test", "directory": authority.directory, "trust": authority.trust}
    fleet.edit("Defaults", "production-servers", acme=account)
    # containers: no SELinux, no swap, no quota, a host name of their own
    fleet.edit("Server", "web1", selinux=SELINUX)
    fleet.edit("Server", "web2", swap=None)
    fleet.edit("Site", "shop", limits=None)
    fleet.edit("Server", "web3", os="debian_12", port=None, software={"php": ["8.2"]})
    fleet.edit("Server", "db1", os="alma_9", selinux=SELINUX)


@dataclass(frozen=True)
class Converged:
    """The fleet as the daemon made it; the daemon has ended."""

    stage: Stage
    ca: Ca
    log: str

    def ask(self, server: str, url: str, *options: str, verified: bool = True) -> Answer:
        return ask(self.stage.nodes[server], url, *options, roots=self.ca.root() if verified else None)


def _began(folder: Path, nodes: dict[str, Node], authority: Ca, hosting: Hosting) -> Stage:
    """A new user's steps until the daemon starts."""
    shutil.copytree(EXAMPLE, folder / "fleet")
    fleet = Example(folder / "fleet")
    fleet.git("init", "-q", "-b", "main")
    adapted(fleet, authority, _pushed(hosting))
    for name, node in nodes.items():
        fleet.edit("Server", name, address=node.ip)
    fleet.commit("Declare the fleet")
    stage = Stage(fleet, folder / "state", nodes)
    stage.run("init")
    (line,) = (x for x in IDENTITY.read_text(encoding="utf-8").splitlines() if not x.startswith("#"))
    with open_state(stage.state) as store:
        where = {"table": "meta", "row_id": "age_identity", "column": "value"}
        store.write(lambda tx: put(tx, "age_identity", tx.box.seal(Secret(line), **where)))
    settings = {
        "git": {"knownHosts": str(hosting.folder / "known_hosts")},
        "fleets": [{"remotes": [str(fleet.folder)], "poll": "5s"}],
        "checks": {"smoke": SMOKE},
    }
    (stage.state / "reconciler.yaml").write_text(yaml.safe_dump(settings))
    for name, node in nodes.items():
        stage.run("servers", "enroll", name, "--identity", str(node.lab.key.private), "--accept-host-key")
    return stage


def _converged(stage: Stage, hosting: Hosting, log: Path) -> None:
    """Run the daemon until everything is ready; the repositories let it in once it has made its key."""
    with log.open("wb") as out:
        daemon = subprocess.Popen(
            [PROGRAM, "serve", "--log-format", "text"],
            env=stage.environment(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
        try:
            wait_for(lambda: (stage.row("ssh_keys", name="deploy") or {}).get("public_key"), 120, 0.5)
            hosting.let_in(stage)
            wait_for(lambda: all(_ready(stage, name) for name in SITES), 240, 2)
            wait_for(lambda: stage.count("revisions", "status = 'applied'") == 1, 60, 0.5)
        except AssertionError:
            pytest.fail(f"{stage.run('status', code=None).text}\n{log.read_text()[-5000:]}")
        finally:
            daemon.terminate()
            daemon.wait(60)


def _ready(stage: Stage, site: str) -> bool:
    return stage.condition(f"Site/{site}", "Ready").startswith("True/")


@pytest.fixture(scope="module")
def fleet(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Converged]:
    if loopback.SSHD is None or os.geteuid() != 0:
        pytest.skip("needs root and an OpenSSH server")
    nodes = boot(lab, **IMAGES)
    folder = tmp_path_factory.mktemp("example")
    try:
        with ca.running(lab.controller, folder / "ca") as authority, hosted(folder) as hosting:
            for name, server in NAMES.items():
                authority.resolve(name, nodes[server].ip)
            nodes["db1"].run(WAREHOUSE)
            nodes["web3"].run("systemctl disable -q --now nginx")
            stage = _began(folder, nodes, authority, hosting)
            _converged(stage, hosting, folder / "log")
            yield Converged(stage, authority, (folder / "log").read_text())
    finally:
        for node in nodes.values():
            node.remove()


def test_every_change_succeeded_at_the_first_try_and_its_checks_passed(fleet: Converged) -> None:
    stage = fleet.stage
    assert {found["status"] for found in stage.deployments()} == {"success"}, fleet.log
    assert {found["ready"] for found in stage.status().values()} == {"True"}
    assert "warning" not in fleet.log
    assert stage.count("revisions") == stage.count("revisions", "status = 'applied'") == 1


def test_the_shop_answers_under_its_names(fleet: Converged) -> None:
    page = fleet.ask("web1", "https://shop.example.test/?health")
    assert (page.status, page.version) == (200, "2")
    assert "strict-transport-security: max-age=15552000\n" in page.head
    assert "permissions-policy: camera=(), microphone=()" in page.head
    assert "x-frame-options" not in page.head
    for url, leads in (
        ("https://www.shop.example.test/x", "https://shop.example.test/x"),
        ("http://shop.example.test/x", "https://shop.example.test/x"),
        ("https://shop.example.test/about.html", "/about"),
        ("https://shop.example.test/blog/a", "https://status.example.test/news/a"),
    ):
        found = fleet.ask("web1", url)
        assert (found.status in (301, 302, 308), found.location) == (True, leads), url
    node = fleet.stage.nodes["web1"]
    env = node.read(f"/home/{fleet.stage.user('shop')}/.env")
    for name in ("PAYMENT_TOKEN=", "WP_ENVIRONMENT_TYPE=", "DB_PASSWORD=", "STATS_PASSWORD="):
        assert f"\n{name}" in f"\n{env}"
    assert "BEGIN AGE" not in env
    assert node.output("systemctl is-active panel-cron-shop_wp-cron.timer") == "active"


def test_the_other_sites_answer_as_they_are_declared(fleet: Converged) -> None:
    assert fleet.ask("web1", "https://status.example.test/", verified=False).status == 200
    assert fleet.ask("web1", "http://status.example.test/").status == 200
    assert fleet.ask("web1", "http://old-shop.example.test/").status == 503
    archive = fleet.ask("web1", "http://www.archive.example.test/")
    assert (archive.status, archive.body) == (200, "the archive")
    crm = fleet.ask("web2", "https://crm.example.test/up")
    assert (crm.status, crm.body) == (200, "up")
    handbook = fleet.ask("web3", "https://handbook.example.test/")
    assert (handbook.status, handbook.body) == (200, "the handbook")


def test_the_program_behind_the_proxy_is_reached_once_it_is_there(fleet: Converged) -> None:
    node, user = fleet.stage.nodes["web2"], fleet.stage.user("chat")
    assert fleet.ask("web2", "https://chat.example.test/", verified=False).status == 502
    home = f"/home/{user}/public_html"
    node.run(
        f"runuser -u {user} -- sh -c 'cat > {home}/chat && chmod 0755 {home}/chat && cd {home} && mkdir -p ../storage'",
        stdin=CHAT,
    )
    wait_for(
        lambda: fleet.ask("web2", "https://chat.example.test/", verified=False).body == "chatting", 60, 0.5
    )


def test_a_release_has_its_database_its_redis_its_jobs_and_its_workers(fleet: Converged) -> None:
    node, user = fleet.stage.nodes["web2"], fleet.stage.user("crm")
    storage = f"/home/{user}/shared/storage"
    assert node.read(f"{storage}/migrate") == "production"
    wait_for(lambda: node.run(f"test -e {storage}/working", check=False).returncode == 0, 60, 0.5)
    assert node.output("systemctl is-active panel-redis-crm panel-cron-crm_schedule.timer").split() == [
        "active",
        "active",
    ]
    node.run("systemctl start panel-cron-crm_schedule.service")
    assert node.read(f"{storage}/schedule-run") == "production"
    tables = f"runuser -u {user} -- sh -c '. /home/{user}/.env; PGPASSWORD=$DB_PASSWORD psql -h 127.0.0.1 -U crm -d crm -c {{}}'"
    assert "CREATE TABLE" in node.output(tables.format('"CREATE TABLE customers (n int)"'))


def test_the_warehouse_was_taken_over_with_its_data(fleet: Converged) -> None:
    node = fleet.stage.nodes["db1"]
    ask = "cd /tmp; runuser -u postgres -- psql -d warehouse -Atc 'SELECT n FROM goods'"
    assert node.output(ask) == "42"
    assert "198.18.0.0/24" in node.output("cat /etc/firewalld/zones/*.xml")


def test_the_hosts_are_as_declared(fleet: Converged) -> None:
    nodes = fleet.stage.nodes
    for name, node in nodes.items():
        assert node.output("date +%Z") in ("CET", "CEST"), name
        assert node.output("systemctl is-active fail2ban") == "active", name
        assert node.output("hostname") == f"{name}.example.test"
    ports = nodes["web2"].output("ss -Hltn 'sport = :22 or sport = :2222'")
    assert {line.split()[3].rpartition(":")[2] for line in ports.splitlines()} == {"22", "2222"}
    rules = nodes["web2"].output("nft list table inet panel")
    assert "198.18.0.5" in rules
    assert "udp dport 60000" in rules
    assert "NOPASSWD: ALL" in nodes["web2"].output("sudo -l -U oncall")
    assert "not allowed" in nodes["web2"].output("sudo -l -U developer")
    assert nodes["web3"].output("systemctl is-active caddy") == "active"


def test_there_is_nothing_left_to_do(fleet: Converged) -> None:
    fleet.stage.in_sync()
