"""The played fleet, with daemons that can be killed at every write and frozen at any time, and what must hold whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar, cast
from unittest import mock

from reconciler.app.daemon import Daemon, Parts
from reconciler.converge.executor import Executor
from reconciler.converge.observer import Observer
from reconciler.converge.progress import Result, Silent
from reconciler.desired.fleet import Loaded
from reconciler.desired.snapshot import Snapshot
from reconciler.errors import LeaseLost
from reconciler.loop import watching
from reconciler.loop.lease import Timing
from reconciler.loop.source import Head
from reconciler.nodes.pool import Pool
from reconciler.plan.model import Plan
from reconciler.record import inventory
from reconciler.store import Store
from reconciler.store.queries import conditions as condition_rows
from reconciler.store.queries import deployments, revisions, servers, sites
from reconciler.testing import machine
from reconciler.testing.pool import FakePool
from reconciler.testing.simulated import SimulatedClock, SimulatedLoop
from tests.loop.machine.inline import InlineLoop, without_threads
from tests.loop.machine.process import Killed, Process
from tests.loop.world import LoopWorld, MemorySource

T = TypeVar("T")
Scene = Callable[["Stage"], Awaitable[None]]


@dataclass
class Points:
    """The points of a program's writes, in their order; it dies at number `at`."""

    process: Process
    at: int | None = None
    seen: list[str] = field(default_factory=list)
    calls: dict[str, Callable[[], None]] = field(default_factory=dict)

    def on(self, name: str, call: Callable[[], None]) -> asyncio.Event:
        """Call something at the next point whose name begins so; the event tells that it was reached."""
        reached = asyncio.Event()

        def once() -> None:
            reached.set()
            call()

        self.calls[name] = once
        return reached

    def __call__(self, name: str) -> None:
        if self.process.dead:
            raise Killed
        self.seen.append(name)
        for wanted in [one for one in self.calls if name.startswith(one)]:
            self.calls.pop(wanted)()
        if self.at is not None and len(self.seen) > self.at:
            self.process.die()
            raise Killed


@dataclass
class Attached:
    """A source of the stage as one daemon sees it: what is accepted goes into that daemon's store."""

    origin: MemorySource
    store: Store

    def _mine(self) -> MemorySource:
        mine = copy.copy(self.origin)
        mine.store = self.store
        return mine

    async def look(self) -> Head | None:
        return await self._mine().look()

    async def read(self, commit: str) -> tuple[Snapshot, Loaded]:
        return await self._mine().read(commit)

    async def tree(self, commit: str) -> str:
        return await self._mine().tree(commit)


class Program:
    """One daemon on the stage, with a connection to the database and to the nodes of its own."""

    def __init__(self, stage: Stage, owner: str, at: int | None, busy_ms: int) -> None:
        self.process = Process(owner)
        self.points = Points(self.process, at)
        known = stage.store
        self.store = Store.open(known.path, known._box, clock=stage.clock, busy_ms=busy_ms)
        self.store.watch(self.points)
        self.pools: list[FakePool] = []
        self._stage = stage
        parts = Parts(
            pool=self._pool,
            source=lambda spec, store: Attached(stage.sources[spec.name], store),
            clock=stage.clock,
            tick=stage.tick,
            faults=stage.faults,
            lease=stage.lease,
            owner=owner,
        )
        self.daemon = Daemon(stage.folder, self.store, stage.config, parts)
        self.process.at_death.append(self._hang_up)
        self.task = self.process.run(self.daemon.run())

    def _pool(self, meter: Any) -> Pool:
        made = FakePool(self._stage.nodes, observer=meter)
        self.pools.append(made)
        return cast("Pool", made)

    def _hang_up(self) -> None:
        for pool in self.pools:
            with contextlib.suppress(StopIteration):
                pool.close().send(None)  # it waits for nothing, and must not wait for the loop to turn

    @property
    def lost(self) -> bool:
        """Whether it ended because another daemon has taken over."""
        ended = self.task.done() and not self.task.cancelled()
        return ended and isinstance(self.task.exception(), LeaseLost)

    async def killed(self) -> None:
        """Wait for it to die."""
        while not self.process.dead and not self.task.done():
            await asyncio.sleep(0.05)

    async def kill(self) -> None:
        """Kill it now; comes back when nothing of it is left."""
        self.process.die()
        await self.process.ended()
        self.store.close()

    async def stop(self, within: float = 60.0) -> BaseException | None:
        """End it in good order: what its run raised."""
        self.daemon.stop("the scene is over")
        await asyncio.wait([self.task], timeout=within)
        return await self.gone()

    async def gone(self) -> BaseException | None:
        """It has ended by itself: what its run raised."""
        assert self.task.done(), "the daemon still runs"
        raised = None if self.task.cancelled() else self.task.exception()
        await self.kill()
        return raised


