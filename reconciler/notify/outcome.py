"""How an attempt to tell a channel ended, and how long to wait before the next one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from reconciler.notify.notice import Notice


@dataclass(frozen=True)
class Delivered:
    """The channel took it. `remark` is what it had to say about that, if anything."""

    remark: str = ""


@dataclass(frozen=True)
class Failed:
    """It did not take it; `error` says why, without secrets. `retry_after` is what it asked to be left alone for, in seconds."""

    error: str
    retry_after: float | None = None


@dataclass(frozen=True)
class Refused:
    """It will never take it; `error` says why, without secrets."""

    error: str


Outcome = Delivered | Failed | Refused


class Sender(Protocol):
    """Tells one channel. `batch` is how many notices go out as one message, `at_once` how many messages at a time."""

    batch: int
    at_once: int

    async def send(self, notices: Sequence[Notice]) -> Outcome:
        """Sends one message about at most `batch` notices. It ends within a limit of its own and raises for bugs only."""
        ...


def delay(attempts: int, first: float, longest: float, jitter: Callable[[], float]) -> float:
    """Seconds to wait after `attempts` failures in a row: doubling from `first` up to `longest`, a quarter more or less.

    `jitter` gives a number from 0 to 1.
    """
    doubled = first * 2.0 ** min(max(attempts - 1, 0), 32)
    return min(longest, doubled) * (0.75 + 0.5 * jitter())
