"""Opens SQLite connections the one way they are opened here, and the SQLAlchemy engines over them."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from reconciler.errors import SettingsFault, StoreFault
from reconciler.store.faults import translate, translated

PRAGMAS = (
    "PRAGMA busy_timeout = 5000",  # first, so that it covers the change of journal mode
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = NORMAL",
    "PRAGMA cache_size = -20000",
    "PRAGMA foreign_keys = ON",
    "PRAGMA temp_store = MEMORY",
)
_OLDEST = (3, 26, 0)  # what EL 8 ships; nothing here needs a newer one


def connect(path: Path, *, busy_ms: int = 5000, query_only: bool = False) -> sqlite3.Connection:
    """A connection with the pragmas in force, without implicit transactions. StoreFault and its leaves.

    `busy_ms` is how long to wait for another writer, in milliseconds; `query_only` refuses every write.
    """
    with translated(path):
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=busy_ms / 1000,
        )
    try:
        with translated(path):
            for pragma in PRAGMAS:
                connection.execute(pragma)
            if busy_ms != 5000:
                connection.execute(f"PRAGMA busy_timeout = {busy_ms:d}")
            if query_only:
                connection.execute("PRAGMA query_only = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def peek(path: Path) -> sqlite3.Connection:
    """A read-only connection that leaves the file as it is, also its journal mode; for files not known to be ours."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)


def engine(path: Path, begin: str, **options: Any) -> sa.Engine:
    """An engine whose transactions open with the statement `begin`.

    `options` are `busy_ms` and `query_only` of `connect`, the rest goes to SQLAlchemy. Parameters are hidden in its
    errors, and each SQLite error is raised as one of ours.
    """
    busy_ms = options.pop("busy_ms", 5000)
    query_only = options.pop("query_only", False)
    made = sa.create_engine(
        "sqlite+pysqlite://",
        creator=lambda: connect(path, busy_ms=busy_ms, query_only=query_only),
        hide_parameters=True,
        json_serializer=lambda value: json.dumps(value, ensure_ascii=False, allow_nan=False),
        **options,
    )

    @sa.event.listens_for(made, "begin")
    def _begin(connection: sa.Connection) -> None:
        # a deferred transaction that has read cannot wait for a writer: it fails at once, whatever the time-out
        connection.exec_driver_sql(begin)

    @sa.event.listens_for(made, "handle_error")
    def _handle(context: sa.ExceptionContext) -> StoreFault | None:
        error = context.original_exception
        return translate(error, path, _values(context)) if isinstance(error, sqlite3.Error) else None

    return made


def _values(context: sa.ExceptionContext) -> dict[str, object]:
    """The values of the failed statement by column; none for a statement with several sets of them."""
    sets = getattr(context.execution_context, "compiled_parameters", None) or []
    return dict(sets[0]) if len(sets) == 1 else {}


def check_file(path: Path) -> None:
    """Refuses a database file that is missing, no plain file, foreign, or open to others. SettingsFault, StoreFault."""
    if sqlite3.sqlite_version_info < _OLDEST:
        raise StoreFault(
            f"SQLite {sqlite3.sqlite_version} is too old",
            hint="3.26 or newer is needed; update the sqlite package",
        )
    try:
        facts = path.lstat()
    except FileNotFoundError:
        raise SettingsFault(
            f"there is no database at {path}",
            hint="run 'reconciler init' to make one, or name another state folder",
        ) from None
    except OSError as error:
        raise SettingsFault(f"the database {path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(facts.st_mode):
        raise SettingsFault(
            f"{path} is not a plain file", hint="a symlink or device is not used as the database"
        )
    if facts.st_uid != os.geteuid():
        raise SettingsFault(
            f"the database {path} belongs to user {facts.st_uid}, not to {os.geteuid()}",
            hint="run this as the user that owns the state folder",
        )
    if stat.S_IMODE(facts.st_mode) & 0o077:
        path.chmod(0o600)  # ours, so closing it is the repair; its -wal and -shm files take the mode over
