"""How far the audit log of each server was read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from reconciler.store import rows
from reconciler.store.daemon_tables import audit_cursors as table
from reconciler.store.transaction import Tx


@dataclass(frozen=True)
class AuditCursor:
    """`cursor` is what the agent gave last, as it is; `log` is 0 when the node keeps no audit log."""

    server_id: str
    cursor: dict[str, Any] | None
    log: int
    read_at: datetime


def get(tx: Tx, server_id: str) -> AuditCursor | None:
    """That of a server, or None when its log was never read."""
    statement = rows.select(table, AuditCursor).where(table.c.server_id == server_id)
    return rows.first(tx, statement, AuditCursor)


def put(tx: Tx, server_id: str, cursor: Mapping[str, Any] | None, *, log: bool) -> None:
    """Records how far a log was read, now. Call it in the transaction that records what was read."""
    values = {"cursor": None if cursor is None else dict(cursor), "log": int(log), "read_at": tx.now}
    rows.upsert(tx, table, {"server_id": server_id}, values)


def without_log(tx: Tx) -> list[str]:
    """The ids of servers that keep no audit log."""
    return list(tx.connection.scalars(sa.select(table.c.server_id).where(table.c.log == 0)))
