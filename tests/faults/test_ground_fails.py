"""What the daemon stands on fails: its database, its disk, the git server. It waits, says so, and goes on by itself.

Servers that hang or lie in the middle of git's conversation are in tests/desired/test_mirror_hostile.py.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lab import faults
from reconciler.store.state import DATABASE

from .gate import gate
from .stage import Stage


@contextmanager
def locked(stage: Stage) -> Iterator[None]:
    """Another program holds the database for writing."""
    connection = sqlite3.connect(stage.state / DATABASE, timeout=30, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")
    finally:
        connection.close()


@contextmanager
def full_disk(stage: Stage) -> Iterator[None]:
    """The file system of the state directory is full to the last block."""
    filler = stage.state / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(65536))
    with (stage.state / "filler-end").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"\0")
    try:
        yield
    finally:
        filler.unlink()
        (stage.state / "filler-end").unlink()


def test_a_database_that_is_locked_for_a_while_costs_only_that_while(stage: Stage) -> None:
    """In the middle of an apply, whose end cannot be recorded, and while the next commit comes."""
    with gate(stage) as closed:
        stage.serve_warm()
        stage.push(shop="601M")
        closed.wait()
        with locked(stage):
            closed.open()
            newest = stage.push(shop="602M")
            time.sleep(15)
            assert stage.status_of(newest) == ""
        stage.reach()
    stage.stop()


def test_a_full_disk_is_waited_out(stage: Stage) -> None:
    with gate(stage) as closed:
        stage.serve_warm()
        stage.push(shop="603M")
        closed.wait()
        mark = stage.mark()
        with full_disk(stage):
            closed.open()
            newest = stage.push(shop="604M")
            stage.until_logs("is full; nothing was changed", mark)
            time.sleep(8)  # a heartbeat of the lease falls into it
            assert stage.status_of(newest) == ""
        stage.reach()
    stage.stop()


def test_a_daemon_that_starts_on_a_full_disk_waits_for_room(stage: Stage) -> None:
    stage.push(shop="605M")
    mark = stage.mark()
    with full_disk(stage):
        stage.serve_warm()
        stage.until_logs("is full", mark, 20)
    stage.reach()
    stage.stop()
    assert "Traceback" not in stage.logged(mark)


# -- the git server


def test_a_git_server_that_is_gone_for_a_while_is_asked_again(stage: Stage) -> None:
    stage.serve_warm()
    stage.reach()
    away = stage.bare.with_name("away.git")
    stage.bare.rename(away)
    try:
        said = stage.until_says("Fleet", "main", "SourceReady", "False Source")
    finally:
        away.rename(stage.bare)
    assert "infra.git" in said
    stage.push(shop="606M")
    stage.reach()
    assert stage.says("Fleet", "main", "SourceReady").startswith("True")
    stage.stop()


def test_a_branch_that_is_rewound_waits_for_an_operator(stage: Stage) -> None:
    earlier, limit = stage.tip, stage.limits["shop"]
    stage.push(shop="607M")
    stage.serve_warm()
    stage.reach()
    stage.move_to(earlier)
    said = stage.until_says("Fleet", "main", "SourceReady", "False SourceRewritten")
    assert f"source accept {earlier[:7]}" in said
    stage.shows("shop")
    stage.run("source", "accept", earlier)
    stage.limits["shop"] = limit
    stage.reach()
    stage.shows("shop")
    stage.fleet.git("reset", "-q", "--hard", earlier)
    stage.push(shop="608M")
    stage.reach()
    stage.stop()


def test_a_branch_that_is_rewritten_waits_until_it_follows_again(stage: Stage) -> None:
    stage.serve_warm()
    stage.reach()
    good = stage.tip
    stage.fleet.git("reset", "-q", "--hard", "HEAD~1")
    stage.commit("Another past", shop="609M")
    stage.land(forced=True)
    stage.until_says("Fleet", "main", "SourceReady", "False SourceRewritten")
    stage.fleet.git("reset", "-q", "--hard", good)
    stage.commit(shop="610M")
    stage.land(forced=True)
    stage.reach()
    stage.stop()


def test_a_repository_with_a_damaged_object_is_not_followed_until_it_is_whole(stage: Stage) -> None:
    stage.serve_warm()
    stage.reach()
    before = stage.limits["shop"]
    stage.commit(shop="611M")
    name = stage.fleet.path("Site", "shop").name
    blob = stage.fleet.git("rev-parse", f"HEAD:{name}")
    whole = _loose(stage.fleet.folder / ".git", blob).read_bytes()
    stage.land()
    damaged = _loose(stage.bare, blob)
    damaged.chmod(0o644)
    damaged.write_bytes(whole[: len(whole) // 2] + b"garbage")
    said = stage.until_says("Fleet", "main", "SourceReady", "False")
    assert "Traceback" not in said
    stage.shows("shop", before)
    damaged.write_bytes(whole)
    stage.reach()
    stage.stop()


def test_a_git_server_that_is_slow_or_hangs_holds_up_nothing_else(stage: Stage) -> None:
    """By ssh to the node, whose network is slow and whose sshd then accepts connections and says nothing."""
    node = stage.nodes["web1"]
    local, settings = stage.bare, stage.settings.read_text()
    remote = node.root / "srv/infra.git"
    stage.fleet.git("clone", "-q", "--bare", str(local), str(remote))
    stage.settings.write_text(
        settings.replace(str(local), f"ssh://root@{node.ip}/srv/infra.git").replace(
            "git: {",
            f"git: {{sshKey: {{file: {node.lab.key.private}}}, knownHosts: {node.lab.key.known_hosts}, ",
        )
    )
    stage.serve_warm()
    stage.push(shop="612M")
    stage.land(to=remote)
    with faults.latency(node, delay=0.03):
        stage.reach()
    node.run("pkill -STOP -o -x sshd")
    try:
        stage.until_says("Fleet", "main", "SourceReady", "False SourceUnreachable")
        node.run("sed -i 's/612M/613M/' /etc/panel/fpm/shop.conf")
        stage.run("reconcile", "Site/shop", "--heal", "--wait")
        stage.shows("shop")
    finally:
        node.run("pkill -CONT -o -x sshd")
    stage.push(shop="614M")
    stage.land(to=remote)
    stage.reach()
    stage.stop()
    stage.settings.write_text(settings)


def _loose(repository: Path, digest: str) -> Path:
    return repository / "objects" / digest[:2] / digest[2:]
