"""The workers: each takes one server after the other from the queue; whatever a look ends with, the queue goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from reconciler.errors import LeaseLost, StoreFault
from reconciler.loop.fleet import FleetLoop
from reconciler.loop.look import Means
from reconciler.loop.queue import Item, QueueClosed, WorkQueue
from reconciler.loop.worker import Worker
from reconciler.telemetry import logs

log = logs.get("reconciler.loop")

_MARGIN = 120.0
"""Seconds that a look may take beyond its apply."""
_AFTER_DEFECT = 60.0


class Dispatch:
    """Runs the looks of all fleets."""

    def __init__(
        self,
        queue: WorkQueue,
        worker: Worker,
        means: Means,
        fleets: Mapping[str, FleetLoop],
        after: Callable[[], None],
    ) -> None:
        self._queue = queue
        self._worker = worker
        self._means = means
        self._fleets = fleets
        self._after = after
        self.busy: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Work until the queue is closed. LeaseLost ends it at once: nothing more may be written."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._means.settings.limits.nodes):
                group.create_task(self._serve())

    async def _serve(self) -> None:
        while True:
            try:
                item = await self._queue.take()
            except QueueClosed:
                return
            try:
                await self._look(item)
            finally:
                self._queue.done(item.key)
                if self._means.collector is not None:
                    self._means.collector.soon(item.key.partition("/")[2])
                self._after()

    async def _look(self, item: Item) -> None:
        name, _, server = item.key.partition("/")
        fleet = self._fleets.get(name)
        if fleet is None:
            return
        within = self._means.settings.limits.apply_within * 1.2 + _MARGIN
        with logs.bound(fleet=name, server=server or None):
            try:
                async with asyncio.timeout(within):
                    await self._worker.process(item)
            except LeaseLost:
                raise
            except asyncio.CancelledError:
                if (task := asyncio.current_task()) is not None and task.cancelling():
                    raise
                log.warning("a look was cut off from inside")  # else the worker would be gone for good
                fleet.add(server, "retry", _AFTER_DEFECT)
            except TimeoutError:
                log.warning("a look took too long and was ended", seconds=within)
                fleet.add(server, "retry", _AFTER_DEFECT)
            except StoreFault as fault:
                log.warning("the database refused", fault=fault.message)
                fleet.add(server, "retry", self._means.settings.limits.retry_first)
            except Exception:
                log.exception("a defect of this program ended a look")
                fleet.add(server, "retry", _AFTER_DEFECT)
