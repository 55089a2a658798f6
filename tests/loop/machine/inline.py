"""The store's threads, and asyncio's, without threads: every call is made at once, in the thread that asks for it.

Tasks still take turns at each of them, as the result arrives when the loop turns. It makes scenes the same in every run,
and cheap where many of them are played; what threads do is tested elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar, TypeVarTuple, Unpack
from unittest import mock

from reconciler.errors import StoreFault
from reconciler.store import engine
from reconciler.testing.simulated import SimulatedLoop, Stuck

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


class InlineWorkers:
    """As `reconciler.store.workers.Workers`."""

    def __init__(self, name: str, count: int) -> None:
        self._closed = False

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Make the call."""
        if self._closed:
            raise StoreFault("the database is closed")
        return _made(call)

    def mine(self) -> bool:
        """No thread is its own."""
        return False

    def finish(self, seconds: float) -> bool:
        """Nothing is ever left to be done."""
        self._closed = True
        return True

    def drop(self) -> None:
        """Nothing is ever left to be dropped."""


class InlineExecutor(ThreadPoolExecutor):
    """As asyncio's default executor."""

    def submit(self, call: Callable[..., Any], /, *arguments: Any, **more: Any) -> Future[Any]:
        """Make the call."""
        return _made(lambda: call(*arguments, **more))


class InlineLoop(SimulatedLoop):
    """A simulated loop to which nothing comes from outside, so that it never asks the system whether there is anything."""

    def __init__(self, *, limit: float) -> None:
        super().__init__(limit=limit)
        self.set_default_executor(InlineExecutor(1))

    def call_soon_threadsafe(
        self,
        callback: Callable[[Unpack[Arguments]], object],
        *arguments: *Arguments,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        """As `call_soon`: there is one thread."""
        return self.call_soon(callback, *arguments, context=context)

    def _wait(self, poll: Callable[[float | None], list[Any]], timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Stuck(f"nothing is scheduled; {self._who()}")
        if timeout > 0:
            self._jump(timeout)
        return []


@contextlib.contextmanager
def without_threads() -> Iterator[None]:
    """Stores that are opened inside have no threads."""
    with mock.patch.object(engine, "Workers", InlineWorkers):
        yield


def _made(call: Callable[[], T]) -> Future[T]:
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits for the future
        future.set_exception(error)
    else:
        future.set_result(result)
    return future
