"""History: how an object's reconciles went, repeats folded into one entry with a count."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from reconciler.store import rows
from reconciler.store.daemon_tables import history as table
from reconciler.store.transaction import Tx

KEPT = 20
"""Entries that are kept of one object."""


@dataclass(frozen=True)
class Entry:
    """`digest` tells what was applied, `seconds` how long the last time took, `times` how often it went like this."""

    kind: str
    name: str
    revision: str
    digest: str
    status: str
    message: str
    first_at: datetime
    last_at: datetime
    seconds: float
    times: int


@dataclass(frozen=True)
class Outcome:
    """What happened this time."""

    revision: str
    digest: str
    status: str
    message: str
    seconds: float


def add(tx: Tx, kind: str, name: str, outcome: Outcome) -> None:
    """Adds an outcome, or counts it when the newest entry says the same of the same revision."""
    where = (table.c.kind == kind, table.c.name == name)
    newest = tx.connection.execute(
        sa.select(table).where(*where).order_by(table.c.id.desc()).limit(1)
    ).first()
    same = newest is not None and all(
        getattr(newest, word) == getattr(outcome, word)
        for word in ("revision", "digest", "status", "message")
    )
    if newest is not None and same:
        values = {"last_at": tx.now, "seconds": outcome.seconds, "times": newest.times + 1}
        tx.connection.execute(sa.update(table).where(table.c.id == newest.id).values(**values))
        return
    values = {word: getattr(outcome, word) for word in rows.fields_of(Outcome)}
    rows.insert(
        tx, table, {"kind": kind, "name": name, **values, "first_at": tx.now, "last_at": tx.now, "times": 1}
    )
    old = sa.select(table.c.id).where(*where).order_by(table.c.id.desc()).offset(KEPT)
    tx.connection.execute(sa.delete(table).where(table.c.id.in_(old)))


def listed(tx: Tx, kind: str, name: str, *, limit: int = KEPT) -> list[Entry]:
    """The newest `limit` entries of an object, newest first."""
    where = (table.c.kind == kind, table.c.name == name)
    statement = rows.select(table, Entry).where(*where).order_by(table.c.id.desc()).limit(limit)
    return rows.every(tx, statement, Entry)


def forget(tx: Tx, kind: str, name: str) -> None:
    """Forgets an object's history."""
    tx.connection.execute(sa.delete(table).where(table.c.kind == kind, table.c.name == name))
