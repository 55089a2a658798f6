"""Running programs: an argument list, a fixed environment, no input but what we give, a bounded time and output."""

import gzip
import os
import pwd
import signal
import subprocess
import threading
import time
from contextlib import suppress
from typing import IO, Callable, List, NamedTuple, Optional

from . import places
from .faults import StepFault

_CAPTURE = 1024 * 1024
_GRACE_SECONDS = 20.0
_LOOK_SECONDS = 0.1

Listener = Callable[[str, str], None]
Stop = Callable[[int], bool]


class Finished(NamedTuple):
    """How a program ended. `code` is 127 when it is not installed; output is cut at 1 MiB, keeping the end.

    `stopped`: the caller's `stop` asked for its end.
    """

    code: int
    out: str
    err: str
    timed_out: bool
    stopped: bool = False

    def ok(self) -> bool:
        """True when it ended with 0 in time."""
        return self.code == 0 and not self.timed_out and not self.stopped

    def reason(self, program: str) -> str:
        """Why it failed, from what it said: its last lines."""
        if self.timed_out:
            return "{} did not end in time".format(program)
        if self.code == 127 and not self.out:
            return self.err or "{} is not installed".format(program)
        said = [line.strip() for line in (self.err or self.out).splitlines() if line.strip()]
        tail = "; ".join(said[-6:])
        return "{} ended with {}{}".format(program, self.code, ": " + tail[-1500:] if tail else "")


def as_user(name: str, argv: List[str]) -> List[str]:
    """The argument list that runs another one as a user. setpriv opens no session, so checks leave no trace in logs.

    Raises StepFault when there is no such user.
    """
    try:
        account = pwd.getpwnam(name)
    except KeyError:
        raise StepFault("there is no user {}".format(name)) from None
    if account.pw_uid == os.geteuid():
        return argv
    groups = ",".join(str(number) for number in os.getgrouplist(name, account.pw_gid))
    identity = ["--reuid", str(account.pw_uid), "--regid", str(account.pw_gid), "--groups", groups]
    return ["setpriv", *identity, "--", *argv]


def _not_started(code: int, why: str) -> Finished:
    return Finished(code=code, out="", err=why, timed_out=False)


def start(argv: List[str], stdin: int, stdout: int) -> "subprocess.Popen[bytes]":
    """Start a program in a session of its own. Raises OSError when it is not there."""
    return subprocess.Popen(
        argv,
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=places.environment(),
        cwd="/",
        close_fds=True,
        start_new_session=True,
    )


def _pump(stream: "IO[bytes]", name: str, kept: List[str], listener: Optional[Listener]) -> None:
    size = 0
    for raw in iter(lambda: stream.readline(8192), b""):
        text = raw.decode("utf-8", "replace")
        kept.append(text)
        size += len(text)
        while size > _CAPTURE and len(kept) > 1:
            size -= len(kept.pop(0))
        if listener is not None:
            listener(name, text)
    stream.close()


def _stop(child: "subprocess.Popen[bytes]") -> None:
    """End a program and everything it started: politely, then by force."""
    for number, grace in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, _GRACE_SECONDS)):
        with suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with suppress(subprocess.TimeoutExpired):
            child.wait(grace)
            return


def _feed(child: "subprocess.Popen[bytes]", data: bytes) -> None:
    assert child.stdin is not None
    try:
        child.stdin.write(data)
        child.stdin.close()
    except OSError:
        pass  # it ended before it read everything; its exit status tells


def run(
    argv: List[str],
    *,
    stdin: Optional[bytes] = None,
    timeout: float = 60.0,
    listener: Optional[Listener] = None,
    stop: Optional[Stop] = None,
) -> Finished:
    """Run a program to its end. Never raises for what the program does.

    `stop` is asked ten times a second, with the program's process id (the leader of its group), whether it is to be ended.
    """
    try:
        child = start(argv, subprocess.DEVNULL if stdin is None else subprocess.PIPE, subprocess.PIPE)
    except (FileNotFoundError, NotADirectoryError):
        return _not_started(127, "{} is not installed".format(argv[0]))
    except OSError as error:
        return _not_started(126, "cannot start {}: {}".format(argv[0], error.strerror))
    out: List[str] = []
    err: List[str] = []
    assert child.stdout is not None
    assert child.stderr is not None
    threads = [
        threading.Thread(target=_pump, args=(child.stdout, "stdout", out, listener)),
        threading.Thread(target=_pump, args=(child.stderr, "stderr", err, listener)),
    ]
    if stdin is not None:
        threads.append(threading.Thread(target=_feed, args=(child, stdin)))
    for thread in threads:
        thread.daemon = True
        thread.start()
    # Popen.wait with a timeout would sleep up to 50 ms past the end of each program.
    waiter = threading.Thread(target=child.wait)
    waiter.daemon = True
    waiter.start()
    stopped = _wait(waiter, timeout, stop, child.pid)
    timed_out = waiter.is_alive() and not stopped
    if timed_out or stopped:
        _stop(child)
    # A daemon that the program left behind may hold the pipes open: do not wait for it for ever.
    deadline = time.monotonic() + 5.0
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    code = child.returncode if child.returncode is not None else -9
    return Finished(code, "".join(out), "".join(err), timed_out, stopped)


def _wait(waiter: threading.Thread, timeout: float, stop: Optional[Stop], pid: int) -> bool:
    """Wait for the end of a program, `timeout` seconds at most; true when `stop` said that it is to be ended."""
    if stop is None:
        waiter.join(timeout)
        return False
    deadline = time.monotonic() + timeout
    while True:
        left = deadline - time.monotonic()
        waiter.join(max(0.0, min(left, _LOOK_SECONDS)))
        if not waiter.is_alive() or left <= 0:
            return False
        if stop(pid):
            return True


def _compress(source: "IO[bytes]", target: int) -> None:
    raw = os.fdopen(os.dup(target), "wb")
    try:
        with gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=5) as packed:
            for block in iter(lambda: source.read(1024 * 1024), b""):
                packed.write(block)
    finally:
        raw.close()


def run_to_gzip(argv: List[str], target: int, *, timeout: float) -> Finished:
    """Run a program and write what it prints, compressed, to a descriptor. Raises OSError when that cannot be written."""
    try:
        child = start(argv, subprocess.DEVNULL, subprocess.PIPE)
    except OSError:
        return _not_started(127, "{} is not installed".format(argv[0]))
    err: List[str] = []
    output = child.stdout
    assert output is not None
    assert child.stderr is not None
    reader = threading.Thread(target=_pump, args=(child.stderr, "stderr", err, None))
    reader.daemon = True
    reader.start()
    late = threading.Timer(timeout, _stop, args=(child,))
    late.daemon = True
    late.start()
    try:
        _compress(output, target)
        child.wait()
    except BaseException:
        _stop(child)
        raise
    finally:
        timed_out = not late.is_alive()
        late.cancel()
        output.close()
        reader.join(5.0)
    return Finished(child.returncode, "", "".join(err), timed_out)
