"""What the node's repositories offer for packages that are installed: asked of dnf or apt, nothing is changed."""

import re
import time
from typing import Any, Dict, List

from . import facts, hashes, package_lock, process
from .faults import Refusal
from .observe import World

_SECONDS = 300.0
_LOCK_WAIT_SECONDS = 30.0
_TRY_AGAIN_SECONDS = 1.0
_DNF_LOCKED = 200
_LOCKED = re.compile(r"Could not get lock|Unable to lock directory", re.I)
_INST = re.compile(r"^Inst (?P<name>[^\s:]+)(?::\S+)? \[[^\]]*\] \((?P<version>\S+)")


def available(names: List[str]) -> Dict[str, Any]:
    """The installed version of each package that is installed, and the newer one that an upgrade would bring, or None.

    The lists of the repositories are fetched first. Raises Refusal (`packages`) with what the package manager said.
    """
    manager = facts.package_manager()
    now = World((), manager, hashes.Cache()).versions(names)
    newer = (_of_dnf if manager == "dnf" else _of_apt)(sorted(now)) if now else {}
    return {name: {"installed": now[name], "available": newer.get(name)} for name in sorted(now)}


def _of_dnf(names: List[str]) -> Dict[str, str]:
    form = "%{name}\t%{version}-%{release}"
    done = _asked(
        [
            "dnf",
            "-q",
            "--refresh",
            "--setopt=exit_on_lock=True",
            "repoquery",
            "--upgrades",
            "--latest-limit=1",
        ]
        + ["--qf", form, *names]
    )
    pairs = [line.split("\t") for line in done.out.splitlines()]
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def _of_apt(names: List[str]) -> Dict[str, str]:
    # without this, lists that could not be fetched are a warning, and the old ones are taken
    _asked(["apt-get", "-q", "-o", "APT::Update::Error-Mode=any", "update"])
    done = _asked(["apt-get", "-q", "-s", "install", "--only-upgrade", *names])
    lines = (_INST.match(line) for line in done.out.splitlines())
    return {
        line.group("name"): line.group("version") for line in lines if line and line.group("name") in names
    }


def _asked(argv: List[str]) -> process.Finished:
    """Run it, waiting a bounded time while somebody else holds the lock. Raises Refusal."""
    deadline = time.monotonic() + _LOCK_WAIT_SECONDS
    while True:
        done = process.run(argv, timeout=_SECONDS)
        if done.ok():
            return done
        locked = done.code == _DNF_LOCKED and argv[0] == "dnf" or bool(_LOCKED.search(done.err + done.out))
        if not locked:
            raise Refusal("packages", "cannot ask the repositories: {}".format(done.reason(argv[0])))
        if time.monotonic() > deadline:
            raise Refusal(
                "packages",
                "the package manager is locked by {}; waited {:.0f} seconds".format(
                    package_lock.holder() or "another program", _LOCK_WAIT_SECONDS
                ),
            )
        time.sleep(_TRY_AGAIN_SECONDS)
