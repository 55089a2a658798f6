"""`reconciler top`: one frame as text, what it leaves out when there is no room, and the live view."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from reconciler.app.overview import Overview, ServerView, take
from reconciler.cli.top import age, frame
from reconciler.store.queries import leases, servers
from tests.cli.recorded import NEW, Recorded, fill
from tests.e2e.harness import PROGRAM


@pytest.fixture
def state(tmp_path: Path) -> Recorded:
    made = Recorded.make(tmp_path / "state")
    with made.store() as store:
        store.write(fill)
    return made


def drawn(view: Overview, height: int | None = None, width: int = 160) -> list[str]:
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(frame(view, height))
    return [line.rstrip() for line in captured.get().splitlines()]


def test_a_frame_says_how_everything_stands(state: Recorded) -> None:
    told = state.run("top", "--once")
    assert told.code == 0
    assert all(line == line.rstrip() for line in told.out.splitlines())
    head, *rest = told.out.splitlines()
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d [\d:]{8} UTC  daemon control1:812  1 deployment under way, 1 server waiting,"
        r" 0 requests unanswered, 1 suspended",
        head,
    )
    words = [" ".join(line.split()) for line in rest]
    assert any(re.fullmatch(rf"main main ok {NEW[:7]} {NEW[:7]} applying \d+s ago", line) for line in words)
    assert "web1 active True 1/2 applying Site/shop1" in words
    assert "web2 active True 2/2 NodeUnreachable: connection refused" in words
    assert "web3 active True 2/2 Site/shop3 drifted: 1 file differs" in words
    assert "web4 active True 2/2" in words
    assert any(re.fullmatch(rf"\w{{26}} Site/shop1 running push {NEW[:7]} \d+s", line) for line in words)
    assert "Ready 7 0 1" in words
    assert "Drifted 1 0 0" in words
    assert any(
        re.fullmatch(r"NotReady Server/web2 new \d+s ago connection \[31mrefused", line) for line in words
    )


def test_it_says_when_no_daemon_runs(state: Recorded) -> None:
    with state.store() as store:
        store.write(lambda tx: leases.release(tx, "daemon", "control1:812"))
    assert "no daemon is running" in state.run("top", "--once").out


def test_an_empty_state_is_a_frame_too(tmp_path: Path) -> None:
    told = Recorded.make(tmp_path / "state").run("top")
    assert told.code == 0
    assert "no daemon is running" in told.out
    assert "SERVER" not in told.out


def test_a_server_that_waits_for_its_next_try_says_when(state: Recorded) -> None:
    state.put("Server/web2", "Reconciling", "False")
    assert re.search(r"web2 .*tries again in \d\ds after 3 failures", state.run("top", "--once").out)


def test_what_is_wrong_on_a_server_is_told_worst_first(state: Recorded) -> None:
    state.put("Site/shop3", "Stalled", "True", message="the domain is taken")
    state.put("Server/web3", "Ready", "False", reason="HealthCheckFailed")
    out = state.run("top", "--once").out
    assert re.search(r"web3 .*1/2 +Server/web3 not ready: HealthCheckFailed and 1 more", out)


def test_without_room_the_calm_servers_are_left_out_first(state: Recorded) -> None:
    with state.store() as store:
        view = store.read(take)
    many = tuple(
        ServerView(f"node{n:03}", "active", "True", 3, 3, "" if n % 50 else "applying Site/x")
        for n in range(500)
    )
    view = replace(view, servers=many)
    lines = drawn(view, height=40)
    assert len(lines) <= 40
    shown = [line for line in lines if line.startswith("node")]
    assert sum("applying" in line for line in shown) == 10
    assert any(re.fullmatch(r"… \d+ more, all calm", line) for line in lines)
    assert len([line for line in drawn(view) if line.startswith("node")]) == 500
    narrow = drawn(view, height=40, width=60)
    assert max(map(len, narrow)) <= 60


def test_the_frame_fits_every_height(state: Recorded) -> None:
    with state.store() as store:
        view = store.read(take)
    full = replace(view, servers=view.servers * 40, running=view.running * 40, alerts=view.alerts * 40)
    for height in (24, 30, 40, 60, 100):
        for one in (view, full, replace(full, alerts=(), running=()), replace(full, fleets=full.fleets * 9)):
            lines = drawn(one, height)
            assert len(lines) < height
            assert any(line.startswith("web1") for line in lines)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (-5, "0s"), (59.9, "59s"), (60, "1m00s"), (192, "3m12s"), (7500, "2h05m"), (273600, "3d04h")],
)
def test_ages_have_two_units_at_most(seconds: float, text: str) -> None:
    assert age(seconds) == text


def test_a_retained_lease_of_the_past_is_no_daemon(state: Recorded) -> None:
    with state.store(datetime.now(UTC) + timedelta(minutes=5)) as store:
        assert store.read(take).holder is None


def test_on_a_terminal_it_goes_on_until_interrupted(state: Recorded) -> None:
    main, other = pty.openpty()
    running = subprocess.Popen(
        [PROGRAM, "top", "--every", "0.2"],
        env={
            **os.environ,
            "RECONCILER_STATE": str(state.folder),
            "TERM": "xterm",
            "COLUMNS": "150",
            "LINES": "50",
        },
        stdin=other,
        stdout=other,
        stderr=subprocess.PIPE,
    )
    os.close(other)
    try:
        assert "web4" in read_until(main, "web4")
        with state.store() as store:
            store.write(lambda tx: servers.upsert(tx, "web9", servers.ServerFields("198.18.0.9", "rocky_9")))
        assert "web9" in read_until(main, "web9")
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=20) == 0
        assert running.stderr is not None
        assert running.stderr.read() == b""
    finally:
        running.kill()
        running.communicate()
        os.close(main)


def read_until(main: int, word: str, within: float = 20) -> str:
    """What a terminal showed until `word` was among it, or all of it after a time."""
    shown = ""
    end = time.monotonic() + within
    while word not in shown and time.monotonic() < end:
        if select.select([main], [], [], 0.1)[0]:
            shown += os.read(main, 65536).decode(errors="replace")
    return shown
