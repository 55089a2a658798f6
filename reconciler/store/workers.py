"""Daemon threads that serve a queue of calls, so that an event loop never waits for the disk.

`ThreadPoolExecutor` is not used because the interpreter joins its threads at exit without a limit; these are
given a limit, and what they had not finished by then is rolled back by SQLite.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from reconciler.errors import StoreFault

T = TypeVar("T")
_Call = tuple["Future[Any]", Callable[[], Any]]


class Workers:
    """`count` threads that take calls in the order in which they came."""

    def __init__(self, name: str, count: int) -> None:
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._serve, name=f"{name}-{n}", daemon=True) for n in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Queues `call`. The future can be cancelled until the call has begun. StoreFault once closed."""
        future: Future[T] = Future()
        with self._gate:
            if self._closed:
                raise StoreFault("the database is closed")
            self._calls.put((future, call))
        return future

    def mine(self) -> bool:
        """Whether the caller runs on one of these threads."""
        return threading.current_thread() in self._threads

    def finish(self, seconds: float) -> bool:
        """Takes no more calls and waits up to `seconds` for those queued. Whether all threads have ended."""
        with self._gate:
            if not self._closed:
                self._closed = True
                for _ in self._threads:
                    self._calls.put(None)
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def drop(self) -> None:
        """Fails the calls that have not begun; for after `finish` ran out of time."""
        stop = 0
        with contextlib.suppress(queue.Empty):
            while True:
                entry = self._calls.get_nowait()
                if entry is None:
                    stop += 1
                elif entry[0].set_running_or_notify_cancel():
                    entry[0].set_exception(StoreFault("the database was closed before the work was begun"))
        for _ in range(stop):
            self._calls.put(None)

    def _serve(self) -> None:
        while (entry := self._calls.get()) is not None:
            future, call = entry
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = call()
            except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits for the future
                future.set_exception(error)
            else:
                future.set_result(result)
            # else this thread would hold the last result, and what it refers to, until the next call
            del entry, future, call
            result = None
