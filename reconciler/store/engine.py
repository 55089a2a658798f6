"""The store: one writer thread with its own connection, a few readers, and units of work that are functions.

A unit of work is a function of a `Tx`. It runs in one transaction, which is committed when it returns and undone when
it raises. Writes run one after the other; reads see the state of the moment they begin and never wait for a writer.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import sqlalchemy as sa

from reconciler.errors import StoreBusy, StoreFault
from reconciler.kit.clock import Clock, utc_now
from reconciler.secrets.box import Box
from reconciler.store import connections, identity, schema
from reconciler.store.transaction import Tx
from reconciler.store.workers import Workers

T = TypeVar("T")
_READERS = 3
_SPARE = 4  # further connections for reads on the callers' own threads


class Store:
    """An open database. Made by `open`; `close` it, or use it as a context manager."""

    def __init__(self, path: Path, box: Box, clock: Clock, busy_ms: int) -> None:
        self.path = path
        self._box = box
        self._clock = clock
        self._reader = connections.engine(
            path,
            "BEGIN",
            busy_ms=busy_ms,
            query_only=True,
            poolclass=sa.QueuePool,
            pool_size=_READERS,
            max_overflow=_SPARE,
            pool_timeout=30,
        )
        self._engine = connections.engine(path, "BEGIN IMMEDIATE", busy_ms=busy_ms, poolclass=sa.NullPool)
        self._connection = self._engine.connect()
        self._writer = Workers("store-writer", 1)
        self._readers = Workers("store-reader", _READERS)
        self._closed = False
        self._guard: Callable[[Tx], None] | None = None
        self._point: Callable[[str], None] | None = None
        # at exit daemon threads are stopped anywhere; this lets them end what they do, within a limit
        self._at_exit = functools.partial(_close_at_exit, weakref.ref(self))
        atexit.register(self._at_exit)

    @classmethod
    def open(cls, path: Path, box: Box, *, clock: Clock = utc_now, busy_ms: int = 5000) -> Self:
        """Opens the database at `path`, migrating an older one, and checks that `box` holds its key.

        `busy_ms` is how long a write waits for another process, in milliseconds. SettingsFault when it is missing or
        foreign, WrongKey, StoreBusy, StoreDamaged.
        """
        connections.check_file(path)
        schema.ensure(path)
        store = cls(path, box, clock, busy_ms)
        try:
            store.read(identity.check_key)
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def create(cls, path: Path, box: Box, *, clock: Clock = utc_now) -> Self:
        """Creates the database at `path` with a lineage of its own, and opens it. FileExistsError, StoreFault."""
        schema.create(path, lambda connection: identity.establish(Tx(connection, box, clock())))
        return cls.open(path, box, clock=clock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r}{', closed' if self._closed else ''})"

    def guard(self, check: Callable[[Tx], None] | None) -> None:
        """Have every later write begin with `check` in its transaction; what that raises undoes the write.

        It lets a daemon write only while it holds its lease. `alease` writes are not checked.
        """
        self._guard = check

    def watch(self, point: Callable[[str], None] | None) -> None:
        """Call `point` on the writer thread before each write begins and after it is committed: `before NAME`, `after NAME`.

        NAME is the unit's. For tests that end the process at every one of these points.
        """
        self._point = point

    def write(self, unit: Callable[[Tx], T]) -> T:
        """Runs `unit` in a write transaction on the writer thread and returns its result, committed.

        StoreBusy when another process holds the database too long, Conflict, StoreFault; what `unit` raises.
        """
        if self._writer.mine():
            raise RuntimeError("a unit of work cannot start another write; pass its Tx on instead")
        return self._submit_write(unit).result()

    def read(self, unit: Callable[[Tx], T]) -> T:
        """Runs `unit` in a read transaction on the calling thread. StoreFault, also when `unit` tries to write."""
        if self._closed:
            raise StoreFault("the database is closed")
        try:
            connection = self._reader.connect()
        except sa.exc.TimeoutError as error:
            raise StoreBusy(
                f"all {_READERS + _SPARE} connections for reading {self.path} are in use", hint="try again"
            ) from error
        with connection, connection.begin():
            return unit(Tx(connection, self._box, self._clock()))

    async def alease(self, unit: Callable[[Tx], T]) -> T:
        """As `awrite`, for the writes that take, prolong and give back the lease itself."""
        return await asyncio.wrap_future(self._writer.submit(lambda: self._run(unit, guarded=False)))

    async def awrite(self, unit: Callable[[Tx], T]) -> T:
        """As `write`, without blocking the event loop.

        Cancelled before the write has begun, it never happens; cancelled later, it is finished first, so after the
        cancellation the caller's view and the database do not change any more.
        """
        future = self._submit_write(unit)
        waiting = asyncio.wrap_future(future)
        try:
            await asyncio.wait([waiting])
        except asyncio.CancelledError:
            if not future.cancel():
                await _settled(waiting)
            raise
        return waiting.result()

    async def aread(self, unit: Callable[[Tx], T]) -> T:
        """As `read`, on a reader thread. When cancelled, it ends there and its result is dropped."""
        return await asyncio.wrap_future(self._readers.submit(lambda: self.read(unit)))

    async def checkpoint(self) -> None:
        """Moves what the write-ahead log holds into the database and empties the log, as far as no reader is in the way."""
        await asyncio.wrap_future(self._writer.submit(self._checkpoint))

    def sizes(self) -> tuple[int, int]:
        """Bytes of the database file and of its write-ahead log."""
        log = self.path.with_name(f"{self.path.name}-wal")
        return self.path.stat().st_size, log.stat().st_size if log.exists() else 0

    def close(self, seconds: float = 10.0) -> None:
        """Finishes the writes that were handed over and closes. It returns after `seconds` and a little at the latest.

        What is still running then is interrupted and undone; what had not begun fails with StoreFault. Closing twice
        does nothing.
        """
        if self._closed:
            return
        ended = self._writer.finish(seconds)
        if not ended:
            self._writer.drop()
            self._interrupt()
            ended = self._writer.finish(1.0)
        self._closed = True
        atexit.unregister(self._at_exit)
        read = self._readers.finish(1.0)
        if not read:
            self._readers.drop()
        if ended:  # else the thread may be inside the connection, and closing it there would crash
            self._connection.close()
        if read:
            self._reader.dispose()

    def _submit_write(self, unit: Callable[[Tx], T]) -> Future[T]:
        return self._writer.submit(lambda: self._run(unit))

    def _run(self, unit: Callable[[Tx], T], *, guarded: bool = True) -> T:
        name = getattr(unit, "__qualname__", "") if self._point else ""
        if self._point is not None:
            self._point(f"before {name}")
        with self._connection.begin():
            tx = Tx(self._connection, self._box, self._clock())
            if guarded and self._guard is not None:
                self._guard(tx)
            result = unit(tx)
        if self._point is not None:
            self._point(f"after {name}")
        return result

    def _checkpoint(self) -> None:
        raw = self._connection.connection.driver_connection
        if raw is not None:
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _interrupt(self) -> None:
        with contextlib.suppress(Exception):
            raw = self._connection.connection.driver_connection
            if raw is not None:
                raw.interrupt()


async def _settled(waiting: asyncio.Future[T]) -> None:
    while not waiting.done():
        with contextlib.suppress(asyncio.CancelledError):  # the first one is raised when the write has ended
            await asyncio.wait([waiting])
    if not waiting.cancelled():
        waiting.exception()  # marks it as seen: the caller is told of the cancellation instead


def _close_at_exit(reference: weakref.ref[Store]) -> None:
    store = reference()
    if store is not None:
        store.close(seconds=2.0)
