"""One apply at a time on a state directory: a command for as long as it runs, the daemon for as long as it lives."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reconciler.errors import SettingsFault, StoreBusy

_FILE = "apply.lock"
_DAEMON = b"daemon"


@contextmanager
def applying(state: Path, *, daemon: bool = False) -> Iterator[None]:
    """Hold the state directory's apply lock; it goes with the process, however that ends.

    StoreBusy when it is held, SettingsFault when the directory cannot be written to. `daemon`: it is held for good, and
    others are told so.
    """
    try:
        descriptor = os.open(state / _FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as fault:
        raise SettingsFault(
            f"cannot write to the state directory {state}: {fault.strerror}",
            hint="an apply records what it does there; nothing was changed",
        ) from fault
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _held(state, os.pread(descriptor, len(_DAEMON), 0)) from None
        os.ftruncate(descriptor, 0)
        if daemon:
            os.pwrite(descriptor, _DAEMON, 0)
        yield
    finally:
        os.close(descriptor)


def _held(state: Path, by: bytes) -> StoreBusy:
    if by == _DAEMON:
        return StoreBusy(
            f"the daemon works on {state}",
            hint="push the commit, or ask the daemon with `reconciler reconcile`; to do it by hand, stop the daemon",
        )
    return StoreBusy(f"another apply is running on {state}", hint="wait until it has ended, then try again")
