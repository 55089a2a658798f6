"""Running git and its like: a process group of its own, a deadline, bounded output, an environment built from nothing.

Whatever a program started (ssh, remote helpers, a fetch's index-pack) ends with the call: the group is killed before its
leader is reaped, so the number cannot have gone to somebody else.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Literal

from reconciler.errors import SourceFault

Stopped = Literal["", "deadline", "output", "excess", "cancelled"]

MAX_OUTPUT = 1 << 30
"""Bytes of standard output, unless a call says less: the objects of a fleet's manifests have at most 256 MiB."""

_MAX_ERROR = 64 * 1024
_TICK = 0.1
_GRACE = 2.0
_KEPT = ("PATH", "TMPDIR")

SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "credential.helper=",
    "core.askPass=",
)
"""git-config(1) for every call, above what a repository's own configuration says: nothing of it names a program."""


@dataclass(frozen=True)
class Ended:
    """How a program ended. `stopped` says why it was killed, "" when it ended by itself; then `status` means little."""

    status: int
    output: bytes
    error: str
    stopped: Stopped = ""


@dataclass(frozen=True)
class Bounds:
    """What a call may use. `watch` is asked every tenth of a second and says True when something has grown too large.

    `seconds` is the whole call's deadline; `output` the bytes it may print. `stop` ends it early. `inherit` are open
    descriptors that the program and all it starts keep, such as that of a lock. `started` gets the group's id.
    """

    seconds: float = 120.0
    output: int = MAX_OUTPUT
    watch: Callable[[], bool] | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    inherit: tuple[int, ...] = ()
    started: Callable[[int], None] | None = None


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for git: nothing of the caller's but the search path and the folder for temporary files.

    In a hook the caller's names the hook's repository and objects; on a desk it names helpers, editors and agents.
    """
    return {
        **{name: os.environ[name] for name in _KEPT if name in os.environ},
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_ALLOW_PROTOCOL": "none",
        "GIT_PROTOCOL_FROM_USER": "0",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_PAGER": "cat",
        "SSH_ASKPASS_REQUIRE": "never",
        **(more or {}),
    }


def git(*arguments: str, settings: Sequence[str] = ()) -> list[str]:
    """The command line of git with `SETTINGS` and further ones."""
    return ["git", *(word for setting in (*SETTINGS, *settings) for word in ("-c", setting)), *arguments]


def run(
    command: Sequence[str], env: Mapping[str, str], *, given: bytes = b"", bounds: Bounds | None = None
) -> Ended:
    """Runs a program and waits, in a session of its own. `given` is its standard input.

    SourceFault when there is no such program.
    """
    bounds = bounds or Bounds()
    with tempfile.TemporaryFile() as standard_input:
        standard_input.write(given)
        standard_input.seek(0)
        try:
            process = subprocess.Popen(
                command,
                stdin=standard_input,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=dict(env),
                cwd="/",
                start_new_session=True,
                pass_fds=bounds.inherit,
            )
        except FileNotFoundError:
            hint = f"install {command[0]}" + (" 2.30 or newer" if command[0] == "git" else "")
            raise SourceFault(f"{command[0]} was not found", hint=hint) from None
        except OSError as fault:
            raise SourceFault(f"{command[0]} cannot be started: {fault.strerror}") from fault
    try:
        if bounds.started is not None:
            bounds.started(process.pid)
        stopped, output, error = _follow(process, bounds)
    finally:
        _end(process)
    return Ended(process.returncode, output, error.decode("utf-8", "replace"), stopped)


def _follow(process: subprocess.Popen[bytes], bounds: Bounds) -> tuple[Stopped, bytes, bytes]:
    """Reads until the program has ended or must be stopped."""
    until = time.monotonic() + bounds.seconds
    gathered: dict[IO[bytes], bytearray] = {}
    with selectors.DefaultSelector() as selector:
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)
                selector.register(pipe, selectors.EVENT_READ, gathered.setdefault(pipe, bytearray()))
        stopped: Stopped = ""
        while selector.get_map() and not stopped:
            for key, _ in selector.select(_TICK):
                stream, buffer = key.fileobj, key.data
                chunk = os.read(key.fd, 1 << 16)
                if not chunk:
                    selector.unregister(stream)
                elif stream is process.stdout:
                    buffer += chunk
                else:  # of what went wrong, the beginning and the end tell enough
                    buffer += chunk
                    del buffer[_MAX_ERROR // 2 : -_MAX_ERROR // 2]
            stopped = _reason(process, bounds, gathered, until)
            if not stopped and selector.get_map() and _exited(process) and not selector.select(0.5):
                break  # something that it started holds the pipe open; it ends with the group
        pause = 0.001
        while not stopped and not _exited(process):  # closed its outputs: about to end, or it goes on
            time.sleep(pause)
            pause = min(_TICK, pause * 2)
            stopped = _reason(process, bounds, gathered, until)
    buffers = [bytes(gathered[pipe]) if pipe else b"" for pipe in (process.stdout, process.stderr)]
    return stopped, buffers[0], buffers[1]


def _reason(
    process: subprocess.Popen[bytes], bounds: Bounds, gathered: Mapping[IO[bytes], bytearray], until: float
) -> Stopped:
    if bounds.stop.is_set():
        return "cancelled"
    if process.stdout is not None and len(gathered[process.stdout]) > bounds.output:
        return "output"
    if bounds.watch is not None and bounds.watch():
        return "excess"
    return "deadline" if time.monotonic() > until else ""


def _exited(process: subprocess.Popen[bytes]) -> bool:
    """Whether the leader has ended; it is left to be reaped, which keeps the group's number taken."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the whole group, politely while its leader lives (git removes its locks then), and reaps the leader."""
    if not _exited(process):
        _signal(process.pid, signal.SIGTERM)
        until = time.monotonic() + _GRACE
        while not _exited(process) and time.monotonic() < until:
            time.sleep(0.01)
    _signal(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
