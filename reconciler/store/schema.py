"""Which schema a database file has, and bringing it to the newest one."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from reconciler.errors import StoreDamaged
from reconciler.store.backup import copy
from reconciler.store.connections import engine, peek
from reconciler.store.faults import translated

APPLICATION_ID = 0x52434E4C
"""`RCNL`, in the file's header: tells our databases from those of other programs."""

REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008")
"""All schema revisions, oldest first. Kept here so that an ordinary start need not load Alembic."""

HEAD = REVISIONS[-1]
MIGRATIONS = Path(__file__).with_name("migrations")


def revision_of(path: Path) -> str:
    """The schema revision of the database at `path`. StoreDamaged when it is not one of ours, or newer than we are."""
    with translated(path), closing(peek(path)) as connection:
        return _revision(connection, path)


def ensure(path: Path) -> None:
    """Migrates the database at `path` if it is of an older revision, after a backup beside it. StoreFault's leaves."""
    found = revision_of(path)
    if found != HEAD:
        copy(path, path.with_name(f"{path.name}.before-{HEAD}"), replace=True)
        migrate(path, scripts=MIGRATIONS, head=HEAD)


def migrate(path: Path, *, scripts: Path, head: str) -> None:
    """Runs the migrations in `scripts` up to `head` in one transaction: all of them or none.

    StoreDamaged when a foreign key would point nowhere afterwards.
    """
    made = engine(path, "BEGIN IMMEDIATE", poolclass=sa.NullPool)
    with made.connect() as connection:
        # SQLite ignores this pragma inside a transaction. While it is on, rebuilding a table deletes its children
        raw = connection.connection.driver_connection
        if not isinstance(raw, sqlite3.Connection):
            raise TypeError("migrations run on SQLite connections")
        raw.execute("PRAGMA foreign_keys = OFF")
        with connection.begin():
            _upgrade(connection, scripts, head)
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
            if broken:
                tables = ", ".join(sorted({str(row[0]) for row in broken}))
                raise StoreDamaged(
                    f"the migration of {path} to {head} would leave dangling references in {tables}; nothing was changed",
                    hint="report this with the output of 'reconciler version'; the older program still works",
                )
            connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID:d}")


def create(path: Path, fill: Callable[[sa.Connection], None]) -> None:
    """Creates the database file `path`, mode 0600, complete with what `fill` writes, or not at all.

    FileExistsError when it is there, StoreFault.
    """
    draft = path.with_name(f".{path.name}.new")
    _remove(draft)
    os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    try:
        migrate(draft, scripts=MIGRATIONS, head=HEAD)
        with engine(draft, "BEGIN IMMEDIATE", poolclass=sa.NullPool).begin() as connection:
            fill(connection)
        path.hardlink_to(draft)
    finally:
        _remove(draft)


def _upgrade(connection: sa.Connection, scripts: Path, head: str) -> None:
    from alembic import command  # noqa: PLC0415 - half a second that only a migration needs
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    # another process may have migrated while this one waited for the lock; then there is nothing to run
    command.upgrade(config, head)


def _revision(connection: sqlite3.Connection, path: Path) -> str:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if application != APPLICATION_ID:
        what = "is empty" if not tables and not application else "belongs to another program"
        raise StoreDamaged(
            f"the database {path} {what}",
            hint="restore a backup with 'reconciler restore', or name another state folder",
        )
    row = (
        connection.execute("SELECT version_num FROM alembic_version").fetchone()
        if "alembic_version" in tables
        else None
    )
    found = str(row[0]) if row else "none"
    if found not in REVISIONS:
        raise StoreDamaged(
            f"the database {path} has schema revision {found}, this program knows up to {HEAD}",
            hint="it was written by a newer version: install that version again, or restore an older backup",
        )
    return found


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
