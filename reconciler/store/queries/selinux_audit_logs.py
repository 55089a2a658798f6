"""SELinux denials, with the server and site they concern where that is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from reconciler.store import rows
from reconciler.store.tables import selinux_audit_logs as table
from reconciler.store.transaction import Tx


@dataclass(frozen=True)
class SelinuxAuditLog:
    """`message` is the record's text, `context` its parts (contexts, class, permissions, path, count)."""

    id: str
    server_id: str | None
    site_id: str | None
    log_level: str
    message: str
    context: dict[str, Any] | None
    created_at: datetime


def add(
    tx: Tx,
    *,
    log_level: str,
    message: str,
    context: Mapping[str, Any] | None = None,
    server_id: str | None = None,
    site_id: str | None = None,
) -> str:
    """Adds a record and returns its id."""
    values = {
        "server_id": server_id,
        "site_id": site_id,
        "log_level": log_level,
        "message": message,
        "context": None if context is None else dict(context),
    }
    return rows.insert(tx, table, values)


def listed(
    tx: Tx, *, server_id: str | None = None, site_id: str | None = None, limit: int = 100
) -> list[SelinuxAuditLog]:
    """The newest `limit` records, newest first."""
    statement = rows.select(table, SelinuxAuditLog).order_by(table.c.id.desc()).limit(limit)
    if server_id is not None:
        statement = statement.where(table.c.server_id == server_id)
    if site_id is not None:
        statement = statement.where(table.c.site_id == site_id)
    return rows.every(tx, statement, SelinuxAuditLog)


def count_since(tx: Tx, server_id: str, since: datetime) -> int:
    """How many records a server has since this time."""
    where = (table.c.server_id == server_id, table.c.created_at >= since)
    return tx.connection.scalar(sa.select(sa.func.count()).select_from(table).where(*where)) or 0
