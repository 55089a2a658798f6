"""The log of what was done on each server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from reconciler.store import rows
from reconciler.store.tables import server_logs
from reconciler.store.transaction import Tx
from reconciler.store.words import LogLevel


@dataclass(frozen=True)
class ServerLog:
    """One entry; `context` is free JSON."""

    id: str
    server_id: str
    level: LogLevel
    message: str
    context: dict[str, Any] | None
    created_at: datetime


def add(
    tx: Tx, *, server_id: str, level: LogLevel, message: str, context: Mapping[str, Any] | None = None
) -> str:
    """Adds an entry and returns its id. What goes in must be redacted already."""
    values = {
        "server_id": server_id,
        "level": level,
        "message": message,
        "context": None if context is None else dict(context),
    }
    return rows.insert(tx, server_logs, values)


def listed(
    tx: Tx, *, server_id: str | None = None, level: LogLevel | None = None, limit: int = 100
) -> list[ServerLog]:
    """The newest `limit` entries, newest first."""
    statement = rows.select(server_logs, ServerLog).order_by(server_logs.c.id.desc()).limit(limit)
    if server_id is not None:
        statement = statement.where(server_logs.c.server_id == server_id)
    if level is not None:
        statement = statement.where(server_logs.c.level == level)
    return rows.every(tx, statement, ServerLog)


def prune(tx: Tx, before: datetime) -> int:
    """Removes those from before this time; how many went."""
    return tx.connection.execute(sa.delete(server_logs).where(server_logs.c.created_at < before)).rowcount
