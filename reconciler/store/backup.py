"""Online copies of a database by SQLite's backup interface; they are whole even while the daemon writes."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from reconciler.errors import StoreDamaged, StoreFault
from reconciler.store.connections import peek
from reconciler.store.faults import translated


def copy(source: Path, target: Path, *, replace: bool = False) -> None:
    """Copies the database `source` to the new file `target` (mode 0600) and verifies the copy before it gets its name.

    Sealed columns stay sealed: the copy is of use only together with APP_KEY. StoreFault when `target` exists and
    `replace` is not set, or cannot be written; StoreDamaged when the copy fails its check.
    """
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    if target.exists() and not replace:
        raise StoreFault(f"{target} exists already", hint="name another file, or remove that one first")
    try:
        os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreFault(f"the backup {target} cannot be written: {error.strerror}") from error
    try:
        with (
            translated(draft),
            closing(peek(source)) as reading,
            closing(sqlite3.connect(draft, isolation_level=None)) as writing,
        ):
            reading.backup(writing)
            # the copy takes the WAL mode over; one plain file is easier to carry
            writing.execute("PRAGMA journal_mode = DELETE")
        verify(draft)
        _sync(draft)
        draft.replace(target)
        _sync(target.parent)
    finally:
        draft.unlink(missing_ok=True)


def verify(path: Path) -> None:
    """Reads the whole database at `path`. StoreDamaged with SQLite's first finding when it is not sound."""
    with translated(path), closing(peek(path)) as connection:
        finding = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        dangling = connection.execute("PRAGMA foreign_key_check").fetchone()
    if finding != "ok":
        raise StoreDamaged(f"{path} is damaged: {finding}", hint="use an older backup")
    if dangling is not None:
        raise StoreDamaged(
            f"{path} is damaged: {dangling[0]} refers to rows that are gone", hint="use an older backup"
        )


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
