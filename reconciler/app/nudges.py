"""The daemon's socket for nudges, and watching local repositories: both only say "look again"."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from reconciler.app.asking import SOCKET
from reconciler.errors import SettingsFault
from reconciler.telemetry import logs

log = logs.get("reconciler.app")
_DEBOUNCE_MS = 20
_STEP_MS = 5
"""A push writes a lock, the ref and a log within a few milliseconds; what comes later is only one more look."""


@contextmanager
def listening(state: Path, nudged: Callable[[], None]) -> Iterator[None]:
    """Call `nudged` in the event loop for every datagram that arrives at the state directory's socket.

    What it says does not matter. SettingsFault when the socket cannot be made. The caller holds the apply lock, so a
    socket that is there is one that nobody listens at.
    """
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    folder = os.open(state, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    address = (
        f"/proc/self/fd/{folder}/{SOCKET}"  # a socket's address has room for 107 bytes, a path may have more
    )
    loop = asyncio.get_running_loop()

    def read() -> None:
        heard = False
        with contextlib.suppress(BlockingIOError):
            while receiver.recv(4096):
                heard = True
        if heard:
            nudged()

    try:
        with contextlib.suppress(FileNotFoundError):
            (state / SOCKET).unlink()
        try:
            receiver.bind(address)
            (state / SOCKET).chmod(0o600)
        except OSError as fault:
            raise SettingsFault(f"cannot make the socket {state / SOCKET}: {fault.strerror}") from fault
        loop.add_reader(receiver, read)
        try:
            yield
        finally:
            loop.remove_reader(receiver)
            with contextlib.suppress(OSError):
                (state / SOCKET).unlink()
    finally:
        receiver.close()
        os.close(folder)


async def watch(paths: Sequence[Path], changed: Callable[[], None]) -> None:
    """Call `changed` whenever something below `paths` changes, until cancelled. Faults of watching end it, with a log record.

    Polling goes on all the same, so what is missed here is only seen later.
    """
    from watchfiles import awatch  # noqa: PLC0415 - only for local repositories

    if not paths:
        return
    stop = asyncio.Event()
    try:
        async for _ in awatch(
            *paths,
            debounce=_DEBOUNCE_MS,
            step=_STEP_MS,
            stop_event=stop,
            rust_timeout=1000,
            recursive=True,
        ):
            changed()
    except (OSError, RuntimeError) as fault:
        log.warning("the repository cannot be watched; it is polled", fault=str(fault))
    finally:
        stop.set()
