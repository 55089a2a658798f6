"""Conditions: how a resource stands, as Ready, Reconciling, Stalled or Drifted, in Kubernetes' shape."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from reconciler.store import rows
from reconciler.store.ledger import conditions as table
from reconciler.store.transaction import Tx
from reconciler.store.words import ConditionStatus


@dataclass(frozen=True)
class Condition:
    """`last_transition_at` is when `status` last changed; `observed_revision` is the commit it speaks of."""

    kind: str
    name: str
    type: str
    status: ConditionStatus
    reason: str
    message: str
    observed_revision: str | None
    last_transition_at: datetime


@dataclass(frozen=True)
class State:
    """What `put` records: `reason` is one word in CamelCase, `message` a sentence, `observed_revision` a commit."""

    status: ConditionStatus
    reason: str
    message: str
    observed_revision: str | None = None


def put(tx: Tx, kind: str, name: str, type: str, state: State) -> Condition:  # noqa: A002 - Kubernetes' word
    """Sets a condition. The time of its last transition stays when `status` stays."""
    known = get(tx, kind, name, type)
    since = known.last_transition_at if known is not None and known.status == state.status else tx.now
    values = {
        "status": state.status,
        "reason": state.reason,
        "message": state.message,
        "observed_revision": state.observed_revision,
        "last_transition_at": since,
    }
    rows.upsert(tx, table, {"kind": kind, "name": name, "type": type}, values)
    return Condition(
        kind, name, type, state.status, state.reason, state.message, state.observed_revision, since
    )


def get(tx: Tx, kind: str, name: str, type: str) -> Condition | None:  # noqa: A002 - Kubernetes' word
    """One condition of one resource."""
    where = (table.c.kind == kind, table.c.name == name, table.c.type == type)
    return rows.first(tx, rows.select(table, Condition).where(*where), Condition)


def listed(
    tx: Tx,
    *,
    kind: str | None = None,
    name: str | None = None,
    type: str | None = None,  # noqa: A002 - Kubernetes' word
) -> list[Condition]:
    """The conditions of a resource, of a kind, of a type, or all, by kind, name and type."""
    wanted = {"kind": kind, "name": name, "type": type}
    where = [table.c[column] == value for column, value in wanted.items() if value is not None]
    order = (table.c.kind, table.c.name, table.c.type)
    return rows.every(tx, rows.select(table, Condition).where(*where).order_by(*order), Condition)


def true(tx: Tx, type: str) -> list[Condition]:  # noqa: A002 - Kubernetes' word
    """The conditions of a type whose status is True: of Stalled and the like there are few."""
    where = (table.c.type == type, table.c.status == "True")
    return rows.every(tx, rows.select(table, Condition).where(*where), Condition)


def of_reason(tx: Tx, reason: str) -> list[Condition]:
    """All conditions with this reason."""
    return rows.every(tx, rows.select(table, Condition).where(table.c.reason == reason), Condition)


def ready(tx: Tx) -> set[tuple[str, str]]:
    """Kind and name of everything whose Ready is True."""
    where = (table.c.type == "Ready", table.c.status == "True")
    return {
        (row.kind, row.name)
        for row in tx.connection.execute(sa.select(table.c.kind, table.c.name).where(*where))
    }


def rename(tx: Tx, kind: str, old: str, new: str) -> None:
    """Hands the conditions of a resource on to its new name, replacing what stood under that."""
    forget(tx, kind, new)
    tx.connection.execute(sa.update(table).where(table.c.kind == kind, table.c.name == old).values(name=new))


def forget(tx: Tx, kind: str, name: str) -> None:
    """Removes the conditions of a resource that is gone."""
    tx.connection.execute(sa.delete(table).where(table.c.kind == kind, table.c.name == name))


def forget_one(tx: Tx, kind: str, name: str, type: str) -> None:  # noqa: A002 - Kubernetes' word
    """Removes one condition of a resource, of which there is nothing to say any more."""
    where = (table.c.kind == kind, table.c.name == name, table.c.type == type)
    tx.connection.execute(sa.delete(table).where(*where))
