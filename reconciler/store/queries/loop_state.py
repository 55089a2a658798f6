"""What the loop remembers of each object over restarts: failures in a row, the next try, drift checks, repairs."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from reconciler.store import rows
from reconciler.store.daemon_tables import loop_state as table
from reconciler.store.transaction import Tx


@dataclass(frozen=True)
class LoopState:
    """One object. `heals` is what the breaker knows of recent repairs; `breaker_until` set: repairs pause.

    `breaker_opened` is how many times in a row the breaker opened.
    """

    kind: str
    name: str
    failures: int = 0
    retry_at: datetime | None = None
    checked_at: datetime | None = None
    heals: list[Any] = field(default_factory=list)
    breaker_until: datetime | None = None
    breaker_opened: int = 0


def get(tx: Tx, kind: str, name: str) -> LoopState:
    """The state of one object; a blank one when nothing is remembered."""
    where = (table.c.kind == kind, table.c.name == name)
    return rows.first(tx, rows.select(table, LoopState).where(*where), LoopState) or LoopState(kind, name)


def put(tx: Tx, state: LoopState) -> None:
    """Remembers it."""
    values = {name: getattr(state, name) for name in rows.fields_of(LoopState)}
    identity = {"kind": values.pop("kind"), "name": values.pop("name")}
    rows.upsert(tx, table, identity, values)


def listed(tx: Tx) -> list[LoopState]:
    """Everything that is remembered, by kind and name."""
    return rows.every(tx, rows.select(table, LoopState).order_by(table.c.kind, table.c.name), LoopState)


def forget(tx: Tx, kind: str, name: str) -> None:
    """Forgets an object."""
    tx.connection.execute(sa.delete(table).where(table.c.kind == kind, table.c.name == name))
