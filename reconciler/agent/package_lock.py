"""The lock of the package manager: who holds it, and whether a program of ours does nothing but wait for it."""

import os
import signal
import time
from contextlib import suppress
from typing import Dict, List, NamedTuple, Set

from . import cancel, places

_DNF_PID_FILES = (
    "/var/lib/dnf/rpmdb_lock.pid",
    "/var/cache/dnf/metadata_lock.pid",
    "/var/cache/dnf/download_lock.pid",
)
_LOCK_FILES = (
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/dpkg/lock",
    "/var/lib/apt/lists/lock",
    "/var/lib/rpm/.rpm.lock",
    "/usr/lib/sysimage/rpm/.rpm.lock",
)
_FREEZE_SECONDS = 2.0
_AT_REST = ("T", "t", "Z", "X")


class _Lock(NamedTuple):
    """A line of /proc/locks about a lock file: the process, and whether it waits for the lock instead of holding it."""

    pid: int
    waits: bool


def _locks() -> List[_Lock]:
    inodes: Dict[int, str] = {}
    for path in _LOCK_FILES:
        with suppress(OSError):
            inodes[os.stat(places.real(path)).st_ino] = path
    found = []
    with open("/proc/locks") as source:
        for line in source:
            fields = line.split()
            waits = "->" in fields
            if waits:
                fields.remove("->")
            if len(fields) < 6 or not fields[4].isdigit():
                continue
            inode = fields[5].rpartition(":")[2]
            if inode.isdigit() and int(inode) in inodes and int(fields[4]) > 0:
                found.append(_Lock(int(fields[4]), waits))
    return found


def _name_of(pid: int) -> str:
    try:
        with open("/proc/{}/comm".format(pid)) as source:
            return "{} (process {})".format(source.read().strip(), pid)
    except OSError:
        return ""


def holder() -> str:
    """Who holds the lock of the package manager: "dnf (process 4711)", or an empty text when it cannot be told."""
    for lock in _locks():
        if not lock.waits:
            return _name_of(lock.pid)
    for path in _DNF_PID_FILES:
        try:
            with open(places.real(path)) as source:
                name = _name_of(int(source.read().strip() or 0))
        except (OSError, ValueError):
            continue
        if name:
            return name
    return ""


def _group(leader: int) -> Dict[int, str]:
    """The processes of a group and their states, as /proc/PID/stat names them."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open("/proc/{}/stat".format(name), "rb") as source:
                fields = source.read().decode("utf-8", "replace").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == leader:
            found[int(name)] = fields[0]
    return found


def _freeze(leader: int) -> bool:
    """Halt a process group; false when it does not come to rest."""
    os.killpg(leader, signal.SIGSTOP)
    deadline = time.monotonic() + _FREEZE_SECONDS
    while any(state not in _AT_REST for state in _group(leader).values()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def stop_waiting(leader: int) -> bool:
    """For `process.run`: once the apply is cancelled, end a package manager that waits for the lock, and no other.

    rpm waits for its lock in the kernel and may get it at any instant, and a transaction must never be ended in its
    middle. So the program is halted first; it is killed only if it then still does not hold the lock.
    """
    if not cancel.requested():
        return False
    pids: Set[int] = set(_group(leader))
    if not any(lock.waits and lock.pid in pids for lock in _locks()):
        return False
    with suppress(ProcessLookupError):
        if _freeze(leader) and not any(not lock.waits and lock.pid in pids for lock in _locks()):
            os.killpg(leader, signal.SIGKILL)
            return True
        os.killpg(leader, signal.SIGCONT)
    return False
