"""The life of software on freshly installed servers of both families: what is recorded of it, and what goes with it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lab import Lab, Node, faults

from .harness import PHP, Stage, boot, fetch, upload, wait_for
from .load import visitors
from .newer import SLOW, offer, withdraw

VERSION_OF = {
    "el": "rpm -q --qf '%{{VERSION}}-%{{RELEASE}}' {}",
    "deb": "dpkg-query -W -f '${{Version}}' {}",
}
PACKAGE = {
    "nginx": {"el": "nginx", "deb": "nginx"},
    "mariadb": {"el": "mariadb-server", "deb": "mariadb-server"},
    "php 8.2": {"el": "php82-php-fpm", "deb": "php8.2-fpm"},
    "php 8.4": {"el": "php84-php-fpm"},
}
PAGE = "<?php usleep(1000 * (int) ($_GET['ms'] ?? 0)); echo PHP_VERSION;"
MANAGER = {"el": "dnf", "deb": "apt-get"}
CONSISTENT = {"el": "rpm -qa --qf '%{NAME}\\n' | grep -v gpg-pubkey | sort | uniq -d", "deb": "dpkg --audit"}
"""Says nothing where no transaction was left in its middle."""
FAMILIES = pytest.mark.parametrize("server", ["el", "deb"])


@pytest.fixture(scope="module")
def bare(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Servers `el` and `deb`, enrolled and applied for the first time, with a site on each."""
    nodes = boot(lab, el="el9", deb="debian12")
    made = Stage.build(tmp_path_factory.mktemp("software"))
    try:
        for name, node in nodes.items():
            made.enroll(name, node)
            made.fleet.change("Server", name, databaseEngines=["mariadb"])
            made.site(f"site-{name}", name)
        made.fleet.commit()
        assert made.run("software", "list").out == "No software is recorded.\n"
        made.apply()
        for name, node in nodes.items():
            upload(node, made.user(f"site-{name}"), PAGE)
        yield made
    finally:
        for node in nodes.values():
            node.remove()


