"""Sources: how each fleet's repository stood when the daemon last looked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from reconciler.store import rows
from reconciler.store.daemon_tables import sources as table
from reconciler.store.transaction import Tx
from reconciler.store.words import SourceState


@dataclass(frozen=True)
class Source:
    """One fleet's source. `seen_commit` is what the branch showed last, `head_commit` the newest accepted revision.

    `accept_commit` is the commit that an operator accepted although it does not follow from the one before.
    """

    fleet: str
    remote: str
    branch: str
    seen_commit: str | None
    head_commit: str | None
    state: SourceState
    message: str
    accept_commit: str | None
    checked_at: datetime | None
    updated_at: datetime


def put(
    tx: Tx, fleet: str, *, remote: str, branch: str, state: SourceState, message: str, seen: str | None = None
) -> Source:
    """Records how a look at the source went; `seen` None keeps what was seen before."""
    known = get(tx, fleet)
    values = {
        "remote": remote,
        "branch": branch,
        "state": state,
        "message": message,
        "seen_commit": seen or (known.seen_commit if known else None),
        "checked_at": tx.now,
    }
    rows.upsert(tx, table, {"fleet": fleet}, values)
    return _needed(tx, fleet)


def set_head(tx: Tx, fleet: str, commit: str) -> None:
    """The newest accepted revision of a fleet; an operator's acceptance is used up by it."""
    rows.upsert(
        tx,
        table,
        {"fleet": fleet},
        {"head_commit": commit, "accept_commit": None},
        {"remote": "", "branch": "", "state": "ok", "message": ""},
    )


def set_accept(tx: Tx, fleet: str, commit: str) -> None:
    """An operator accepts this commit although it rewrites the branch."""
    rows.upsert(
        tx,
        table,
        {"fleet": fleet},
        {"accept_commit": commit},
        {"remote": "", "branch": "", "state": "rewritten", "message": ""},
    )


def get(tx: Tx, fleet: str) -> Source | None:
    """The source of a fleet, None before the first look."""
    return rows.first(tx, rows.select(table, Source).where(table.c.fleet == fleet), Source)


def listed(tx: Tx) -> list[Source]:
    """All sources by fleet."""
    return rows.every(tx, rows.select(table, Source).order_by(table.c.fleet), Source)


def forget(tx: Tx, fleet: str) -> None:
    """Removes the source of a fleet that is not configured any more."""
    tx.connection.execute(sa.delete(table).where(table.c.fleet == fleet))


def _needed(tx: Tx, fleet: str) -> Source:
    found = get(tx, fleet)
    if found is None:
        raise rows.missing(table, fleet)
    return found
