"""Following the fleets that the settings name: their repositories, and the repositories of their sites."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Mapping
from pathlib import Path

from reconciler.app import nudges, repositories
from reconciler.app.config import Config
from reconciler.app.planning import ENGINE
from reconciler.desired import mirror, signers
from reconciler.errors import LeaseLost, StoreFault
from reconciler.kit.clock import Clock
from reconciler.loop.applications import Applications
from reconciler.loop.backoff import jittered
from reconciler.loop.fleet import FleetLoop
from reconciler.loop.queue import WorkQueue
from reconciler.loop.settings import FleetSpec, LoopSettings
from reconciler.loop.source import GitSource, Source
from reconciler.store import Store
from reconciler.store.words import TriggeredVia
from reconciler.telemetry import logs
from reconciler.telemetry.metrics import Metrics

log = logs.get("reconciler.app")

AFTER_REFUSAL = 5.0
"""Seconds until something is tried again that the database refused: it was locked, or its disk full."""


class Following:
    """The fleets of a daemon, each with the tasks that look at its source when something says so and at every poll.

    `source` stands in for the git repository of a fleet; `fleets` is filled in place, since others hold it too.
    """

    def __init__(
        self,
        state: Path,
        store: Store,
        fleets: dict[str, FleetLoop],
        meter: Metrics,
        clock: Clock,
        source: Callable[[FleetSpec, Store], Source] | None = None,
    ) -> None:
        self.fleets = fleets
        self._state = state
        self._store = store
        self._meter = meter
        self._clock = clock
        self._source_of = source
        self._wakes: dict[str, asyncio.Event] = {}
        self._causes: dict[str, TriggeredVia] = {}
        self._wakes_applications: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, list[asyncio.Task[None]]] = {}
        self._given: Mapping[str, object] = {}
        """What each fleet was made from, to tell what a reload changes."""

    def begin(self, queue: WorkQueue) -> None:
        """Where work is added; before `follow`."""
        self._queue = queue

    def look(self, fleet: str, cause: TriggeredVia) -> None:
        """Look at a fleet's source, soon."""
        if fleet in self._wakes:
            self._causes.setdefault(fleet, cause)
            self._wakes[fleet].set()

    def look_at_all(self, cause: TriggeredVia) -> None:
        """Look at every fleet's source, soon."""
        for name in self._wakes:
            self.look(name, cause)

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """What runs until it is cancelled."""
        return [task for some in self._tasks.values() for task in some]

    def follow(self, config: Config, settings: LoopSettings) -> None:
        """Serve exactly the fleets that the settings name."""
        self._config, self._settings = config, settings
        self._applications = Applications(self._state, self._store, repositories.reach(config.git))
        specs = {spec.name: spec for spec in self._settings.fleets}
        given = {name: (spec, self._config.fleet(name), self._config.git) for name, spec in specs.items()}
        for name in [name for name in self.fleets if given.get(name) != self._given.get(name)]:
            for task in self._tasks.pop(name, []):
                task.cancel()
            del self.fleets[name], self._wakes[name], self._wakes_applications[name]
        for name, spec in specs.items():
            if name not in self.fleets:
                self._add(spec)
            self.fleets[name].thresholds = self._settings.thresholds
        self._given = given

    def _add(self, spec: FleetSpec) -> None:
        source = self._source_of(spec, self._store) if self._source_of else self._git_source(spec)
        fleet = FleetLoop(
            spec,
            source,
            self._store,
            self._queue,
            self._clock,
            ENGINE,
            thresholds=self._settings.thresholds,
            neighbours=self.fleets,
        )
        self.fleets[spec.name] = fleet
        self._wakes[spec.name] = asyncio.Event()
        self._wakes_applications[spec.name] = asyncio.Event()
        tasks = [
            asyncio.ensure_future(self._revisions(fleet)),
            asyncio.ensure_future(self._sites(fleet)),
        ]
        if spec.watch:
            tasks.append(
                asyncio.ensure_future(nudges.watch(spec.watch, lambda: self.look(spec.name, "push")))
            )
        self._tasks[spec.name] = tasks

    def _git_source(self, spec: FleetSpec) -> GitSource:
        given, git = self._config.fleet(spec.name), self._config.git
        made = mirror.Mirror(
            self._state / "mirrors" / f"{spec.name}.git",
            given.addresses,
            git.protocols,
            ssh_key=Path(git.ssh_key) if git.ssh_key else None,
            known_hosts=Path(git.known_hosts) if git.known_hosts else None,
            seconds=git.timeout,
        )
        return GitSource(
            spec,
            made,
            self._store,
            lambda: signers.read(spec.signers) if spec.signers else signers.Signers(),
        )

    async def _revisions(self, fleet: FleetLoop) -> None:
        """Look at one fleet's source, whenever something says so and at every poll."""
        name, wake = fleet.name, self._wakes[fleet.name]
        started = False
        while True:
            cause = self._causes.pop(name, "poll")
            wake.clear()
            ok, wait = False, jittered(fleet.spec.poll, 0.1, random.random)
            with logs.bound(fleet=name):
                try:
                    ok = await fleet.look(cause)
                except LeaseLost:
                    return  # the lease's own task ends the daemon
                except StoreFault as fault:
                    log.warning("the database refused", fault=fault.message)
                    wait = min(wait, AFTER_REFUSAL)
                    self._causes.setdefault(name, cause)
                except Exception:
                    log.exception("a defect of this program ended a look at a source")
            self._meter.source(name, ok, 0.0)
            self._wakes_applications[name].set()
            if ok and not started:
                started = True
                self.look_at_servers(fleet, "start")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await wake.wait()

    async def _sites(self, fleet: FleetLoop) -> None:
        """Look at the repositories of a fleet's sites after each look at its own, which does not wait for them."""
        wake = self._wakes_applications[fleet.name]
        while True:
            await wake.wait()
            wake.clear()
            with logs.bound(fleet=fleet.name):
                try:
                    if fleet.target is not None and await self._applications.refresh(fleet.target.loaded):
                        await fleet.judge_again()
                except LeaseLost:
                    return
                except StoreFault as fault:
                    log.warning("the database refused", fault=fault.message)
                except Exception:
                    log.exception("a defect of this program ended a look at the sources of sites")

    def look_at_servers(self, fleet: FleetLoop, why: str) -> None:
        """Every server is looked at once, after a start for example: whatever happened meanwhile is found."""
        groups = fleet.target.assessment.groups if fleet.target else {}
        for place, server in enumerate(sorted(groups)):
            fleet.add(server, why, 0.02 * place)
