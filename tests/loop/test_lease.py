"""Several daemons on one database: one works; one that stood still finds that it was replaced, and writes nothing more."""

from __future__ import annotations

import asyncio

from reconciler.errors import LeaseLost
from reconciler.loop.lease import NAME, DaemonLease, Timing
from reconciler.store import Tx
from reconciler.store.queries import deployments, leases
from reconciler.testing import builders
from reconciler.testing.node import FakeNode
from tests.loop.machine.stage import Program, Stage, play

FILES = builders.fleet_files(2, 1)
LEASE = Timing(holds=30.0, beats=5.0)


async def _owner(stage: Stage) -> str:
    found = await stage.store.aread(lambda tx: leases.get(tx, NAME))
    return found.owner if found else ""


async def _until_works(stage: Stage, program: Program, seconds: float) -> float:
    """Wait until a daemon has the lease; the seconds that took."""
    began = stage.loop.time()

    async def works() -> bool:
        return program.daemon.lease.held

    await stage.until(works, seconds)
    return stage.loop.time() - began


def test_a_second_daemon_waits_and_takes_over_at_once_when_the_first_stops() -> None:
    async def scene(stage: Stage) -> None:
        stage.lease = LEASE
        first = stage.start("here:1:a")
        await stage.comes_right(stage.push())
        second = stage.start("here:2:b")
        await asyncio.sleep(600)
        assert not second.daemon.lease.held
        assert not any("MemorySource" in point for point in second.points.seen), "it keeps its hands off"
        assert await first.stop() is None
        assert await _until_works(stage, second, 60) <= 2
        assert second.daemon.lease.ran_out == "", "it was given back: nobody need be told"
        stage.change("Site", "site1-1", php={"maxChildren": 9})
        await stage.comes_right(stage.push())

    play(FILES, scene)


def test_a_second_daemon_takes_over_from_a_dead_one_when_its_lease_has_run_out() -> None:
    async def scene(stage: Stage) -> None:
        stage.lease = LEASE
        for node in stage.nodes.values():
            node.step_seconds = 1.0
        first = stage.start("here:1:a")
        second = stage.start("here:2:b")
        commit = stage.push()
        await asyncio.sleep(5)
        await first.kill()
        assert await stage.store.aread(deployments.unfinished), "it was killed in the middle"
        waited = await _until_works(stage, second, 60)
        assert LEASE.holds - LEASE.beats <= waited <= LEASE.holds + LEASE.beats
        assert second.daemon.lease.ran_out == "here:1:a"
        told = stage.store.read(second.daemon._firing)
        assert [(alert.type, alert.name) for alert in told if alert.kind == "Daemon"] == [
            ("LeaseLost", "here:1:a")
        ]
        await stage.comes_right(commit)
        for done in stage.done().values():
            assert set(done.values()) == {1}, "nothing is done twice"

    play(FILES, scene)


def test_a_daemon_that_stood_still_finds_its_lease_lost_and_writes_nothing_more() -> None:
    async def scene(stage: Stage) -> None:
        stage.lease = LEASE
        for node in stage.nodes.values():
            node.step_seconds = 1.0
        first = stage.start("here:1:a")
        commit = stage.push()
        await asyncio.sleep(5)
        first.process.freeze()
        second = stage.start("here:2:b")
        await asyncio.sleep(60)
        assert second.daemon.lease.held
        await stage.comes_right(commit)
        seen = len(first.points.seen)
        first.process.thaw()
        await asyncio.sleep(15)
        assert isinstance(await first.gone(), LeaseLost)
        written = [point for point in first.points.seen[seen:] if point.startswith("after")]
        assert written in ([], ["after DaemonLease.keep.<locals>.<lambda>"]), "it only asks for its lease"
        for done in stage.done().values():
            assert set(done.values()) == {1}, "nothing is done twice"
        await stage.in_order(commit)

    play(FILES, scene)


def test_what_a_daemon_that_stood_still_was_about_to_begin_is_refused_by_the_node() -> None:
    async def scene(stage: Stage) -> None:
        stage.lease = LEASE
        node = stage.node("web1")
        first = stage.start("here:1:a")
        await stage.comes_right(stage.push())
        began = node.applied
        # it stands still between the record of the intent and the request to the node
        stage.change("Site", "site1-1", php={"maxChildren": 9})
        stands = first.points.on("after Executor._converge", first.process.freeze)
        old = stage.push()
        async with asyncio.timeout(60):
            await stands.wait()
        assert node.applied == began
        assert await stage.store.aread(deployments.unfinished)
        # meanwhile the commit is taken back: there is nothing to do on the node
        stage.change("Site", "site1-1", php=None)
        newest = stage.push()
        second = stage.start("here:2:b")
        await _until_works(stage, second, 60)
        await stage.comes_right(newest)
        before = stage.done()
        first.process.thaw()
        await asyncio.sleep(30)
        assert isinstance(await first.gone(), LeaseLost)
        assert stage.done() == before, "the old commit came late"
        assert await stage.status(old) in ("superseded", "absent", "failed")
        await stage.in_order(newest)

    play(FILES, scene)


