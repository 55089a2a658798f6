"""After a push: the daemon is told, and what it does is shown until it has ended. The daemon is played by the test."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reconciler.app.hook_follow import Follower
from reconciler.app.hook_settings import HookSettings, Watch, poke, written_settings
from reconciler.store import Store, Tx, open_state
from reconciler.store.queries import deployments, events, plans, revisions, sources
from reconciler.store.queries.deployments import NewDeployment
from tests.desired.repositories import wait_until
from tests.e2e.harness import PROGRAM, Stage

COMMIT = "a" * 40


@contextmanager
def _daemon(state: Path) -> Iterator[socket.socket]:
    """The daemon's socket in a state directory, however long its path is."""
    folder = os.open(state, os.O_PATH)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(f"/proc/self/fd/{folder}/daemon.sock")
        line.settimeout(20)
        yield line
    os.close(folder)


def _run(
    stage: Stage, tmp_path: Path, *words: str, ref: str = "refs/heads/main", new: str = COMMIT
) -> subprocess.Popen[str]:
    settings = tmp_path / "hook.json"
    settings.write_text(written_settings(HookSettings(stage.state, 20.0, (Watch(),))))
    process = subprocess.Popen(
        [PROGRAM, "hook", "run", "post-receive", "--settings", str(settings), *words],
        env=stage.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(f"{'0' * 40} {new} {ref}\n")
    process.stdin.close()
    process.stdin = None
    return process


def _ended(process: subprocess.Popen[str]) -> list[str]:
    out, err = process.communicate(timeout=90)
    assert (process.returncode, err) == (0, "")
    return out.splitlines()


def _begun(tx: Tx, name: str) -> str:
    found = deployments.create(
        tx, NewDeployment(kind="Site", name=name, triggered_via="push", commit_hash=COMMIT)
    )
    return deployments.start(tx, found.id).id


def _finished(tx: Tx, deployment: str, name: str, *, ok: bool = True) -> None:
    reason = None if ok else "nginx: configuration test failed"
    deployments.finish(tx, deployment, "success" if ok else "failed", reason=reason)
    events.add(
        tx,
        "Site",
        name,
        reason="ReconciliationSucceeded" if ok else "ReconciliationFailed",
        message="3 steps changed" if ok else reason or "",
        deployment_id=deployment,
    )


def _accepted(tx: Tx) -> None:
    revisions.accept(tx, commit=COMMIT, author_name="Ada", author_email="ada@example.test", message="Change")
    sources.put(tx, "main", remote="/r", branch="main", state="ok", message="", seen=COMMIT)
    events.add(tx, "Fleet", "main", reason="RevisionAccepted", message="aaaaaaaaaaaa Change (Ada)")


def test_the_daemon_is_told_and_its_work_is_shown_until_all_of_it_has_ended(
    stage: Stage, tmp_path: Path
) -> None:
    with _daemon(stage.state) as line:
        process = _run(stage, tmp_path)
        assert json.loads(line.recv(4096)) == {"verb": "look", "ref": "refs/heads/main", "commit": COMMIT}
        with open_state(stage.state) as store:
            store.write(_accepted)
            shop, blog = (store.write(lambda tx, n=n: _begun(tx, n)) for n in ("shop", "blog"))  # type: ignore[misc]
            store.write(lambda tx: _finished(tx, shop, "shop"))
            store.write(lambda tx: _finished(tx, blog, "blog", ok=False))
            store.write(lambda tx: revisions.set_status(tx, COMMIT, "failed"))
        told = _ended(process)
    assert told[0] == "reconciler: the daemon looks at main aaaaaaaaaaaa"
    assert "reconciler: Fleet/main: aaaaaaaaaaaa Change (Ada)" in told
    assert told.count("reconciler: Site/shop: begun") == 1
    assert "reconciler: Site/shop: 3 steps changed" in told
    assert "reconciler: Site/blog: nginx: configuration test failed" in told
    assert told[-1] == "reconciler: 2 deployments, 1 failed: `reconciler deployments`"


def test_without_a_daemon_one_line_says_so(stage: Stage, tmp_path: Path) -> None:
    told = _ended(_run(stage, tmp_path))
    assert told == ["reconciler: the daemon is not running; it takes this up when it starts"]
    with _daemon(stage.state):
        pass  # its socket file stays behind
    assert _ended(_run(stage, tmp_path)) == told


def test_other_branches_and_deletions_tell_nobody(stage: Stage, tmp_path: Path) -> None:
    assert _ended(_run(stage, tmp_path, ref="refs/heads/other")) == []
    assert _ended(_run(stage, tmp_path, new="0" * 40)) == []


def test_following_can_be_left_out_and_ends_in_time(stage: Stage, tmp_path: Path) -> None:
    with _daemon(stage.state) as line:
        assert _ended(_run(stage, tmp_path, "--follow", "0")) == [
            "reconciler: the daemon looks at main aaaaaaaaaaaa"
        ]
        assert line.recv(4096)
        with open_state(stage.state) as store:
            store.write(lambda tx: _begun(tx, "shop"))
        told = _ended(_run(stage, tmp_path, "--follow", "1"))
    assert told[-1] == "reconciler: after 1 s: 1 deployment under way; go on with `reconciler events -f`"


def test_an_interrupted_pusher_ends_the_following_quietly(stage: Stage, tmp_path: Path) -> None:
    with _daemon(stage.state) as line:
        process = _run(stage, tmp_path)
        line.recv(4096)
        with open_state(stage.state) as store:
            store.write(lambda tx: _begun(tx, "shop"))
        assert process.stdout is not None
        while "begun" not in process.stdout.readline():
            pass
        process.send_signal(signal.SIGINT)
        assert _ended(process) == ["reconciler: the daemon goes on without you watching"]


def test_when_the_pusher_hangs_up_the_hook_ends(stage: Stage, tmp_path: Path) -> None:
    with _daemon(stage.state) as line:
        process = _run(stage, tmp_path)
        line.recv(4096)
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        with open_state(stage.state) as store:
            store.write(lambda tx: _begun(tx, "shop"))
        wait_until(lambda: process.poll() is not None, 60)
        assert process.stderr is not None
        assert (process.returncode, process.stderr.read()) == (0, "")
        process.stderr.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")
def test_a_state_that_the_pusher_may_not_read_is_said_in_one_line(stage: Stage, tmp_path: Path) -> None:
    with _daemon(stage.state):
        os.chown(stage.state, 12345, 12345)
        told = _ended(_run(stage, tmp_path))
    assert len(told) == 2
    assert told[1].startswith("reconciler: progress cannot be shown here: ")
    assert "12345" in told[1]


def test_a_socket_behind_a_long_path_is_reached_and_a_full_one_does_not_hold_up(tmp_path: Path) -> None:
    state = tmp_path / ("x" * 100) / ("y" * 100)
    state.mkdir(parents=True)
    with _daemon(state) as line:
        for _ in range(2000):
            assert poke(state, "refs/heads/main", COMMIT) == "told"
        assert json.loads(line.recv(4096))["verb"] == "look"
    assert poke(tmp_path / "none", "refs/heads/main", COMMIT) == "absent"


Unit = Callable[[Tx], object]


def _followed(store: Store, *units: Unit, seconds: float = 30) -> list[str]:
    """What is said of a commit after the units were carried out."""
    said: list[str] = []

    def say(text: str) -> bool:
        said.append(text)
        return True

    for unit in units:
        store.write(unit)
    follower = Follower(store, Watch(), COMMIT, say)
    thread = threading.Thread(target=follower.follow, args=(seconds,))
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    return said


def test_a_revision_that_is_not_accepted_says_why(stage: Stage) -> None:
    def unsigned(tx: Tx) -> None:
        sources.put(
            tx,
            "main",
            remote="/r",
            branch="main",
            state="unsigned",
            message="commit aaa: not signed",
            seen=COMMIT,
        )

    with open_state(stage.state) as store:
        assert _followed(store, unsigned) == ["not accepted: commit aaa: not signed"]


@pytest.mark.parametrize(
    ("status", "word"),
    [
        ("applied", "nothing had to change"),
        ("superseded", "a newer revision has taken its place"),
        ("quarantined", "quarantined: its health checks failed"),
    ],
)
def test_a_revision_that_has_ended_says_how(stage: Stage, status: str, word: str) -> None:
    with open_state(stage.state) as store:
        said = _followed(store, _accepted, lambda tx: revisions.set_status(tx, COMMIT, status))  # type: ignore[arg-type]
    assert said[-1] == word


def test_what_waits_for_approval_is_said_and_not_waited_for(stage: Stage) -> None:
    def waiting(tx: Tx) -> None:
        plan = plans.NewPlan(
            fleet="main", identity="1" * 64, commit=COMMIT, tree="", base_commit="", serial=1, lineage="",
            engine="", document={}, summary={}, findings=[{"code": "mass-deletion"}],
        )  # fmt: skip
        plans.put(tx, plan, status="waiting")

    with open_state(stage.state) as store:
        said = _followed(store, _accepted, waiting)
    assert said[-1] == "waits for approval (mass-deletion): `reconciler approve`"


def test_events_of_other_commits_and_of_before_are_not_shown(stage: Stage) -> None:
    def noise(tx: Tx) -> None:
        other = deployments.create(
            tx, NewDeployment(kind="Site", name="other", triggered_via="drift", commit_hash="b" * 40)
        )
        events.add(tx, "Site", "other", reason="X", message="of another commit", deployment_id=other.id)
        events.add(tx, "Fleet", "second", reason="X", message="of another fleet")

    with open_state(stage.state) as store:
        said = _followed(store, _accepted, noise, lambda tx: revisions.set_status(tx, COMMIT, "applied"))
    assert not [line for line in said if "another" in line]