def rows(stage: Stage, server: str, *words: str) -> dict[str, list[Mapping[str, Any]]]:
    """The records of a server by piece of software, oldest first."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in json.loads(stage.run("software", "list", "--server", server, "-o", "json", *words).out):
        found.setdefault(" ".join(filter(None, (row["type"], row["series"]))), []).append(row)
    return found


def states(stage: Stage, server: str) -> dict[str, list[tuple[str, str]]]:
    every = rows(stage, server, "--history")
    return {name: [(row["action"], row["status"]) for row in found] for name, found in every.items()}


def packages(node: Node, server: str) -> set[str]:
    """What is installed."""
    form = (
        "rpm -qa --qf '%{NAME}\\n'"
        if server == "el"
        else "dpkg-query -W -f '${Package} ${db:Status-Status}\\n'"
    )
    return {line.split()[0] for line in node.output(form).splitlines() if not line.endswith("config-files")}


def changed(stage: Stage, server: str, *words: str, code: int = 0, **spec: object) -> str:
    stage.fleet.change("Server", server, **spec)
    stage.fleet.commit()
    return stage.apply(*words, code=code).text


@FAMILIES
def test_what_is_installed_is_recorded_with_the_version_that_the_node_has(bare: Stage, server: str) -> None:
    node = bare.nodes[server]
    found = rows(bare, server)
    assert set(found) == {
        "nginx",
        "mariadb",
        *(f"php {version}" for version in PHP["el9" if server == "el" else "debian12"]),
    }
    for name, (row,) in found.items():
        version = node.output(VERSION_OF[server].format(PACKAGE[name][server]))
        assert (row["action"], row["status"], row["version"]) == ("install", "installed", version)
    assert fetch(node, f"site-{server}.test")[1].startswith("8.2.")
    bare.in_sync()


@FAMILIES
def test_a_database_server_goes_with_an_approval_and_leaves_its_data(bare: Stage, server: str) -> None:
    node = bare.nodes[server]
    node.run(
        "mariadb -e 'CREATE DATABASE keepsake; CREATE TABLE keepsake.t (n INT); INSERT INTO keepsake.t VALUES (42)'"
    )
    before = packages(node, server)
    said = changed(bare, server, databaseEngines=[], code=3)
    assert "engine-removal: mariadb of Server/" in said
    assert "mariadb-server" in packages(node, server)
    bare.apply("--approve", "engine-removal")
    gone = before - packages(node, server)
    assert "mariadb-server" in gone
    assert {
        name
        for name in gone
        if not name.startswith(
            ("mariadb", "galera", "mysql", "lib", "perl", "rsync", "lsof", "socat", "pv", "gawk")
        )
    } == set()
    assert node.run("systemctl is-active mariadb", check=False).stdout.strip() != "active"
    assert node.run("ls /var/lib/mysql/keepsake", check=False).returncode == 0
    assert states(bare, server)["mariadb"] == [("install", "installed"), ("uninstall", "removed")]
    assert "mariadb" not in rows(bare, server)
    bare.in_sync()

    changed(bare, server, databaseEngines=["mariadb"])
    assert node.output("mariadb -N -e 'SELECT n FROM keepsake.t'") == "42"
    assert states(bare, server)["mariadb"][-1] == ("install", "installed")
    assert fetch(node, f"site-{server}.test")[1].startswith("8.2.")


def test_a_version_of_php_goes_with_what_came_along_and_nothing_else(bare: Stage) -> None:
    node = bare.nodes["el"]
    node.run("dnf -q -y install php84-php-pecl-redis6", timeout=120)
    before = packages(node, "el")
    said = changed(bare, "el", software={"php": ["8.2"]}, code=1)
    assert "php84-php-pecl-redis6" in said
    assert "remove that first" in said
    assert packages(node, "el") == before
    (row,) = rows(bare, "el")["php 8.4"]
    assert (row["action"], row["status"]) == ("uninstall", "failed")
    assert "php84-php-pecl-redis6" in row["reason"]

    node.run("dnf -q -y remove php84-php-pecl-redis6", timeout=120)
    bare.apply()
    gone = before - packages(node, "el")
    assert {name for name in gone if not name.startswith("php84-")} == set()
    assert {"php84-runtime", "php84-php-common", "php84-php-fpm"} <= gone
    assert states(bare, "el")["php 8.4"] == [("install", "installed"), ("uninstall", "removed")]
    assert fetch(node, "site-el.test")[1].startswith("8.2.")
    bare.in_sync()


def test_a_site_and_its_old_version_move_and_go_in_one_commit(bare: Stage) -> None:
    node = bare.nodes["el"]
    bare.fleet.change("Server", "el", software={"php": ["8.4"]})
    bare.fleet.change("Site", "site-el", phpVersion="8.4")
    bare.fleet.commit()
    bare.apply()
    assert not {name for name in packages(node, "el") if name.startswith("php82-")}
    assert node.output("systemctl is-active panel-fpm-site-el") == "active"
    assert states(bare, "el")["php 8.2"][-1] == ("uninstall", "removed")
    # the look-alike's php-fpm is a script, which a reload does not run anew
    node.run("systemctl restart panel-fpm-site-el")
    assert fetch(node, "site-el.test")[1].startswith("8.4.")
    bare.in_sync()


# -- what goes wrong while software is installed; the node goes on to serve what it served ----------------

WANTED = {"el": "postgresql", "deb": "postgresql-15"}
FILLED = {"el": "/var/cache/dnf", "deb": "/usr/lib/postgresql"}
"""What has to be written to: the lists of dnf, and the files of the package."""
SOURCES = {"el": "/etc/yum.repos.d", "deb": "/etc/apt"}


@contextmanager
def repositories_down(node: Node, server: str) -> Iterator[None]:
    """Every repository is somewhere where nobody answers, and nothing of them is kept."""
    folder = SOURCES[server]
    node.run(
        f"cp -a {folder} /root/kept && find {folder} -type f | xargs sed -i -E 's#(file|copy|https?):[^ ]*#http://127.0.0.1:9/#'"
    )
    node.run(
        "dnf -q clean all" if server == "el" else "rm -rf /var/lib/apt/lists/*_Packages /var/cache/apt/*.bin"
    )
    try:
        yield
    finally:
        node.run(f"rm -rf {folder} && mv /root/kept {folder}")


@contextmanager
def disk_full(node: Node, server: str) -> Iterator[None]:
    """No room for what is to be written."""
    folder = FILLED[server]
    node.run(f"mkdir -p {folder} && if command -v dnf; then dnf -q clean all; fi")
    with faults.full_disk(node, folder, "64k"):
        yield


TROUBLES = {"repositories-down": repositories_down, "disk-full": disk_full}


@pytest.mark.parametrize(("server", "trouble"), [("el", "repositories-down"), ("deb", "disk-full")])
def test_an_installation_that_fails_says_why_and_the_node_serves_on(
    bare: Stage, server: str, trouble: str
) -> None:
    node = bare.nodes[server]
    page = fetch(node, f"site-{server}.test")
    with TROUBLES[trouble](node, server):
        said = changed(bare, server, databaseEngines=["mariadb", "postgresql"], code=1)
        assert WANTED[server] in said
        (row,) = rows(bare, server)["postgresql"]
        assert (row["action"], row["status"]) == ("install", "failed")
        assert WANTED[server] in row["reason"]
        assert bare.condition(f"Server/{server}", "Ready").startswith("False/")
        assert fetch(node, f"site-{server}.test") == page
    bare.apply()
    assert rows(bare, server)["postgresql"][0]["status"] == "installed"
    changed(bare, server, "--approve", "engine-removal", databaseEngines=["mariadb"])
    bare.in_sync()


@FAMILIES
def test_a_power_cut_in_a_transaction_is_healed_by_the_next_apply(bare: Stage, server: str) -> None:
    node = bare.nodes[server]
    bare.fleet.change("Server", server, databaseEngines=["mariadb", "postgresql"])
    bare.fleet.commit()
    running = bare.start("apply", "--yes")
    under_way = {
        "el": "pgrep -f '[d]nf.*install'",
        # the worst moment: what was removed before and is half installed, apt-get takes for installed
        "deb": "dpkg-query -W -f '${db:Status-Status}' postgresql-15 | grep half-installed",
    }[server]
    wait_for(lambda: node.run(under_way, check=False).returncode == 0, 60, 0.02)
    running.kill()
    running.communicate()
    node.crash()
    (row,) = rows(bare, server)["postgresql"]
    assert row["status"] == "installing"
    node.start()
    node.wait_ssh()
    bare.apply()
    (row,) = rows(bare, server)["postgresql"]
    assert row["status"] == "installed"
    assert bare.count("software_installations", "status IN ('pending', 'installing')") == 0
    assert node.output("systemctl is-active postgresql") == "active"
    assert fetch(node, f"site-{server}.test")[0] == 200
    bare.in_sync()


# -- upgrades ------------------------------------------------------------------------------------------


@FAMILIES
def test_an_upgrade_is_shown_and_asked_for_and_only_its_packages_are_newer(
    bare: Stage, server: str, tmp_path: Path
) -> None:
    node = bare.nodes[server]
    version = VERSION_OF[server].format("nginx")
    before = node.output(version)
    old = node.output("systemctl show -P MainPID nginx")
    assert f"nginx {before}: nothing newer." in bare.run("software", "upgrade", server, "nginx").out
    after = offer(node, tmp_path / "newer", 1)
    shown = bare.run("software", "upgrade", server, "--plan").out
    assert re.search(rf"nginx +{re.escape(before)} +{re.escape(after)} +", shown)
    assert node.output(version) == before
    bare.run("software", "upgrade", server, "nginx", code=2)
    others = packages(node, server)
    with visitors(node, f"site-{server}.test", "/", "/?ms=2000") as visits:
        said = bare.run("software", "upgrade", server, "nginx", "--yes")
    if server == "deb":
        assert visits.failures == [], visits.count
    else:  # the scripts of the look-alike's package restart it; an answer has a status
        assert not [failure for failure in visits.failures if failure[0].isdigit()]
    assert f"Server/{server} is upgraded" in said.out
    assert node.output(version) == after
    assert packages(node, server) == others
    # the old one answers what it had first
    wait_for(lambda: node.output("systemctl show -P MainPID nginx") != old)
    assert states(bare, server)["nginx"] == [("install", "installed"), ("upgrade", "installed")]
    assert rows(bare, server)["nginx"][0]["version"] == after
    assert fetch(node, f"site-{server}.test")[0] == 200
    assert bare.deployments(f"Server/{server}")[0]["status"] == "success"
    bare.in_sync()


@FAMILIES
def test_an_upgrade_that_fails_is_told_in_the_words_of_the_package_manager_and_the_node_serves_on(
    bare: Stage, server: str, tmp_path: Path
) -> None:
    node = bare.nodes[server]
    version = VERSION_OF[server].format("nginx")
    before = node.output(version)
    with repositories_down(node, server):
        said = bare.run("software", "upgrade", server, "nginx", "--yes", code=1)
        assert "cannot ask the repositories" in said.err
        assert states(bare, server)["nginx"][-1] == ("upgrade", "installed")
    offer(node, tmp_path / "newer", 2, broken=True)
    said = bare.run("software", "upgrade", server, "nginx", "--yes", code=1)
    assert "not upgraded" in said.out
    (row,) = rows(bare, server)["nginx"]
    assert (row["action"], row["status"], row["version"]) == ("upgrade", "failed", before)
    assert MANAGER[server] in row["reason"]
    assert node.output(version) == before
    assert fetch(node, f"site-{server}.test")[0] == 200
    withdraw(node)
    bare.apply()
    assert bare.condition(f"Server/{server}", "Ready").startswith("True/")
    bare.in_sync()


@FAMILIES
def test_an_upgrade_that_a_power_cut_interrupted_is_brought_to_its_end_by_the_next(
    bare: Stage, server: str, tmp_path: Path
) -> None:
    node = bare.nodes[server]
    after = offer(node, tmp_path / "newer", 3)
    node.write(SLOW, "")
    running = bare.start("software", "upgrade", server, "nginx", "--yes")
    wait_for(lambda: node.run("pgrep -x sleep", check=False).returncode == 0, 60)
    running.kill()
    running.communicate()
    node.crash()
    node.start()
    node.wait_ssh()
    node.run(f"rm {SLOW}")
    assert node.output(CONSISTENT[server]) != ""
    said = bare.run("software", "upgrade", server, "nginx", "--yes").out
    assert "did not come to an end: it goes on" in said
    assert f"Server/{server} is upgraded" in said
    assert node.output(VERSION_OF[server].format("nginx")) == after
    assert node.output(CONSISTENT[server]) == ""
    (row,) = rows(bare, server)["nginx"]
    assert (row["action"], row["status"], row["version"]) == ("upgrade", "installed", after)
    assert bare.count("software_installations", "status IN ('pending', 'installing')") == 0
    assert fetch(node, f"site-{server}.test")[0] == 200
    bare.in_sync()