class Stage(LoopWorld):
    """As `LoopWorld`, with programs in place of one daemon; its own store is that of a person who looks."""

    def __init__(
        self, folder: Path, files: Mapping[str, str], loop: SimulatedLoop, runner: asyncio.Runner
    ) -> None:
        super().__init__(folder, files, SimulatedClock(loop))
        self.loop = loop
        self._runner = runner
        self.tick = 5.0
        self.faults: watching.Faults = watching.faults
        self.lease = Timing(holds=3.0, beats=1.0)
        self.programs: list[Program] = []
        self.applied: list[Plan] = []
        self.spoiled: dict[str, set[str]] = {}
        """By server, what somebody changed by hand."""

    def play(self, scene: Awaitable[T]) -> T:
        """Let the time go on for as long as something takes: what it gives."""
        return self._runner.run(cast("Coroutine[Any, Any, T]", scene))

    def start(self, owner: str = "", *, dies_at: int | None = None, busy_ms: int = 5000) -> Program:
        """Start a daemon that dies at a point of its writes, and waits so many milliseconds for the database."""
        name = owner or f"host:{len(self.programs) + 1}:x"
        made = Program(self, name, dies_at, busy_ms)
        self.programs.append(made)
        return made

    def at_leisure(self) -> None:
        """For scenes in which hours pass: what daemons do every few seconds is done more seldom."""
        self.tick, self.lease = 60.0, Timing(holds=90.0, beats=30.0)

    @property
    def alive(self) -> list[Program]:
        """The programs that run."""
        return [one for one in self.programs if not one.process.dead and not one.task.done()]

    def push(self, fleet: str = "main") -> str:
        """A new commit with the files as they are; the daemons are told."""
        commit = self.sources[fleet].push(self.files_of[fleet])
        for program in self.alive:
            if program.daemon.fleets:
                program.daemon.look(fleet, "push")
        return commit

    def nudge(self) -> None:
        for program in self.alive:
            program.daemon.nudge()

    async def close(self) -> None:
        """Kill what still runs."""
        for program in self.programs:
            program.process.thaw()
            if not program.process.dead:
                await program.kill()
        self.store.close()

    # -- by hand

    def spoil(self, server: str, *beginnings: str) -> str:
        """Somebody removes a thing whose key begins so from a node: its key."""
        node = self.node(server)
        key = next(key for key in sorted(node.things) if key.startswith(beginnings))
        del node.things[key]
        self.spoiled.setdefault(server, set()).add(key)
        return key

    # -- what must hold

    def done(self) -> dict[str, Counter[str]]:
        """How often each step was carried out, by server."""
        return {
            node.server: Counter(
                event.key
                for journal in node.journals.values()
                for event in journal.events
                if event.type == "step_done"
            )
            for node in self.nodes.values()
        }

    def named(self) -> dict[str, set[str]]:
        """The steps that plans named, by server."""
        found: dict[str, set[str]] = {name: set(keys) for name, keys in self.spoiled.items()}
        for plan in self.applied:
            for change in plan.effective:
                for server in (change.server, change.previous_server):
                    if server is not None:
                        found.setdefault(server, set()).update(step.key for step in change.steps)
            for item in plan.drift:
                found.setdefault(item.server, set()).add(item.step)
        return found

    async def check(self) -> None:
        """What holds at every moment."""
        named = self.named()
        for server, done in self.done().items():
            assert done.keys() <= named.get(server, set()), f"nobody planned this on {server}"
        for node in self.nodes.values():
            assert node.fences == sorted(set(node.fences)), (
                f"{node.server}: fences do not rise: {node.fences}"
            )
            assert sum(journal.running for journal in node.journals.values()) <= 1
        known = await self.store.aread(lambda tx: deployments.listed(tx, limit=100_000))
        for one in known:
            assert (one.finished_at is not None) == (one.status in ("success", "failed")), one
        applies = {one.apply_id for one in known}
        for node in self.nodes.values():
            # an apply of no section only has the node keep its bundle for later comparisons
            ran = {name for name, journal in node.journals.items() if journal.sections}
            assert ran <= applies, f"{node.server} ran what nobody recorded"
        rows = await self.store.aread(sites.all)
        users = [(row.server_id, row.system_user) for row in rows]
        assert len(users) == len(set(users)), "a system user was given twice"

    async def in_order(self, commit: str, fleet: str = "main") -> None:
        """The fleet is at `commit`: recorded, on the nodes, and nothing is left over."""
        await self.check()
        found = await self.store.aread(lambda tx: revisions.get(tx, commit, fleet))
        assert found is not None
        assert (found.status, found.healthy_at is not None) == ("applied", True), found
        assert not await self.store.aread(deployments.unfinished)
        for condition in await self.store.aread(condition_rows.listed):
            if condition.type in ("Ready", "SourceReady", "Reachable"):
                assert condition.status == "True", condition
            else:
                assert condition.status == "False", condition
        recorded = await self.store.aread(inventory.recorded)
        seen = await Observer(self.store, cast("Pool", FakePool(self.nodes)), Silent()).observe(recorded)
        assert (seen.drift, seen.unreachable) == ([], {})
        await self._no_leftovers()
        for revision in await self.store.aread(lambda tx: revisions.listed(tx, limit=10_000)):
            assert revision.commit == commit or revision.status not in ("accepted", "applying"), revision

    async def _no_leftovers(self) -> None:
        """The system users on the nodes are those of the sites that are recorded there."""
        rows = await self.store.aread(sites.all)
        names = {row.id: row.name for row in await self.store.aread(servers.all)}
        for node in self.nodes.values():
            there = {key.removeprefix("user:") for key in node.things if key.startswith("user:")}
            known = {row.system_user for row in rows if names[row.server_id] == node.server}
            assert {user for user in there if user.startswith("web")} == known, node.server

    async def comes_right(self, commit: str, seconds: float = 900.0) -> None:
        """Wait until the fleet is at `commit`, and have a look at all of it."""
        await self.until(lambda: self._there(commit), seconds)
        await self.in_order(commit)

    async def _there(self, commit: str) -> bool:
        return (
            await self.status(commit) == "applied"
            and await self.healthy(commit)
            and not await self.store.aread(deployments.unfinished)
            and (await self.says("Fleet", "main", "Ready")).startswith("True")
        )


