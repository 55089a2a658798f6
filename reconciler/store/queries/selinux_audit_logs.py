"""What SELinux refused, with the server and site it concerns where that is known; equal denials are one row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from reconciler.store import rows
from reconciler.store.tables import selinux_audit_logs as table
from reconciler.store.transaction import Tx

GAP = "gap"
"""The `identity` of a row that stands for records that were lost unread."""


@dataclass(frozen=True)
class SelinuxAuditLog:
    """`message` is the record's text, `context` its parts (contexts, class, permissions, path).

    `count` equal ones happened from `first_at` to `last_at`; `identity` is a digest of what makes them equal.
    """

    id: str
    server_id: str | None
    site_id: str | None
    log_level: str
    message: str
    context: dict[str, Any] | None
    identity: str
    count: int
    first_at: datetime
    last_at: datetime
    created_at: datetime


@dataclass(frozen=True)
class Seen:
    """How often equal ones happened, when first and last, and a digest of what makes them equal."""

    count: int
    first_at: datetime
    last_at: datetime
    identity: str = ""


def add(
    tx: Tx,
    *,
    log_level: str,
    message: str,
    context: Mapping[str, Any] | None = None,
    server_id: str | None = None,
    site_id: str | None = None,
    seen: Seen | None = None,
) -> str:
    """Adds a row and returns its id; without `seen` it is one that happened now."""
    seen = seen or Seen(1, tx.now, tx.now)
    values = {
        "server_id": server_id,
        "site_id": site_id,
        "log_level": log_level,
        "message": message,
        "context": None if context is None else dict(context),
        "identity": seen.identity,
        "count": seen.count,
        "first_at": seen.first_at,
        "last_at": seen.last_at,
    }
    return rows.insert(tx, table, values)


def equal(
    tx: Tx, server_id: str, identity: str, since: datetime, before: datetime | None = None
) -> SelinuxAuditLog | None:
    """The newest row of equal denials that begins at `since` or later, and before `before`."""
    where = [table.c.server_id == server_id, table.c.identity == identity, table.c.first_at >= since]
    if before is not None:
        where.append(table.c.first_at < before)
    statement = rows.select(table, SelinuxAuditLog).where(*where).order_by(table.c.first_at.desc())
    return rows.first(tx, statement, SelinuxAuditLog)


def alike(tx: Tx, server_id: str, beginning: str, since: datetime) -> int:
    """How many rows of a server that begin at `since` or later have an identity that begins so, up to a dot."""
    mine = (table.c.identity >= f"{beginning}.", table.c.identity < f"{beginning}/")
    where = (table.c.server_id == server_id, *mine, table.c.first_at >= since)
    return tx.connection.scalar(sa.select(sa.func.count()).select_from(table).where(*where)) or 0


def more(tx: Tx, row: SelinuxAuditLog, seen: Seen, context: Mapping[str, Any]) -> None:
    """Counts further equal denials on in a row; `context` replaces its own."""
    values = {
        "count": row.count + seen.count,
        "first_at": min(row.first_at, seen.first_at),
        "last_at": max(row.last_at, seen.last_at),
        "context": dict(context),
    }
    rows.update(tx, table, row.id, values)


def listed(
    tx: Tx,
    *,
    server_id: str | None = None,
    site_id: str | None = None,
    since: datetime | None = None,
    limit: int | None = 100,
) -> list[SelinuxAuditLog]:
    """The newest `limit` rows (None: all), by when they happened last, newest first."""
    order = (table.c.last_at.desc(), table.c.id.desc())
    statement = rows.select(table, SelinuxAuditLog).order_by(*order).limit(limit)
    if server_id is not None:
        statement = statement.where(table.c.server_id == server_id)
    if site_id is not None:
        statement = statement.where(table.c.site_id == site_id)
    if since is not None:
        statement = statement.where(table.c.last_at >= since)
    return rows.every(tx, statement, SelinuxAuditLog)


def count_since(tx: Tx, server_id: str, since: datetime) -> int:
    """How often SELinux refused something on a server since this time; what it only recorded does not count.

    A row that reaches over that time counts whole; the rows of a server are not continued over a change to it.
    """
    where = (table.c.server_id == server_id, table.c.last_at >= since)
    return tx.connection.scalar(_number().where(*where)) or 0


def gap_since(tx: Tx, server_id: str, since: datetime) -> SelinuxAuditLog | None:
    """The newest gap of a server's audit log that was found since this time."""
    where = (table.c.server_id == server_id, table.c.identity == GAP, table.c.last_at >= since)
    statement = rows.select(table, SelinuxAuditLog).where(*where).order_by(table.c.last_at.desc())
    return rows.first(tx, statement, SelinuxAuditLog)


def counts_since(tx: Tx, since: datetime) -> dict[str, int]:
    """As `count_since`, for all servers at once: by the server's id, without those where there was nothing."""
    statement = _number().add_columns(table.c.server_id).where(table.c.last_at >= since)
    found = tx.connection.execute(statement.group_by(table.c.server_id))
    return {server_id: number for number, server_id in found if server_id is not None and number}


def _number() -> sa.Select[Any]:
    refused = sa.case((sa.or_(table.c.log_level == "info", table.c.identity == GAP), 0), else_=table.c.count)
    return sa.select(sa.func.coalesce(sa.func.sum(refused), 0))


def keep(tx: Tx, server_id: str, number: int) -> int:
    """Removes all but the newest `number` rows of a server; how many went."""
    mine = sa.select(table.c.id).where(table.c.server_id == server_id)
    old = mine.order_by(table.c.last_at.desc(), table.c.id.desc()).limit(-1).offset(number)
    return tx.connection.execute(sa.delete(table).where(table.c.id.in_(old))).rowcount


def prune(tx: Tx, before: datetime) -> int:
    """Removes those that did not happen since; how many went."""
    return tx.connection.execute(sa.delete(table).where(table.c.last_at < before)).rowcount