def _freezes_before_its_apply(program: Program, node: FakeNode) -> asyncio.Event:
    """Have a daemon stand still with the next body that it sends: the request to apply would follow at once."""
    stands = asyncio.Event()
    take = node.take_blob

    def taken(data: bytes) -> str:
        node.take_blob = take  # type: ignore[method-assign]  # this one node's own again
        program.process.freeze()
        stands.set()
        return take(data)

    node.take_blob = taken  # type: ignore[method-assign]  # of this one node
    return stands


def test_what_was_given_up_is_not_begun_late_although_nothing_newer_was_applied() -> None:
    async def scene(stage: Stage) -> None:
        stage.lease = Timing(holds=30.0, beats=300.0)  # it does not look for its lease before it goes on
        first = stage.start("here:1:a")
        await stage.comes_right(stage.push())
        stage.change("Site", "site1-1", php={"maxChildren": 9})
        stands = _freezes_before_its_apply(first, stage.node("web1"))
        commit = stage.push()
        async with asyncio.timeout(60):
            await stands.wait()
        await stage.suspend("Site", "site1-1", "by hand")
        stage.lease = LEASE
        second = stage.start("here:2:b")
        await _until_works(stage, second, 60)
        await asyncio.sleep(120)
        assert not await stage.store.aread(deployments.unfinished), "it is given up"
        before = stage.done()
        first.process.thaw()
        await asyncio.sleep(30)
        assert isinstance(await first.gone(), LeaseLost)
        assert stage.done() == before, "somebody suspended it meanwhile"
        await stage.resume("Site", "site1-1")
        await stage.comes_right(commit)

    play(FILES, scene)


def test_a_lease_that_ends_far_in_the_future_is_taken_when_nobody_prolongs_it() -> None:
    async def scene(stage: Stage) -> None:
        stage.lease = LEASE
        first = stage.start("here:1:a")
        commit = stage.push()
        await stage.comes_right(commit)
        await first.kill()
        stage.clock.jump(-5 * 3600)
        second = stage.start("here:2:b")
        assert await _until_works(stage, second, 120) <= LEASE.holds + LEASE.beats
        await stage.comes_right(commit)

    play(FILES, scene)


def test_a_daemon_that_lives_keeps_its_lease_when_the_clock_is_set_back() -> None:
    async def scene(stage: Stage) -> None:
        stage.lease = LEASE
        first = stage.start("here:1:a")
        second = stage.start("here:2:b")
        await asyncio.sleep(20)
        for jump in (-3 * 3600, -60, -7):
            stage.clock.jump(jump)
            await asyncio.sleep(120)
            assert await _owner(stage) == "here:1:a"
        assert first.daemon.lease.held
        assert not second.daemon.lease.held

    play(FILES, scene)


def test_a_lease_is_never_held_by_two_when_the_clock_is_set_forward() -> None:
    async def scene(stage: Stage) -> None:
        stage.lease = LEASE
        first = stage.start("here:1:a")
        second = stage.start("here:2:b")
        commit = stage.push()
        await stage.comes_right(commit)
        stage.clock.jump(6 * 3600)
        await asyncio.sleep(60)
        owner = await _owner(stage)
        works = {"here:1:a": first, "here:2:b": second}
        assert works.pop(owner).daemon.lease.held
        other = works.popitem()[1]
        assert other.task.done() or not other.daemon.lease.held
        stage.change("Site", "site1-1", php={"maxChildren": 9})
        await stage.comes_right(stage.push())

    play(FILES, scene)


def test_a_lost_lease_is_seen_inside_the_transaction_that_would_have_written() -> None:
    async def scene(stage: Stage) -> None:
        stage.lease = LEASE
        first = stage.start("here:1:a")
        await stage.comes_right(stage.push())
        other = DaemonLease(stage.store, "there:1:b", LEASE)

        def rob(tx: Tx) -> None:
            leases.release(tx, NAME, "here:1:a")

        await stage.store.awrite(rob)
        await other.acquire(lambda owner: None)
        stage.store.guard(None)
        stage.change("Site", "site1-1", php={"maxChildren": 9})
        seen = len(first.points.seen)
        stage.push()
        await asyncio.sleep(10)
        assert isinstance(await first.gone(), LeaseLost)
        assert not [point for point in first.points.seen[seen:] if point.startswith("after")]

    play(FILES, scene)
