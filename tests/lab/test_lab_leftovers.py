"""However a lab ends, nothing of it stays on the machine. Each lab here belongs to a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import lab as lab_package
from lab import Lab
from lab.host import cgroup_roots, mounts
from lab.images.registry import missing
from lab.sweep import PREFIX, sweep
from tests.lab_fixtures import unavailable

REPOSITORY = Path(lab_package.__file__).parent.parent

OWNER = """
import os, sys, time
from lab import Lab
how = sys.argv[1]
lab = Lab()
nodes = [lab.add(f"n{i}", "debian12") for i in range(2)]
lab.up(*nodes)
nodes[1].freeze()
print(lab.dir, os.getpid(), *[p for n in nodes for p in n.pids()], flush=True)
if how == "close":
    lab.close()
if how == "raise":
    raise SystemExit("on purpose")
if how == "hang":
    time.sleep(600)
"""


class Owner:
    """A process with a lab of two nodes, one of them frozen."""

    def __init__(self, how: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER, how],
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        words = self.process.stdout.readline().split()
        assert words, "the lab did not start"
        self.dir = Path(words[0])
        self.pids = [int(word) for word in words[1:]]

    def end(self) -> None:
        self.process.kill()
        self.process.wait(30)
        if self.process.stdout:
            self.process.stdout.close()


@pytest.fixture
def owner(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Owner]:
    if missing("debian12"):
        unavailable("image debian12 is not built: run `python3 -m lab images`")
    started = Owner(request.param)
    yield started
    started.end()


def alive(pid: int) -> bool:
    """Whether a process is there and not merely waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def processes_with(words: bytes) -> list[int]:
    """Processes with these words in their command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it may end while we look
            if words in (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found


def leftovers(owner: Owner) -> list[str]:
    """What there still is of a lab: processes, folder, control groups, mounts, files naming it."""
    found = [f"process {pid}" for pid in owner.pids if alive(pid)]
    found += [
        str(path) for path in (owner.dir, *(r / owner.dir.name for r in cgroup_roots())) if path.exists()
    ]
    found += [f"mount {point}" for point, _, _ in mounts() if owner.dir.name in point]
    found += [f"process {pid} naming the lab" for pid in processes_with(owner.dir.name.encode())]
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if owner.dir.name in (process / "mounts").read_text():
                found.append(f"mount in the namespace of process {process.name}")
    return found


def wait_until_clean(owner: Owner, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while (left := leftovers(owner)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []


@pytest.mark.parametrize("owner", ["close", "raise", "end"], indirect=True)
def test_nothing_is_left_by_a_process_that_ends(owner: Owner) -> None:
    owner.process.wait(60)
    wait_until_clean(owner)


@pytest.mark.parametrize("owner", ["hang"], indirect=True)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_nothing_is_left_by_a_process_that_is_killed(owner: Owner, number: signal.Signals) -> None:
    assert "process" in leftovers(owner)[0]  # else the check below would prove nothing
    owner.process.send_signal(number)
    owner.process.wait(60)
    wait_until_clean(owner)


@pytest.mark.parametrize("owner", ["hang"], indirect=True)
def test_sweep_clears_a_lab_that_lost_its_janitor_too(owner: Owner) -> None:
    assert owner.dir.name.startswith(PREFIX)
    sweep(owner.dir.parent)
    assert owner.process.poll() is None, "a living lab was swept"
    janitor = processes_with(f"lab.sweep\0{owner.dir}".encode())
    assert len(janitor) == 1
    os.kill(janitor[0], signal.SIGKILL)
    owner.process.kill()
    owner.process.wait(30)
    assert owner.dir.exists()
    assert owner.dir.name in sweep(owner.dir.parent)
    wait_until_clean(owner)
