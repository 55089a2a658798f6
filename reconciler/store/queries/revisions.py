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
    fleet: str
    tree: str
    reason: str
    healthy_at: datetime | None


def accept(
    tx: Tx,
    *,
    commit: str,
    author_name: str,
    author_email: str,
    message: str,
    fleet: str = "main",
    tree: str = "",
) -> Revision:
    """Records a commit as accepted now; one that was accepted before is returned as it is. `tree` is its git tree."""
    known = get(tx, commit, fleet)
    if known is not None:
        return known
    values = {
        "commit": commit,
        "author_name": author_name,
        "author_email": author_email,
        "message": message,
        "accepted_at": tx.now,
        "status": "accepted",
        "fleet": fleet,
        "tree": tree,
    }
    return rows.by_id(tx, revisions, Revision, rows.insert(tx, revisions, values))


def get(tx: Tx, commit: str, fleet: str = "main") -> Revision | None:
    """The revision of this commit in a fleet."""
    where = (revisions.c.commit == commit, revisions.c.fleet == fleet)
    return rows.first(tx, rows.select(revisions, Revision).where(*where), Revision)


def newest(tx: Tx, *, status: RevisionStatus | None = None, fleet: str = "main") -> Revision | None:
    """The revision of a fleet accepted last, of this status if one is given."""
    statement = rows.select(revisions, Revision).where(revisions.c.fleet == fleet)
    if status is not None:
        statement = statement.where(revisions.c.status == status)
    return rows.first(tx, statement.order_by(revisions.c.accepted_at.desc(), revisions.c.id.desc()), Revision)


def last_good(tx: Tx, fleet: str) -> Revision | None:
    """The revision of a fleet that was found healthy last and is not quarantined."""
    where = (
        revisions.c.fleet == fleet,
        revisions.c.healthy_at.is_not(None),
        revisions.c.status != "quarantined",
    )
    statement = rows.select(revisions, Revision).where(*where)
    return rows.first(tx, statement.order_by(revisions.c.healthy_at.desc()), Revision)


def listed(tx: Tx, *, limit: int = 100, fleet: str | None = None) -> list[Revision]:
    """The newest `limit` revisions, newest first."""
    order = (revisions.c.accepted_at.desc(), revisions.c.id.desc())
    statement = rows.select(revisions, Revision).order_by(*order).limit(limit)
    if fleet is not None:
        statement = statement.where(revisions.c.fleet == fleet)
    return rows.every(tx, statement, Revision)


def supersede(tx: Tx, fleet: str, commit: str) -> None:
    """Everything of a fleet that was accepted before `commit` and not brought to an end is superseded by it."""
    where = (
        revisions.c.fleet == fleet,
        revisions.c.commit != commit,
        revisions.c.status.in_(("accepted", "applying")),
    )
    tx.connection.execute(sa.update(revisions).where(*where).values(status="superseded"))


def found_healthy(tx: Tx, commit: str, fleet: str) -> None:
    """The revision is on every server and its health checks passed: the one to go back to."""
    where = (revisions.c.commit == commit, revisions.c.fleet == fleet)
    tx.connection.execute(sa.update(revisions).where(*where).values(healthy_at=tx.now, status="applied"))


def set_status(tx: Tx, commit: str, status: RevisionStatus, *, fleet: str = "main", reason: str = "") -> None:
    """Sets how the revision stands and why. StoreFault when it was never accepted."""
    where = (revisions.c.commit == commit, revisions.c.fleet == fleet)
    changed = tx.connection.execute(sa.update(revisions).where(*where).values(status=status, reason=reason))
    if changed.rowcount == 0:
        raise rows.missing(revisions, commit)
