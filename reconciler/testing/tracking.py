"""Notices when a task begins to wait for a thread's future, so that simulated time can stand still for it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, Protocol, cast, runtime_checkable

_gate = threading.Lock()
_users = 0
_original = asyncio.wrap_future


@runtime_checkable
class Tracker(Protocol):
    """A loop that wants to know."""

    def track(self, future: Future[Any]) -> None:
        """A thread will complete `future`."""


def _wrap_future(
    future: Future[Any] | asyncio.Future[Any], *, loop: asyncio.AbstractEventLoop | None = None
) -> asyncio.Future[Any]:
    wrapped = _original(future, loop=loop)
    if isinstance(future, Future) and isinstance(owner := wrapped.get_loop(), Tracker):
        owner.track(future)
    return wrapped


@contextlib.contextmanager
def noticing() -> Iterator[None]:
    """Replace `asyncio.wrap_future`, which run_in_executor and to_thread use as well, inside the block.

    Other loops are not affected: for them the replacement only passes on.
    """
    global _users  # noqa: PLW0603 - loops in several threads share the replacement
    with _gate:
        _users += 1
        _set(_wrap_future)
    try:
        yield
    finally:
        with _gate:
            _users -= 1
            if not _users:
                _set(_original)


def _set(function: Callable[..., Any]) -> None:
    for module in (asyncio, asyncio.futures):
        cast("Any", module).wrap_future = function
