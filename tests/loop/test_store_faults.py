"""The database is locked by another program, or its disk is full: the daemon waits, says so, and goes on by itself."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from reconciler.app.daemon import Daemon, Parts
from reconciler.loop.lease import Timing
from reconciler.nodes.pool import Pool
from reconciler.store import Store
from reconciler.store.queries import deployments
from reconciler.testing import builders
from reconciler.testing.pool import FakePool
from reconciler.testing.simulated import SimulatedClock, SimulatedLoop
from tests.loop.machine.stage import Attached, Program, Stage, play
from tests.loop.world import LoopWorld

FILES = builders.fleet_files(2, 1)


def _raw(store: Store) -> sqlite3.Connection:
    """The writer's own connection."""
    raw = store._connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    return raw


def _fill(program: Program) -> None:
    """The disk is full: SQLite may not take another page."""
    raw = _raw(program.store)
    pages = raw.execute("PRAGMA page_count").fetchone()[0]
    free = raw.execute("PRAGMA freelist_count").fetchone()[0]
    raw.execute(f"PRAGMA max_page_count = {pages}")
    if free:  # what was freed is room as well
        raw.execute("CREATE TABLE IF NOT EXISTS ballast (body BLOB)")
        raw.execute("INSERT INTO ballast VALUES (zeroblob(?))", (max(0, free - 4) * 4096,))


def _make_room(program: Program) -> None:
    raw = _raw(program.store)
    raw.execute("PRAGMA max_page_count = 1073741823")
    raw.execute("DROP TABLE IF EXISTS ballast")


@pytest.mark.parametrize("when", ["idle", "in an apply", "at a push"])
def test_a_full_disk_is_waited_out_and_told_of(when: str, caplog: pytest.LogCaptureFixture) -> None:
    async def scene(stage: Stage) -> None:
        program = stage.start()
        await stage.comes_right(stage.push())
        for node in stage.nodes.values():
            node.step_seconds = 5.0
        fault = _Full(program)
        if when == "idle":
            fault.begin()
        for site in ("site1-1", "site2-1"):
            stage.change("Site", site, php={"maxChildren": 9}, documentRoot="web")
        if when == "at a push":
            fault.begin()
        commit = stage.push()
        if when == "in an apply":
            node = stage.node("web1")

            async def works() -> bool:
                return bool(node.running)

            await stage.until(works, 60)
            fault.begin()
        await asyncio.sleep(600)
        assert fault.refused > 5
        assert not program.task.done(), "it outlasts that"
        fault.end()
        await stage.comes_right(commit)
        for done in stage.done().values():
            assert set(done.values()) <= {1, 2}
        assert any(line.startswith("DatabaseRefused") for line in await stage.events("Fleet", "main"))
        assert "is full" in caplog.text

    play(FILES, scene)


