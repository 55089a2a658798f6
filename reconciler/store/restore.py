"""Puts a backup in the place of a database, without letting counters run backwards."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from reconciler.errors import StoreBusy, StoreFault
from reconciler.store import backup, schema
from reconciler.store.connections import connect
from reconciler.store.faults import translated

PATIENCE = 10.0
"""Seconds to wait for another process that holds the database."""


@dataclass(frozen=True)
class Restored:
    """`kept` is the copy of what was there before, None when there was nothing readable. `serial` is the new one."""

    database: Path
    kept: Path | None
    serial: int


@dataclass(frozen=True)
class _Counters:
    serial: int
    servers: tuple[tuple[str, int, int], ...]  # name, fence, next_site_number


def restore(source: Path, database: Path) -> Restored:
    """Replaces the content of `database` by the backup `source`, in one transaction that other processes see whole.

    What was there is kept beside it as `<name>.before-restore`. The serial, the fences and the site numbers become
    greater than in both: a plan saved earlier must not fit by accident, nodes refuse a smaller fence, and a system
    user's number must not be given twice. The daemon should not run meanwhile: it holds what it read before.
    StoreFault's leaves.
    """
    if not source.is_file():
        raise StoreFault(
            f"there is no backup at {source}", hint="name the file that 'reconciler backup' wrote"
        )
    backup.verify(source)
    draft = database.with_name(f".{database.name}.restore")
    backup.copy(source, draft, replace=True)
    try:
        schema.ensure(draft)
        before = _counters(database) if database.exists() else None
        kept = database.with_name(f"{database.name}.before-restore") if before is not None else None
        if kept is not None:
            backup.copy(database, kept, replace=True)
        serial = _raise_counters(draft, before)
        if before is None:
            for suffix in (
                "-wal",
                "-shm",
            ):  # of a file that cannot be read: they must not be replayed into ours
                database.with_name(database.name + suffix).unlink(missing_ok=True)
            draft.replace(database)
        else:
            with translated(database), closing(connect(draft)) as new, closing(connect(database)) as old:
                new.backup(old, progress=_patience(database))
    finally:
        for suffix in ("", "-wal", "-shm", f".before-{schema.HEAD}"):
            draft.with_name(draft.name + suffix).unlink(missing_ok=True)
    backup.verify(database)
    return Restored(database, kept, serial)


def _patience(database: Path) -> Callable[[int, int, int], None]:
    """Python repeats a backup into a locked database without end; this is called at each attempt and ends it."""
    deadline = time.monotonic() + PATIENCE

    def progress(status: int, _remaining: int, _pages: int) -> None:
        if status != sqlite3.SQLITE_DONE and time.monotonic() > deadline:
            raise StoreBusy(
                f"the database {database} is locked by another program", hint="stop the daemon and try again"
            )

    return progress


def _counters(path: Path) -> _Counters | None:
    try:
        with closing(connect(path)) as connection:
            return _read(connection)
    except (StoreFault, sqlite3.Error):
        return None  # it cannot be read, which is why it is being replaced


def _read(connection: sqlite3.Connection) -> _Counters:
    row = connection.execute("SELECT value FROM meta WHERE key = 'serial'").fetchone()
    servers = connection.execute("SELECT name, fence, next_site_number FROM servers").fetchall()
    return _Counters(int(row[0]) if row else 0, tuple((str(n), int(f), int(s)) for n, f, s in servers))


def _raise_counters(path: Path, before: _Counters | None) -> int:
    with translated(path), closing(connect(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        serial = max(_read(connection).serial, before.serial if before else 0) + 1
        connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('serial', ?)", (str(serial),))
        for name, fence, number in before.servers if before else ():
            connection.execute(
                "UPDATE servers SET fence = max(fence, ?), next_site_number = max(next_site_number, ?) WHERE name = ?",
                (fence, number, name),
            )
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return serial
