"""Starting the runner so that it outlives the connection: a transient systemd unit, or a double fork without systemd."""

import os
import sys
from contextlib import suppress
from typing import List

from . import atomic, compiled, places, process, walk
from .faults import Refusal, StepFault, os_fault

_UNITS = "/etc/systemd/system/"
_TIMER = "panel-unconfirmed.timer"
_SERVICE = "panel-unconfirmed.service"
_SERVICE_TEXT = """\
[Unit]
Description=Put back what nobody confirmed

[Service]
ExecStart={program} revert {deployment}
KillMode=process
Restart=on-failure
RestartSec=5
"""
_TIMER_TEXT = """\
[Unit]
Description=Time to confirm a change that could lock the daemon out

[Timer]
OnActiveSec={seconds}
AccuracySec=100ms
Unit=panel-unconfirmed.service

[Install]
WantedBy=timers.target
"""


def program() -> str:
    """The path of the zip that this process was started from, or of the package when it runs from source."""
    return compiled.archive() or os.path.dirname(os.path.abspath(__file__))


def _command(deployment: str) -> List[str]:
    if os.path.isfile(program()):
        if os.access(program(), os.X_OK):
            # by its own file, not by the interpreter's: the file is what leads into the agent's SELinux domain
            return [program(), "run", deployment]
        return [sys.executable, "-I", "-S", program(), "run", deployment]
    package = __name__.rpartition(".")[0]
    return [sys.executable, "-m", package + ".main", "run", deployment]


def start_runner(deployment: str) -> None:
    """Start `run <deployment>`, detached. Raises Refusal when that is not possible."""
    if places.has_systemd() and not places.testing():
        unit = "panel-apply-{}".format(deployment.lower())
        argv = ["systemd-run", "--quiet", "--collect", "--unit=" + unit, "--property=KillMode=process"]
        argv += ["--description=Reconciler apply " + deployment, "--", *_command(deployment)]
        done = process.run(argv, timeout=60)
        if not done.ok():
            raise Refusal("internal", "cannot start the runner: " + done.reason("systemd-run"))
        return
    _double_fork(_command(deployment))


def start_timer(deployment: str, seconds: int) -> None:
    """Have `revert` run after so many seconds, and as many after each boot until it is stopped. Raises StepFault.

    The timer is a unit file that is enabled, not a transient unit: it is there again after a reboot.
    """
    if not places.has_systemd() or places.testing():
        _double_fork([*_command("")[:-2], "revert", deployment, str(seconds)])
        return
    _write(
        _UNITS + _SERVICE, _SERVICE_TEXT.format(program=" ".join(_command("")[:-2]), deployment=deployment)
    )
    _write(_UNITS + _TIMER, _TIMER_TEXT.format(seconds=seconds))
    for words in (
        ["daemon-reload"],
        ["enable", "--", _TIMER],
        ["restart", "--", _TIMER],
        ["is-active", "--quiet", "--", _TIMER],
    ):
        done = process.run(["systemctl", "--no-ask-password", *words], timeout=60)
        if not done.ok():
            raise StepFault("the timer is not started: " + done.reason("systemctl " + words[0]))


def stop_timer() -> None:
    """Take the timer away. What cannot be removed is harmless: a `revert` that finds nothing to do does nothing."""
    if not places.has_systemd() or places.testing():
        return
    process.run(["systemctl", "--no-ask-password", "disable", "--now", "--", _TIMER], timeout=60)
    for name in (_TIMER, _SERVICE):
        with suppress(OSError):
            os.unlink(places.real(_UNITS + name))
    process.run(["systemctl", "--no-ask-password", "daemon-reload"], timeout=60)


def _write(path: str, text: str) -> None:
    try:
        with walk.parent_of(path) as parent:
            body = text.encode("ascii")
            atomic.replace(parent, lambda fd: atomic.write_all(fd, body), atomic.Owner(0, 0, 0o644))
    except OSError as error:
        raise os_fault("write", path, error) from None


def _double_fork(argv: List[str]) -> None:
    """Start a program as a grandchild in a session of its own, with no tie to our descriptors."""
    environment = places.environment()
    for name in ("PANEL_TEST_DIE_AT", "PYTHONPATH"):
        if places.testing() and name in os.environ:
            environment[name] = os.environ[name]
    middle = os.fork()
    if middle:
        os.waitpid(middle, 0)
        return
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.chdir("/")
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nothing, number)
        os.closerange(3, 256)
        os.execve(argv[0], argv, environment)
    finally:
        os._exit(127)