class _Full:
    """SQLite's own error for a full disk, at every write of a program's store."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self.refused = 0

    def begin(self) -> None:
        def point(name: str) -> None:
            if name.startswith("before"):
                self.refused += 1
                self._write()
            self._program.points(name)

        self._program.store.watch(point)

    def once(self) -> None:
        """Refuse the write that is about to be made."""
        self._write()
        raise AssertionError("there was room")

    def _write(self) -> None:
        """A write that finds no room."""
        store = self._program.store
        raw = _raw(store)
        raw.execute("PRAGMA max_page_count = 1")
        try:
            # more than any free pages inside the file can hold
            with store._connection.begin():
                store._connection.exec_driver_sql("CREATE TABLE no_room AS SELECT zeroblob(3000000) AS body")
        finally:
            raw.execute("PRAGMA max_page_count = 1073741823")

    def end(self) -> None:
        self._program.store.watch(self._program.points)


def test_nothing_is_lost_when_the_disk_fills_up_page_by_page() -> None:
    async def scene(stage: Stage) -> None:
        program = stage.start()
        await stage.comes_right(stage.push())
        _fill(program)
        for turn in range(6):
            stage.change("Site", "site1-1", php={"maxChildren": 5 + turn})
            stage.put("User", f"someone{turn}", {"email": f"{'x' * 60}{turn}@example.test"})
            stage.push()
            await asyncio.sleep(30)
        assert not program.task.done()
        _make_room(program)
        await stage.comes_right(stage.source.commits[-1][0])

    play(FILES, scene)


@pytest.mark.parametrize("point", ["Journal.flush", "Executor._settle", "Runs.apply"])
def test_one_write_that_is_refused_costs_no_failed_deployment(point: str) -> None:
    async def scene(stage: Stage) -> None:
        program = stage.start()
        await stage.comes_right(stage.push())
        refused = program.points.on(f"before {point}", _Full(program).once)
        stage.change("Site", "site1-1", php={"maxChildren": 9})
        await stage.comes_right(stage.push())
        assert refused.is_set()
        ends = {one.status for one in await stage.deployments()}
        assert ends == {"success"}, "what the node did is what is recorded"

    play(FILES, scene)


def test_a_write_that_is_refused_before_the_node_is_asked_costs_one_attempt() -> None:
    async def scene(stage: Stage) -> None:
        program = stage.start()
        await stage.comes_right(stage.push())
        began = stage.node("web1").applied
        refused = program.points.on("before Executor._converge", _Full(program).once)
        stage.change("Site", "site1-1", php={"maxChildren": 9})
        await stage.comes_right(stage.push())
        assert refused.is_set()
        failed = [one.reason for one in await stage.deployments() if one.status == "failed"]
        assert failed == ["the run ended before its node was asked; nothing was changed"]
        assert stage.node("web1").applied == began + 1

    play(FILES, scene)


def test_a_write_that_is_refused_while_a_daemon_settles_costs_no_failed_deployment() -> None:
    async def scene(stage: Stage) -> None:
        stage.node("web1").step_seconds = 1.0
        first = stage.start()
        commit = stage.push()
        await asyncio.sleep(10)
        await first.kill()
        second = stage.start()
        refused = second.points.on("before Journal.flush", _Full(second).once)
        await stage.comes_right(commit)
        assert refused.is_set()
        assert {one.status for one in await stage.deployments()} == {"success"}

    play(FILES, scene)


def test_a_refused_record_of_a_key_is_made_again_and_leaves_nothing_unfinished() -> None:
    async def scene(stage: Stage) -> None:
        program = stage.start()
        refused = program.points.on("before Executor._settle", _Full(program).once)
        await stage.comes_right(stage.push())
        assert refused.is_set()

    play(FILES, scene)


# -- real time, real locks


@asynccontextmanager
async def _daemon(world: LoopWorld, store: Store) -> AsyncIterator[Daemon]:
    parts = Parts(
        pool=lambda meter: cast("Pool", FakePool(world.nodes, observer=meter)),
        source=lambda spec, given: Attached(world.sources[spec.name], given),
        tick=0.2,
        lease=Timing(holds=3.0, beats=0.5),
        owner="here:1:x",
    )
    made = Daemon(world.folder, store, world.config, parts)
    task = asyncio.create_task(made.run())
    try:
        yield made
        assert not task.done(), "the daemon died"
    finally:
        made.stop("the test is over")
        await asyncio.wait([task], timeout=30)
        if task.done() and not task.cancelled():
            task.exception()


@pytest.mark.parametrize("seconds", [6.0])
def test_a_database_locked_by_another_program_is_waited_for(tmp_path: Path, seconds: float) -> None:
    """Longer than the lease holds, and many times as long as a write waits."""

    async def scene() -> None:
        loop = SimulatedLoop()
        world = LoopWorld(tmp_path, FILES, SimulatedClock(loop))
        box = world.store._box
        store = Store.open(world.store.path, box, busy_ms=200)
        try:
            async with _daemon(world, store) as daemon:
                await _until_applied(world, daemon)
                other = sqlite3.connect(world.store.path, isolation_level=None)
                other.execute("BEGIN IMMEDIATE")
                world.change("Site", "site1-1", php={"maxChildren": 9})
                commit = world.source.push(world.files)
                daemon.look("main", "push")
                await asyncio.sleep(seconds)
                other.execute("ROLLBACK")
                other.close()
                await _until_applied(world, daemon, commit)
                assert not await world.store.aread(deployments.unfinished)
                assert any("DatabaseRefused" in line for line in await world.events("Fleet", "main"))
        finally:
            store.close()
            world.store.close()
            loop.close()

    asyncio.run(scene())


async def _until_applied(world: LoopWorld, daemon: Daemon, commit: str = "") -> None:
    if not commit:
        commit = world.source.push(world.files)
        daemon.look("main", "push")
    until = time.monotonic() + 60
    while await world.status(commit) != "applied":
        assert time.monotonic() < until, await world.told()
        await asyncio.sleep(0.1)


def test_a_daemon_starts_on_a_database_that_is_locked() -> None:
    async def scene(stage: Stage) -> None:
        other = sqlite3.connect(stage.store.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        program = stage.start(busy_ms=1)
        commit = stage.push()
        await asyncio.sleep(60)
        assert not program.task.done()
        other.execute("ROLLBACK")
        other.close()
        await stage.comes_right(commit)

    play(FILES, scene)
