"""Starting the runner so that it outlives the connection: a transient systemd unit, or a double fork without systemd."""

import os
import sys
from typing import List

from . import compiled, places, process
from .faults import Refusal


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
