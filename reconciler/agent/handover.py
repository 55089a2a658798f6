"""Whether a php-fpm that was told to reload runs the program that it is to run now.

It ends its children first, each when its request is done, and only then runs the program that its link names; a reload
of systemd has long returned by then. Another version that dies at once would else go unnoticed.
"""

import os
import re
import time
from typing import NamedTuple, Optional

from . import places, process, selinux

_UNIT = re.compile(r"panel-fpm-([A-Za-z0-9][A-Za-z0-9._-]*)\.service\Z")
_WITHIN_SECONDS = 400.0
"""Longer than any request may take: php-fpm ends one at `request_terminate_timeout`."""
_STEADY_SECONDS = 0.4
_LOOK_SECONDS = 0.02


def _main_pid(unit: str) -> int:
    shown = process.run(["systemctl", "show", "-p", "MainPID", unit], timeout=20).out.strip()
    digits = shown.partition("=")[2]
    return int(digits) if digits.isdigit() else 0


def _program(pid: int) -> str:
    """The program that a process runs; empty when it is gone."""
    try:
        return os.readlink("/proc/{}/exe".format(pid))
    except OSError:
        return ""


def _began(pid: int) -> str:
    """Where the stack of a process begins: another place each time it runs a program (proc(5), field 28 of stat)."""
    try:
        with open("/proc/{}/stat".format(pid), "rb") as source:
            return source.read().decode("utf-8", "replace").rpartition(")")[2].split()[25]
    except (OSError, IndexError):
        return ""


class Running(NamedTuple):
    """A php-fpm before its reload: its process, the program that its link names, and what tells one run from another."""

    pid: int
    wanted: str
    began: str


def look(unit: str) -> Optional[Running]:
    """None for a unit that is no php-fpm of a site, or that runs what it is to run anyway.

    None as well where SELinux is: which program a process of a site runs is not shown to the agent's domain there.
    """
    if selinux.enabled():
        return None
    match = _UNIT.match(unit)
    link = places.real("/etc/panel/fpm/{}.php-fpm".format(match.group(1))) if match else ""
    if not link or not os.path.islink(link):
        return None
    pid, wanted = _main_pid(unit), os.path.realpath(link)
    return Running(pid, wanted, _began(pid)) if pid and _program(pid) != wanted else None


def follow(unit: str, before: Optional[Running]) -> str:
    """Wait until a unit that was told to reload runs its program: an empty text, or why it does not."""
    if before is None:
        return ""
    pid, deadline = before.pid, time.monotonic() + _WITHIN_SECONDS
    # the name alone does not tell: it may be a script that runs another program
    while _program(pid) not in (before.wanted, "") and _began(pid) == before.began:
        if time.monotonic() > deadline:
            return "{} still runs {} and not {}".format(unit, _program(pid), before.wanted)
        time.sleep(_LOOK_SECONDS)
    steady = time.monotonic() + _STEADY_SECONDS
    while time.monotonic() < steady:
        if not _program(pid):
            return "{} ended when it was to run {}".format(unit, before.wanted)
        time.sleep(_LOOK_SECONDS)
    return ""
