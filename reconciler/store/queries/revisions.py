"""Revisions: the commits that the daemon has accepted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from reconciler.store import rows
from reconciler.store.ledger import revisions
from reconciler.store.transaction import Tx
from reconciler.store.words import RevisionStatus


@dataclass(frozen=True)
class Revision:
    """`commit` is the full commit id in lower-case hexadecimal."""

    id: str
    commit: str
    author_name: str
    author_email: str
    message: str
    accepted_at: datetime
    status: RevisionStatus


def accept(tx: Tx, *, commit: str, author_name: str, author_email: str, message: str) -> Revision:
    """Records a commit as accepted now; one that was accepted before is returned as it is."""
    known = get(tx, commit)
    if known is not None:
        return known
    values = {
        "commit": commit,
        "author_name": author_name,
        "author_email": author_email,
        "message": message,
        "accepted_at": tx.now,
        "status": "accepted",
    }
    return rows.by_id(tx, revisions, Revision, rows.insert(tx, revisions, values))


def get(tx: Tx, commit: str) -> Revision | None:
    """The revision of this commit."""
    return rows.first(tx, rows.select(revisions, Revision).where(revisions.c.commit == commit), Revision)


def newest(tx: Tx, *, status: RevisionStatus | None = None) -> Revision | None:
    """The revision accepted last, of this status if one is given."""
    statement = rows.select(revisions, Revision)
    if status is not None:
        statement = statement.where(revisions.c.status == status)
    return rows.first(tx, statement.order_by(revisions.c.accepted_at.desc(), revisions.c.id.desc()), Revision)


def listed(tx: Tx, *, limit: int = 100) -> list[Revision]:
    """The newest `limit` revisions, newest first."""
    order = (revisions.c.accepted_at.desc(), revisions.c.id.desc())
    return rows.every(tx, rows.select(revisions, Revision).order_by(*order).limit(limit), Revision)


def set_status(tx: Tx, commit: str, status: RevisionStatus) -> None:
    """Sets how the revision stands. StoreFault when it was never accepted."""
    changed = tx.connection.execute(
        sa.update(revisions).where(revisions.c.commit == commit).values(status=status)
    )
    if changed.rowcount == 0:
        raise rows.missing(revisions, commit)
