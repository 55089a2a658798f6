"""How verbs speak with the daemon: by rows in the database and a nudge to its socket that says "look".

The socket carries no order and no answer: whoever may write the state directory's database may ask, nobody else. A nudge
that is lost costs seconds, since the daemon looks by itself as well.
"""

from __future__ import annotations

import os
import pwd
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from reconciler.desired.problems import printable
from reconciler.store import Store, Tx
from reconciler.store.queries import leases, requests
from reconciler.store.queries.requests import Request

SOCKET = "daemon.sock"
LOOK = b'{"verb":"look"}'
LEASE = "daemon"
"""The lease that a running daemon holds."""

ANSWER_WITHIN = 10.0
"""Seconds that a verb waits for the daemon's answer."""

_POLL = 0.1
T = TypeVar("T")


@contextmanager
def _folder(state: Path) -> Iterator[str]:
    """A short path of the state directory: the address of a socket has room for 107 bytes."""
    handle = os.open(state, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{handle}"
    finally:
        os.close(handle)


def poke(state: Path) -> bool:
    """Tell the daemon of this state directory to look: whether one was there to hear it."""
    try:
        with _folder(state) as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)  # noqa: FBT003 - positional only
            try:
                sender.sendto(LOOK, f"{folder}/{SOCKET}")
            except BlockingIOError:
                return True  # its queue is full of nudges
    except OSError:
        return False
    return True


def actor(environ: Mapping[str, str] = os.environ) -> str:
    """Who asks, for the record: the account that called sudo, else the one that runs this."""
    try:
        account = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        account = f"user {os.getuid()}"
    return printable(environ.get("SUDO_USER") or account)[:64]


def running(tx: Tx) -> bool:
    """Whether a daemon works on this database."""
    lease = leases.get(tx, LEASE)
    return lease is not None and lease.expires_at > tx.now


def tell(store: Store, state: Path, unit: Callable[[Tx], T]) -> tuple[T, bool]:
    """Run `unit` in a write transaction, then nudge the daemon: what it returned, and whether a daemon runs."""
    result, there = store.write(lambda tx: (unit(tx), running(tx)))
    if there:
        poke(state)
    return result, there


def answers(store: Store, asked: Sequence[Request], seconds: float) -> list[Request]:
    """The requests as they stand once the daemon has answered all of them, or after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        found = store.read(lambda tx: [requests.get(tx, one.id) for one in asked])
        left = deadline - time.monotonic()
        if left <= 0 or all(one.outcome is not None for one in found):
            return found
        time.sleep(min(_POLL, left))
