"""Clearing up after labs whose owner died, and the janitor: a child that does so the moment its owner is gone."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from .host import cgroup_roots, mounts, run, scratch_dir

PREFIX = "reconciler-lab-"
FRESH_PREFIX = ".new-" + PREFIX


def remove_cgroup(group: Path, patience: float = 2.0) -> None:
    """Removes a control group with all below it, waiting a moment for its last processes to be reaped."""
    deadline = time.monotonic() + patience
    while group.is_dir():
        try:
            for folder, _, _ in os.walk(group, topdown=False):
                Path(folder).rmdir()
        except OSError:
            if time.monotonic() > deadline:
                return
            time.sleep(0.02)


def kill_cgroup(group: Path) -> None:
    """Kills every process of a cgroup2 group at once, frozen ones too."""
    if not (group / "cgroup.kill").exists():
        return
    for folder, _, _ in os.walk(group):  # which, unlike rglob, goes on when a folder vanishes meanwhile
        _write_if_there(Path(folder, "cgroup.freeze"), "0")
    _write_if_there(group / "cgroup.kill", "1")


def _write_if_there(path: Path, text: str) -> None:
    with contextlib.suppress(OSError):  # the group may go away meanwhile
        path.write_text(text)


def try_lock(folder: Path) -> int | None:
    """Takes a lab folder's lock if nobody holds it; the descriptor keeps it."""
    try:
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def clear(folder: Path) -> None:
    """Removes processes, control groups, mounts and files of the lab in `folder`."""
    for root in cgroup_roots():
        kill_cgroup(root / folder.name)
    for root in cgroup_roots():
        remove_cgroup(root / folder.name)
    for point, _, _ in reversed(mounts()):
        if point.startswith(f"{folder}/"):
            run("umount", "-l", point, check=False)
    shutil.rmtree(folder, ignore_errors=True)


def sweep(scratch: Path | None = None) -> list[str]:
    """Clears dead labs and says which. A lab is dead when nobody holds its lock: process ids would lie, as
    they repeat over pid namespaces."""
    scratch = scratch or scratch_dir()
    cleared = []
    for folder in sorted(scratch.glob(PREFIX + "*")) if scratch else []:
        lock = try_lock(folder)
        if lock is not None:
            clear(folder)
            os.close(lock)
            cleared.append(folder.name)
    return cleared


def janitor(folder: Path) -> None:
    """Waits until standard input ends, which means the owner is gone, however it went; then clears its lab."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 1):
        pass
    deadline = time.monotonic() + 10
    while folder.exists() and time.monotonic() < deadline:
        lock = try_lock(folder)
        if lock is not None:
            clear(folder)
            return
        # children of the owner that are just dying may hold the lock for another moment
        time.sleep(0.05)


if __name__ == "__main__":
    janitor(Path(sys.argv[1]))
