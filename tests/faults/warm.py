"""Starts the program again and again without its imports: a process that has them forks one for each start.

What runs then is the program's own entry point, in a process of its own that can be killed; only the second or two of
importing are saved. Speaks JSON lines over its standard input and output: `{words, environment, log}` in; `{pid}` out when
it runs, `{pid, code}` when it has ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_PDEATHSIG = 1


class Warm:
    """The process with the imports. Made in the network namespace that the programs are to run in."""

    def __init__(self) -> None:
        self._codes: dict[int, int] = {}
        self._server = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", __name__],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._hear()  # that it is ready

    def start(self, words: Sequence[str], environment: Mapping[str, str], log: Path) -> Child:
        """Start the program with these arguments; what it prints goes to the end of `log`."""
        assert self._server.stdin is not None
        asked = {"words": list(words), "environment": dict(environment), "log": str(log)}
        self._server.stdin.write(json.dumps(asked).encode() + b"\n")
        self._server.stdin.flush()
        while "code" in (said := self._hear()):
            self._codes[said["pid"]] = said["code"]
        return Child(self, said["pid"])

    def code(self, pid: int, timeout: float) -> int | None:
        """The exit code of a program, negative for a signal; None while it runs."""
        assert self._server.stdout is not None
        end = time.monotonic() + timeout
        with selectors.DefaultSelector() as waiting:
            waiting.register(self._server.stdout, selectors.EVENT_READ)
            while pid not in self._codes and waiting.select(max(0.0, end - time.monotonic())):
                said = self._hear()
                self._codes[said["pid"]] = said["code"]
        return self._codes.get(pid)

    def close(self) -> None:
        """End it, and every program that it started."""
        self._server.kill()
        self._server.communicate()

    def _hear(self) -> dict[str, Any]:
        assert self._server.stdout is not None
        line = bytearray()
        while not line.endswith(b"\n"):  # unbuffered, so that `select` sees what is there
            read = os.read(self._server.stdout.fileno(), 1)
            assert read, "the process with the imports has ended"
            line += read
        heard: dict[str, Any] = json.loads(line)
        return heard


class Child:
    """A started program, with the part of Popen that is used here."""

    def __init__(self, warm: Warm, pid: int) -> None:
        self._warm = warm
        self.pid = pid

    def poll(self) -> int | None:
        """As Popen's."""
        return self._warm.code(self.pid, 0)

    def wait(self, timeout: float = 60) -> int:
        """As Popen's."""
        code = self._warm.code(self.pid, timeout)
        if code is None:
            raise subprocess.TimeoutExpired("reconciler", timeout)
        return code

    def kill(self) -> None:
        """As Popen's."""
        self._signal(signal.SIGKILL)

    def terminate(self) -> None:
        """As Popen's."""
        self._signal(signal.SIGTERM)

    def _signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def _become(asked: Mapping[str, Any]) -> None:
    """In the new process: be the program. It ends as the program ends, by SystemExit."""
    from reconciler.cli.main import main

    ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
    os.setpgid(0, 0)
    with Path(asked["log"]).open("ab") as log, Path(os.devnull).open("rb") as nothing:
        for number, file in enumerate((nothing, log, log)):
            os.dup2(file.fileno(), number)
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv = ["reconciler", *asked["words"]]
    main()


def serve() -> None:
    """Start what is asked for, until there is nobody to ask."""
    import reconciler.cli.main
    import reconciler.cli.serve
    import reconciler.desired.mirror
    import reconciler.http.running  # noqa: F401

    # what was imported stays as it is: the programs share its memory
    gc.freeze()
    waiting = selectors.DefaultSelector()
    waiting.register(0, selectors.EVENT_READ)
    pids: dict[int, int] = {}
    _say({"ready": True})
    while True:
        for ready, _ in waiting.select():
            if ready.fd in pids:
                pid = pids.pop(ready.fd)
                _, status = os.waitpid(pid, 0)
                waiting.unregister(ready.fd)
                os.close(ready.fd)
                _say({"pid": pid, "code": os.waitstatus_to_exitcode(status)})
                continue
            line = sys.stdin.readline()
            if not line:
                return
            pid = os.fork()
            if pid == 0:
                for descriptor in pids:
                    os.close(descriptor)
                _become(json.loads(line))
            watched = os.pidfd_open(pid)
            pids[watched] = pid
            waiting.register(watched, selectors.EVENT_READ)
            _say({"pid": pid})


def _say(value: Mapping[str, object]) -> None:
    os.write(1, json.dumps(value).encode() + b"\n")


if __name__ == "__main__":
    serve()
