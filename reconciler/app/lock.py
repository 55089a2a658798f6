"""One apply at a time on a state directory."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reconciler.errors import SettingsFault, StoreBusy

_FILE = "apply.lock"


@contextmanager
def applying(state: Path) -> Iterator[None]:
    """Hold the state directory's apply lock; it goes with the process, however that ends.

    StoreBusy when it is held, SettingsFault when the directory cannot be written to.
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
            raise StoreBusy(
                f"another apply is running on {state}", hint="wait until it has ended, then try again"
            ) from None
        yield
    finally:
        os.close(descriptor)
