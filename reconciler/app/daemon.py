"""The daemon: takes the lease, follows every fleet's source, works the queue, and ends in good order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reconciler import __version__
from reconciler.app import alerting, nudges
from reconciler.app.config import Config
from reconciler.app.following import AFTER_REFUSAL, Following
from reconciler.app.loop_settings import loop_settings, only_at_start
from reconciler.app.narrating import LogProgress
from reconciler.app.system import Supervisor
from reconciler.converge import access
from reconciler.converge.executor import Executor, Limits
from reconciler.converge.observer import Observer
from reconciler.converge.settle import settle
from reconciler.errors import LeaseLost, ReconcilerError, StoreBusy, StoreFault
from reconciler.kit import ids
from reconciler.kit.clock import Clock, utc_now
from reconciler.loop import watching
from reconciler.loop.denials import Collector
from reconciler.loop.dispatch import Dispatch
from reconciler.loop.fleet import FleetLoop
from reconciler.loop.jumps import ClockWatch
from reconciler.loop.lease import DaemonLease, Timing
from reconciler.loop.look import Means
from reconciler.loop.operators import Operators
from reconciler.loop.queue import WorkQueue
from reconciler.loop.settings import FleetSpec
from reconciler.loop.source import Source
from reconciler.loop.worker import Worker
from reconciler.nodes.pool import Pool
from reconciler.notify.alerts import Alert
from reconciler.notify.notifier import Notifier
from reconciler.secrets.redact import Redactor
from reconciler.store import Store, Tx
from reconciler.store.queries import databases, events, rollouts
from reconciler.store.words import TriggeredVia
from reconciler.telemetry import logs
from reconciler.telemetry.metrics import Metrics

log = logs.get("reconciler.app")

TICK = 1.0
"""Seconds between two looks for what operators recorded; a nudge makes it at once."""
_OBSERVE = 15.0
_SCHEDULE = 10.0
_TIDY = 3600.0
_TOLD_FOR = 600.0
"""Seconds for which it is an alert that a lease ran out."""


@dataclass
class Parts:
    """What tests replace: the nodes, the sources, the time, how health is found out, and what is told at the points of every write."""

    pool: Callable[[Metrics], Pool] = lambda meter: Pool(observer=meter)
    source: Callable[[FleetSpec, Store], Source] | None = None
    clock: Clock = utc_now
    tick: float = TICK
    faults: watching.Faults = watching.faults
    lease: Timing = field(default_factory=Timing)
    owner: str = ""
    supervisor: Supervisor = field(default_factory=Supervisor)
    redact: Redactor = field(default_factory=Redactor)
    reload: Callable[[Config], Config] = lambda config: config
    serve: Callable[[Daemon], Coroutine[Any, Any, None]] | None = None


class Daemon:
    """One daemon on one database. `run` it once."""

    def __init__(self, state: Path, store: Store, config: Config, parts: Parts | None = None) -> None:
        self.state = state
        self.store = store
        self.config = config
        self.parts = parts or Parts()
        self.meter = Metrics(__version__)
        self.fleets: dict[str, FleetLoop] = {}
        self.beat = 0.0
        self.settled = False
        self._stop = asyncio.Event()
        self._at_once = False
        self._clock = ClockWatch(self.parts.clock)
        self._nudge = asyncio.Event()
        self._observed = asyncio.Event()
        self._following = Following(
            state, store, self.fleets, self.meter, self.parts.clock, self.parts.source
        )
        self._passwords = ""
        self._since = 0.0
        owner = self.parts.owner or f"{socket.gethostname()}:{os.getpid()}:{ids.new()}"
        self.lease = DaemonLease(store, owner, self.parts.lease)

    # -- from outside

    def stop(self, why: str) -> None:
        """End in good order: running work has a few seconds, what takes longer is parked on its node."""
        log.info("stopping", why=why)
        self._stop.set()

    def stop_at_once(self, why: str) -> None:
        """End without waiting for anything; the next start finds out what became of it."""
        log.warning("stopping at once", why=why)
        self._at_once = True
        self._stop.set()

    def nudge(self) -> None:
        """Look for what operators and repositories have to say."""
        self._nudge.set()
        self._following.look_at_all("push")

    def look(self, fleet: str, cause: TriggeredVia) -> None:
        """Look at a fleet's source, soon."""
        self._following.look(fleet, cause)

    def reload(self) -> str:
        """Read the settings again and follow them; a line for people about how that went."""
        before = self.config
        self.parts.supervisor.reloading()
        self.config = self.parts.reload(before)
        later: list[str] = []
        if self.config is not before:
            self._means.settings = loop_settings(self.config)
            self._following.follow(self.config, self._means.settings)
            self._notify()
            later = only_at_start(before, self.config)
        self.parts.supervisor.ready(self._status())
        return "the settings were read again" + (
            f"; these count from the next start on: {', '.join(later)}" if later else ""
        )

    # -- life

    async def run(self) -> None:
        """Work until told to stop. LeaseLost when another daemon took over; StoreFault's leaves."""
        if not await self._unless_stopped(self._take_lease()):
            return
        self.meter.lease(held=True)
        self._compose()
        try:
            with nudges.listening(self.state, self.nudge):
                await self._live()
        finally:
            await self._end()

    async def _take_lease(self) -> None:
        host = socket.gethostname()
        mine = f"{host}:{os.getpid()}:"

        def dead(owner: str) -> bool:
            # the apply lock of this state directory is ours, so nobody of this machine works with it any more
            return owner.startswith(f"{host}:") and not owner.startswith(mine)

        def waiting(owner: str) -> None:
            log.info("waiting for the lease", held_by=owner)
            self.parts.supervisor.status(f"waiting for the lease, held by {owner}")

        await self.lease.acquire(waiting, dead if not self.parts.owner else lambda owner: False)
        self._since = asyncio.get_running_loop().time()
        if self.lease.ran_out:
            log.warning("took the lease over: it ran out", held_by=self.lease.ran_out)

    def _firing(self, tx: Tx) -> list[Alert]:
        """What is wrong now; for a while also that the daemon of before fell silent."""
        found = alerting.firing(tx)
        if self.lease.ran_out and self.beat < self._since + _TOLD_FOR:
            said = f"{self.lease.ran_out} did not prolong its lease; {self.lease.owner} has taken over"
            found.append(Alert("Daemon", self.lease.ran_out, "LeaseLost", "warning", "LeaseRanOut", said))
        return found

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do `work`, but end at once when told to stop; whether it came to its end."""
        task, stop = asyncio.ensure_future(work), asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
            return task.done()
        finally:
            for one in (task, stop):
                one.cancel()
            await asyncio.wait([task, stop])

    def _compose(self) -> None:
        settings = loop_settings(self.config)
        limits = settings.limits
        self.queue = WorkQueue(limit=limits.nodes, per_group=limits.per_fleet)
        self.pool = self.parts.pool(self.meter)
        progress = LogProgress()
        self.executor = Executor(
            self.store,
            self.pool,
            progress,
            Limits(limits.nodes, limits.apply_within),
            lambda texts: self.parts.redact.add(*texts),
        )
        observer = Observer(self.store, self.pool, progress, limits.checks, keep=True)
        self.collector = Collector(
            self.store, self.pool, self.meter, lambda: self._means.settings.limits.denials, self.parts.redact
        )
        self._means = Means(
            self.store,
            self.pool,
            progress,
            settings,
            self.executor,
            observer,
            self.parts.clock,
            self.meter,
            self.parts.faults,
            self.parts.redact,
            self.collector,
        )
        self.worker = Worker(self._means, self.fleets)
        self.dispatch = Dispatch(self.queue, self.worker, self._means, self.fleets, self._observed.set)
        self._following.begin(self.queue)
        self.operators = Operators(self.store, self.fleets, self.worker, self.executor, self.reload)
        self._notifier_task: asyncio.Task[None] | None = None
        self._notifier: Notifier | None = None

    async def _live(self) -> None:
        await self._patiently(self._settle)
        self.settled = True
        self._following.follow(self.config, self._means.settings)
        self._notify()
        duties: list[Awaitable[None]] = [
            self.lease.keep(self._told_refused),
            self.dispatch.run(),
            self._every(self.parts.tick, self.operators.once, self._nudge),
            self._every(_OBSERVE * self.parts.tick, self._observe, self._observed),
            self._every(_SCHEDULE, self._schedule),
            self._every(_TIDY, self._tidy),
            self.collector.run(),
            self._heartbeat(),
            self._every(self.parts.tick, self._follow_clock),
            self.parts.supervisor.keep_alive() if self.parts.supervisor.watchdog else self._stop_wait(),
        ]
        if self.parts.serve is not None:
            duties.append(self.parts.serve(self))
        tasks = [asyncio.ensure_future(duty) for duty in duties]
        stop = asyncio.ensure_future(self._stop.wait())
        self.parts.supervisor.ready(self._status())
        try:
            await asyncio.wait([stop, *tasks], return_when=asyncio.FIRST_COMPLETED)
            failed = next(
                (t.exception() for t in tasks if t.done() and not t.cancelled() and t.exception()), None
            )
            if failed is not None:
                raise _innermost(failed)
        finally:
            self.parts.supervisor.stopping("ending")
            await self._park(tasks, stop)

    async def _park(self, tasks: Sequence[asyncio.Future[None]], stop: asyncio.Future[Any]) -> None:
        """Let running looks end within their time; cut off the rest. Nodes finish what they began."""
        self.queue.close()
        dispatching = tasks[1]
        if not self._at_once and self.lease.held:
            await asyncio.wait([dispatching], timeout=self._means.settings.limits.stop_within)
        extra = [self._notifier_task] if self._notifier_task else []
        everything: list[asyncio.Future[Any]] = [*tasks, *self._following.tasks, *extra, stop]
        for task in everything:
            task.cancel()
        await asyncio.wait(everything, timeout=2.0)
        for task in everything:
            if task.done() and not task.cancelled():
                task.exception()

    async def _end(self) -> None:
        with contextlib.suppress(TimeoutError, ReconcilerError):
            async with asyncio.timeout(1.0):
                await self.pool.close()
        with contextlib.suppress(TimeoutError, ReconcilerError):
            async with asyncio.timeout(1.0):
                await self.lease.release()
        self.meter.lease(held=False)

    async def _settle(self) -> None:
        """What no node can answer for is ended at once; the rest when its server is looked at."""
        await settle(self.store, self.pool, LogProgress(), 1.0, only={""})
        await self.store.awrite(rollouts.not_ahead)

    async def _patiently(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work`; as often as the database refuses, again."""
        while True:
            try:
                return await work()
            except LeaseLost:
                raise
            except StoreFault as fault:
                log.warning("the database refused", fault=fault.message)
                await asyncio.sleep(AFTER_REFUSAL)

    def _told_refused(self, tx: Tx, why: str) -> None:
        """The database takes writes again."""
        log.info("the database takes writes again", refused=why)
        message = f"the database could not be written to for a while: {why}"
        for name in self.fleets:
            events.add(tx, "Fleet", name, reason="DatabaseRefused", message=message, type="Warning")

    async def _stop_wait(self) -> None:
        await self._stop.wait()

    async def _every(
        self, seconds: float, work: Callable[[], Awaitable[None]], sooner: asyncio.Event | None = None
    ) -> None:
        """Do `work` again and again; a fault of the database is waited out, a defect is logged, a lost lease ends it."""
        while True:
            try:
                await work()
            except LeaseLost:
                raise
            except StoreFault as fault:
                log.warning("the database refused", fault=fault.message)
            except Exception:
                log.exception("a defect of this program")
            if sooner is None:
                await asyncio.sleep(seconds)
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await sooner.wait()
                sooner.clear()
                if seconds >= _OBSERVE:
                    await asyncio.sleep(TICK)  # many looks end together: one observation for all of them

    async def _heartbeat(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(self.parts.tick)
            self.beat = loop.time()
            self.meter.loop_lag(max(0.0, self.beat - before - self.parts.tick))
            self.meter.queue(self.queue.depth, len(self.queue.running))

    async def _follow_clock(self) -> None:
        """When the wall clock was set, everything that it decides is looked at anew: windows, soaks, retries."""
        jump = self._clock.jump()
        if not jump:
            return
        log.warning("the clock was set", seconds=round(jump, 1))
        await self.store.awrite(rollouts.not_ahead)
        for fleet in self.fleets.values():
            self._following.look_at_servers(fleet, "clock")
        self._clock.seen()

    async def _schedule(self) -> None:
        """Looks for drift that are due."""
        now = self.parts.clock()
        for fleet in self.fleets.values():
            for server in fleet.timetable.due(now):
                fleet.add(server, "schedule")

    # -- telling

    def _notify(self) -> None:
        if self._notifier_task is not None:
            self._notifier_task.cancel()
        self._notifier = Notifier(
            self.store, self.config.notifications, clock=self.parts.clock, count=self.meter.deliveries
        )
        self._notifier_task = (
            asyncio.ensure_future(self._patiently(self._notifier.run)) if self.config.notifications else None
        )

    async def _observe(self) -> None:
        """Bring alerts and gauges up to what is recorded."""
        notifier = self._notifier
        if notifier is not None:
            firing = await self.store.aread(self._firing)
            await self.store.awrite(lambda tx: notifier.observe(tx, firing))
            notifier.wake()
        # passwords that were made meanwhile must not get into the log either
        mark = await self.store.aread(databases.mark)
        if mark != self._passwords:
            self.parts.redact.add(*await self.store.aread(access.every_password))
            self._passwords = mark
        figures = await self.store.aread(alerting.figures)
        self.meter.conditions(figures.conditions)
        self.meter.suspended(figures.suspended)
        self.meter.alerts(figures.alerts)
        self.meter.database(*await asyncio.to_thread(self.store.sizes))
        self.parts.supervisor.status(self._status())

    async def _tidy(self) -> None:
        await self.operators.tidy()
        served = frozenset(self.fleets)
        await self.store.awrite(lambda tx: alerting.prune(tx, served))
        with contextlib.suppress(StoreBusy):
            await self.store.checkpoint()

    def _status(self) -> str:
        running = len(self.queue.running)
        fleets = ", ".join(
            f"{name} at {fleet.target.commit[:12]}" if fleet.target else f"{name}: no revision yet"
            for name, fleet in sorted(self.fleets.items())
        )
        return f"{fleets or 'no fleet'}; {running} running, {self.queue.depth} waiting"


def _innermost(fault: BaseException) -> BaseException:
    """The first fault inside a group of faults."""
    while isinstance(fault, BaseExceptionGroup):
        fault = fault.exceptions[0]
    return fault
