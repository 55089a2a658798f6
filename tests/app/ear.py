"""The daemon's end of its socket, for tests of those who speak to it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reconciler.app.asking import SOCKET


@contextmanager
def listening(state: Path) -> Iterator[socket.socket]:
    """A datagram socket in the state directory, whose path may be longer than a socket's address."""
    folder = os.open(state, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
            ear.settimeout(10)
            ear.bind(f"/proc/self/fd/{folder}/{SOCKET}")
            yield ear
    finally:
        os.close(folder)
        (state / SOCKET).unlink(missing_ok=True)
