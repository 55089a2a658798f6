"""An event loop whose time moves by hand, and taking from a queue in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from reconciler.loop.queue import Item, WorkQueue

T = TypeVar("T")


class HandLoop(asyncio.SelectorEventLoop):
    """An event loop whose time moves only by hand."""

    now = 1000.0

    def time(self) -> float:
        return self.now

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.run_until_complete(work)

    def settle(self) -> None:
        """Run until nothing is left to do at this time."""

        async def turns() -> None:
            for _ in range(60):
                await asyncio.sleep(0)

        self.run(turns())

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.settle()

    def do(self, action: Callable[[], T]) -> T:
        """Call `action` inside of the loop."""

        async def call() -> T:
            return action()

        return self.run(call())


def take_all(loop: HandLoop, queue: WorkQueue) -> list[str]:
    """What can be taken now, done with at once."""

    async def drain() -> list[str]:
        keys: list[str] = []
        while (item := await take_now(queue)) is not None:
            keys.append(item.key)
            queue.done(item.key)
        return keys

    return loop.run(drain())


async def take_now(queue: WorkQueue) -> Item | None:
    """The next item, or None when there is none to take at this time."""
    taker = asyncio.ensure_future(queue.take())
    for _ in range(5):
        await asyncio.sleep(0)
    if not taker.done():
        taker.cancel()
        await asyncio.gather(taker, return_exceptions=True)
        return None
    return taker.result()
