"""Connections, units of work, contention, cancelling and closing."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from reconciler.errors import StoreBusy, StoreFault
from reconciler.secrets import Box
from reconciler.store import Store, Tx, identity
from reconciler.store.queries import servers

PRAGMAS = {
    "journal_mode": "wal",
    "synchronous": 1,
    "cache_size": -20000,
    "foreign_keys": 1,
    "busy_timeout": 5000,
    "temp_store": 2,
}


def pragmas(tx: Tx) -> dict[str, object]:
    return {name: tx.connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in PRAGMAS}


def increment(tx: Tx) -> int:
    number = int(identity.get(tx, "number") or 0) + 1
    identity.put(tx, "number", str(number))
    return number


def test_the_pragmas_are_in_force_on_the_writer_and_on_every_reader(store: Store) -> None:
    meet = threading.Barrier(5)

    def meeting(tx: Tx) -> tuple[int, dict[str, object]]:
        meet.wait(10)  # five reads at once need five connections
        return id(tx.connection.connection.driver_connection), pragmas(tx)

    with ThreadPoolExecutor(5) as threads:
        seen = list(threads.map(lambda _: store.read(meeting), range(5)))
    assert len({connection for connection, _ in seen}) == 5
    assert [found for _, found in seen] == [PRAGMAS] * 5
    assert store.write(pragmas) == PRAGMAS


def test_a_unit_is_committed_when_it_returns_and_undone_when_it_raises(store: Store) -> None:
    def half(tx: Tx) -> None:
        increment(tx)
        raise LookupError("midway")

    store.write(increment)
    with pytest.raises(LookupError, match="midway"):
        store.write(half)
    assert store.read(lambda tx: identity.get(tx, "number")) == "1"


def test_a_read_sees_one_moment_and_does_not_wait_for_a_writer(store: Store) -> None:
    store.write(increment)

    def look(tx: Tx) -> list[str | None]:
        before = identity.get(tx, "number")
        store.write(increment)
        return [before, identity.get(tx, "number")]

    assert store.read(look) == ["1", "1"]
    assert store.read(lambda tx: identity.get(tx, "number")) == "2"


def test_a_read_cannot_write(store: Store) -> None:
    with pytest.raises(StoreFault, match="readonly"):
        store.read(increment)


def test_a_write_within_a_write_is_refused_instead_of_waiting_for_itself(store: Store) -> None:
    with pytest.raises(RuntimeError, match="pass its Tx on"):
        store.write(lambda _: store.write(increment))


def test_units_that_read_and_then_write_wait_for_each_other(path: Path, box: Box) -> None:
    with Store.open(path, box) as one, Store.open(path, box) as two, ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(store.write, increment) for _ in range(40) for store in (one, two)]:
            done.result(30)
        assert one.read(lambda tx: identity.get(tx, "number")) == "80"


def test_a_lock_held_too_long_is_store_busy_and_later_writes_work(path: Path, box: Box) -> None:
    with (
        Store.open(path, box, busy_ms=50) as store,
        closing(sqlite3.connect(path, isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy, match="locked by another program") as caught:
            store.write(increment)
        assert caught.value.reaction == "retry"
        assert "fuser" in caught.value.hint
        other.execute("ROLLBACK")
        assert store.write(increment) == 1


def test_a_lock_held_for_a_while_is_waited_for(path: Path, box: Box) -> None:
    with Store.open(path, box) as store, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(1) as threads:
            write = threads.submit(store.write, increment)
            time.sleep(0.3)
            assert not write.done()
            other.execute("ROLLBACK")
            assert write.result(10) == 1


async def test_the_async_twins_give_the_same(store: Store) -> None:
    assert await asyncio.gather(*(store.awrite(increment) for _ in range(5))) == [1, 2, 3, 4, 5]
    assert await store.aread(lambda tx: identity.get(tx, "number")) == "5"
    with pytest.raises(StoreFault, match="has no record"):
        await store.awrite(lambda tx: servers.set_status(tx, "gone", "active"))


async def test_a_write_cancelled_before_it_began_never_happens(store: Store) -> None:
    go = threading.Event()
    first = asyncio.create_task(store.awrite(lambda _: go.wait(10)))
    second = asyncio.create_task(store.awrite(increment))
    await asyncio.sleep(0.05)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    go.set()
    await first
    assert await store.aread(lambda tx: identity.get(tx, "number")) is None


async def test_a_write_cancelled_after_it_began_is_finished_first(store: Store) -> None:
    begun, go = threading.Event(), threading.Event()

    def slow(tx: Tx) -> None:
        begun.set()
        go.wait(10)
        increment(tx)

    task = asyncio.create_task(store.awrite(slow))
    await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    await asyncio.sleep(0.05)
    task.cancel()  # impatience changes nothing
    await asyncio.sleep(0.05)
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await store.aread(lambda tx: identity.get(tx, "number")) == "1"


async def test_a_cancelled_write_that_fails_says_only_that_it_was_cancelled(store: Store) -> None:
    begun, go = threading.Event(), threading.Event()

    def failing(_: Tx) -> None:
        begun.set()
        go.wait(10)
        raise LookupError

    task = asyncio.create_task(store.awrite(failing))
    await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_closing_finishes_what_was_handed_over(path: Path, box: Box) -> None:
    store = Store.open(path, box)
    begun = threading.Event()

    def unhurried(tx: Tx) -> int:
        begun.set()
        time.sleep(0.2)
        return increment(tx)

    with ThreadPoolExecutor(3) as threads:
        slow = threads.submit(store.write, unhurried)
        begun.wait(10)
        queued = threads.submit(store.write, increment)
        while store._writer._calls.qsize() == 0:
            time.sleep(0.01)
        store.close()
        assert slow.result(10) == 1
        assert queued.result(10) == 2
    with pytest.raises(StoreFault, match="closed"):
        store.write(increment)
    with pytest.raises(StoreFault, match="closed"):
        store.read(increment)
    store.close()
    assert not list(path.parent.glob("*-wal"))


def test_closing_does_not_wait_for_a_unit_that_never_ends(path: Path, box: Box) -> None:
    store = Store.open(path, box)
    begun, go = threading.Event(), threading.Event()

    def waiting(_: Tx) -> None:
        begun.set()
        go.wait(60)

    with ThreadPoolExecutor(3) as threads:
        stuck = threads.submit(store.write, waiting)
        begun.wait(10)
        queued = threads.submit(store.write, increment)
        while store._writer._calls.qsize() == 0:
            time.sleep(0.01)
        store.close(seconds=0.1)
        with pytest.raises(StoreFault, match="before the work was begun"):
            queued.result(10)
        assert not stuck.done()
        go.set()
        stuck.result(10)
    store._connection.close()


def test_closing_interrupts_a_statement_that_never_ends(path: Path, box: Box) -> None:
    store = Store.open(path, box)
    begun = threading.Event()
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"

    def count(tx: Tx) -> None:
        increment(tx)
        begun.set()
        tx.connection.exec_driver_sql(endless)

    with ThreadPoolExecutor(1) as threads:
        stuck = threads.submit(store.write, count)
        begun.wait(10)
        store.close(seconds=0.2)
        with pytest.raises(StoreFault, match="closed before the work was done"):
            stuck.result(10)
    with Store.open(path, box) as again:
        assert again.read(lambda tx: identity.get(tx, "number")) is None
