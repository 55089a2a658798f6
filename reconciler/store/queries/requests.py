"""Requests: what operators ask of the running daemon, kept until it has answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa

from reconciler.store import rows
from reconciler.store.daemon_tables import requests as table
from reconciler.store.transaction import Tx
from reconciler.store.words import RequestVerb


@dataclass(frozen=True)
class Request:
    """`subject` is an address such as `Server/web1`, `Fleet/main`, or a deployment's id; `outcome` None: not answered yet."""

    id: str
    verb: RequestVerb
    subject: str
    args: dict[str, Any]
    actor: str
    outcome: Literal["done", "refused"] | None
    message: str
    created_at: datetime
    done_at: datetime | None


def add(
    tx: Tx, verb: RequestVerb, subject: str, *, actor: str, args: Mapping[str, Any] | None = None
) -> Request:
    """Records a request for the daemon."""
    values = {"verb": verb, "subject": subject, "args": dict(args or {}), "actor": actor, "message": ""}
    return get(tx, rows.insert(tx, table, values))


def get(tx: Tx, request_id: str) -> Request:
    """One request. StoreFault when it is gone."""
    return rows.by_id(tx, table, Request, request_id)


def waiting(tx: Tx) -> list[Request]:
    """Those that nobody has answered, oldest first."""
    return rows.every(
        tx, rows.select(table, Request).where(table.c.done_at.is_(None)).order_by(table.c.id), Request
    )


def answer(tx: Tx, request_id: str, outcome: Literal["done", "refused"], message: str) -> None:
    """Answers a request."""
    rows.update(tx, table, request_id, {"outcome": outcome, "message": message, "done_at": tx.now})


def prune(tx: Tx, before: datetime) -> None:
    """Forgets requests that were answered before this time."""
    tx.connection.execute(sa.delete(table).where(table.c.done_at < before))
