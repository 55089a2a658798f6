"""Turns SQLite's errors into ours, with what, where and what to do. No value of a secret column is quoted."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from reconciler.errors import Conflict, StoreBusy, StoreDamaged, StoreFault

_UNIQUE = re.compile(r"UNIQUE constraint failed: (.+)")
_NOUNS = {
    "users": "user",
    "ssh_keys": "SSH key",
    "servers": "server",
    "sites": "site",
    "databases": "database",
    "inventory": "inventory entry",
    "revisions": "revision",
    "leases": "lease",
    "tokens": "token",
    "sources": "source",
    "plans": "plan",
    "rollouts": "rollout",
    "loop_state": "object",
    "suspensions": "suspension",
}
_WITHHELD = {("tokens", "digest"), ("audit", "hash"), ("audit", "prev_hash")}
_RESTORE = "restore the newest backup with 'reconciler restore', and keep the damaged file for inspection"


def translate(error: sqlite3.Error, path: Path, values: Mapping[str, object] | None = None) -> StoreFault:
    """The fault for `error`. `values` are the values of the failed statement by column, when they are known."""
    code = getattr(error, "sqlite_errorcode", None) or 0
    text = str(error)
    match code & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StoreBusy(
                f"the database {path} is locked by another program",
                hint="try again; if it stays so, find the program that holds it with 'fuser -v'",
            )
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return StoreDamaged(f"the database {path} cannot be read: {text}", hint=_RESTORE)
        case sqlite3.SQLITE_FULL:
            return StoreFault(
                f"the disk of the database {path} is full; nothing was changed",
                hint=f"free space on the file system of {path.parent}; the next attempt goes on from here",
            )
        case sqlite3.SQLITE_IOERR:
            return StoreFault(
                f"the disk refused the database {path}: {text}; nothing was changed",
                hint="look into the kernel log, and at quotas and limits on file sizes",
            )
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return StoreFault(
                f"the database {path} cannot be opened for writing: {text}",
                hint=f"its folder and files must belong to the user that runs this; see 'ls -la {path.parent}'",
            )
        case sqlite3.SQLITE_INTERRUPT:
            return StoreFault("the database was closed before the work was done; nothing was changed")
        case sqlite3.SQLITE_CONSTRAINT:
            return _constraint(code, text, values or {})
        case _:
            return StoreFault(f"the database {path} failed: {text}")


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raises the fault for each `sqlite3.Error` from within."""
    try:
        yield
    except sqlite3.Error as error:
        raise translate(error, path) from error


def _constraint(code: int, text: str, values: Mapping[str, object]) -> StoreFault:
    found = _UNIQUE.search(text)
    if code in (sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY) and found:
        places = [place.partition(".")[::2] for place in found.group(1).split(", ")]
        table = places[0][0]
        shown = " and ".join(
            f"{column} {values[column]!r}"
            if column in values and (table, column) not in _WITHHELD
            else f"this {column}"
            for _, column in places
        )
        return Conflict(
            f"another {_NOUNS.get(table, f'row of {table}')} has {shown}",
            hint="choose another value, or remove the one that holds it first",
        )
    if code == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
        return StoreFault("the record refers to one that does not exist; nothing was changed")
    if code == sqlite3.SQLITE_CONSTRAINT_TRIGGER:
        return StoreFault(f"{text}; nothing was changed")
    return StoreFault(f"the database refused a value: {text}; nothing was changed")
