"""A program inside the event loop: all that it starts belongs to it, so that it can be killed, or stand still, at any moment."""

from __future__ import annotations

import asyncio
import contextvars
import types
import weakref
from collections.abc import Callable, Coroutine, Generator
from typing import Any

_owner: contextvars.ContextVar[Process | None] = contextvars.ContextVar("owner", default=None)
_NODES = frozenset({"_pass_time"})
"""Coroutines that belong to a played node although a program set them going: they go on without it."""


class Killed(BaseException):
    """The program is gone: nothing of it happens any more."""


class Process:
    """`started` is its main task. What its tasks start belongs to it as well, but for what nodes do."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.started: asyncio.Task[Any] | None = None
        self.at_death: list[Callable[[], None]] = []
        self._frozen = False
        self._thaw: asyncio.Event = asyncio.Event()
        self._tasks: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()

    def run(self, main: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start it."""
        loop = asyncio.get_running_loop()
        loop.set_task_factory(_make_task)
        context = contextvars.copy_context()
        context.run(_owner.set, self)
        self.started = loop.create_task(main, name=f"program {self.name}", context=context)
        return self.started

    def die(self) -> None:
        """From now on nothing of it has an effect; its tasks are ended as soon as the loop turns."""
        if self.dead:
            return
        self.dead = True
        for call in self.at_death:
            call()
        asyncio.get_running_loop().call_soon(self._end)

    async def ended(self) -> None:
        """Wait until none of its tasks is left."""
        while left := [task for task in self._tasks if not task.done()]:
            if self.dead:
                self._end()
            await asyncio.wait(left, timeout=0.01)
        for task in self._tasks:
            if not task.cancelled():
                task.exception()

    def freeze(self) -> None:
        """It stands still: none of its tasks takes another step."""
        self._frozen = True
        self._thaw = asyncio.Event()

    def thaw(self) -> None:
        """It goes on, as if no time had passed."""
        self._frozen = False
        self._thaw.set()

    def own(self, task: asyncio.Task[Any]) -> None:
        """Take a task into its possession."""
        self._tasks.add(task)

    @types.coroutine
    def steps(self, inner: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """Drive a coroutine, but not while it is frozen."""
        try:
            thrown: BaseException | None = None
            while True:
                while self._frozen and not self.dead:
                    try:
                        yield from self._thaw.wait().__await__()
                    except asyncio.CancelledError as cancelled:
                        thrown = thrown or cancelled
                try:
                    waits_for = inner.send(None) if thrown is None else inner.throw(thrown)
                except StopIteration as stop:
                    return stop.value
                thrown = None
                try:
                    yield waits_for
                except BaseException as error:  # noqa: BLE001 - it is the inner coroutine's to handle
                    thrown = error
        finally:
            inner.close()

    def _end(self) -> None:
        self.thaw()
        for task in list(self._tasks):
            if not task.done():
                task.cancel()


def _make_task(
    loop: asyncio.AbstractEventLoop, coroutine: Any, context: contextvars.Context | None = None
) -> asyncio.Task[Any]:
    owner = context.get(_owner) if context is not None else _owner.get()
    if owner is None or getattr(coroutine, "__name__", "") in _NODES:
        return asyncio.Task(coroutine, loop=loop, context=context)
    task: asyncio.Task[Any] = asyncio.Task(owner.steps(coroutine), loop=loop, context=context)
    task.add_done_callback(lambda _: coroutine.close())  # it may have been cancelled before its first step
    owner.own(task)
    return task