def play(files: Mapping[str, str], *scenes: Scene, days: float = 3.0) -> None:
    """Play scenes one after the other, each from the beginning, in a world of these files."""
    for scene in scenes:
        with opened(files, days=days) as stage:
            stage.play(scene(stage))


@contextlib.contextmanager
def opened(files: Mapping[str, str], *, days: float = 3.0) -> Iterator[Stage]:
    """A stage with a loop of its own, to which `Stage.play` gives time."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory())
        stack.enter_context(without_threads())
        loop = InlineLoop(limit=days * 86400)
        runner = stack.enter_context(asyncio.Runner(loop_factory=lambda: loop))
        stage = Stage(Path(folder), files, loop, runner)
        stack.enter_context(mock.patch.object(Executor, "apply", _noting(stage)))
        stack.enter_context(mock.patch.object(machine, "KEPT", 1_000_000))
        try:
            yield stage
        finally:
            stage.play(stage.close())


def _noting(stage: Stage) -> Callable[..., Awaitable[Sequence[Result]]]:
    """Executor.apply, with the plans noted down."""
    original = Executor.apply

    async def apply(self: Executor, plan: Plan, **more: Any) -> list[Result]:
        stage.applied.append(plan)
        return await original(self, plan, **more)

    return apply


def sampled(count: int, most: int) -> Iterable[int]:
    """At most `most` of `count` places, spread evenly, the same ones in every run."""
    if count <= most:
        return range(count)
    return sorted({round(place * (count - 1) / (most - 1)) for place in range(most)})
