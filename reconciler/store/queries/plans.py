"""Plans that the daemon made or a person reviewed, with what was approved of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from reconciler.errors import StoreFault
from reconciler.store import rows
from reconciler.store.daemon_tables import plans as table
from reconciler.store.transaction import Tx
from reconciler.store.words import PlanStatus


@dataclass(frozen=True)
class StoredPlan:
    """One plan. `identity` is its digest; `tree` the git tree that its manifests came from.

    `summary` counts the actions; `findings` are the guards' words as objects; `approved` the codes that were approved.
    """

    id: str
    fleet: str
    identity: str
    commit: str
    tree: str
    base_commit: str
    serial: int
    lineage: str
    engine: str
    summary: dict[str, int]
    findings: list[dict[str, Any]]
    status: PlanStatus
    approved: list[str]
    approved_by: str | None
    approved_at: datetime | None
    reviewed_by: str | None
    reviewed_at: datetime | None
    created_at: datetime


@dataclass(frozen=True)
class NewPlan:
    """What `put` records; the fields are those of `StoredPlan`. `document` is the plan's file form as an object."""

    fleet: str
    identity: str
    commit: str
    tree: str
    base_commit: str
    serial: int
    lineage: str
    engine: str
    document: Mapping[str, Any]
    summary: Mapping[str, int]
    findings: Sequence[Mapping[str, Any]]


def put(tx: Tx, new: NewPlan, *, status: PlanStatus = "planned") -> StoredPlan:
    """Records a plan; one that is known by its identity keeps what was approved and its status."""
    known = _by_identity(tx, new.fleet, new.identity)
    if known is not None:
        return known
    values = {name: getattr(new, name) for name in rows.fields_of(NewPlan)}
    values["document"], values["summary"] = dict(new.document), dict(new.summary)
    values["findings"] = [dict(finding) for finding in new.findings]
    row_id = rows.insert(tx, table, {**values, "status": status, "approved": []})
    return rows.by_id(tx, table, StoredPlan, row_id)


def document(tx: Tx, plan_id: str) -> dict[str, Any]:
    """The plan's file form. StoreFault when it is gone."""
    row = tx.connection.execute(sa.select(table.c.document).where(table.c.id == plan_id)).first()
    if row is None:
        raise rows.missing(table, plan_id)
    return dict(row.document)


def find(tx: Tx, prefix: str) -> StoredPlan:
    """The only plan whose id or identity begins with `prefix`. StoreFault when there is none or more than one."""
    if not prefix.isalnum():
        raise StoreFault(f"{prefix!r} is not a plan's id", hint="an id has letters and digits only")
    statement = rows.select(table, StoredPlan).where(
        sa.or_(table.c.id.startswith(prefix.upper()), table.c.identity.startswith(prefix.lower()))
    )
    found = rows.every(tx, statement.order_by(table.c.id.desc()).limit(2), StoredPlan)
    if not found:
        raise StoreFault(f"there is no plan {prefix}", hint="reconciler approve lists those that wait")
    if len(found) > 1:
        raise StoreFault(f"more than one plan begins with {prefix}", hint="give more characters")
    return found[0]


def approve(tx: Tx, plan_id: str, codes: Collection[str], by: str) -> None:
    """Approves findings of a plan by their codes."""
    known = rows.by_id(tx, table, StoredPlan, plan_id)
    values = {
        "approved": sorted({*known.approved, *codes}),
        "approved_by": by,
        "approved_at": tx.now,
        "status": "approved",
    }
    rows.update(tx, table, plan_id, values)


def review(tx: Tx, plan_id: str, by: str) -> None:
    """Marks a plan as what was reviewed for its tree: what is merged may do this or less."""
    rows.update(tx, table, plan_id, {"reviewed_by": by, "reviewed_at": tx.now, "status": "reviewed"})


def renew(tx: Tx, plan_id: str, status: PlanStatus, findings: Sequence[Mapping[str, Any]]) -> None:
    """A plan that is known is the one of the moment again: how it stands now, and what its findings are now."""
    rows.update(tx, table, plan_id, {"status": status, "findings": [dict(finding) for finding in findings]})


def set_status(tx: Tx, plan_id: str, status: PlanStatus) -> None:
    """How the plan stands."""
    rows.update(tx, table, plan_id, {"status": status})


def reviewed_for(tx: Tx, fleet: str, tree: str) -> StoredPlan | None:
    """The newest reviewed plan for a git tree."""
    where = (table.c.fleet == fleet, table.c.tree == tree, table.c.reviewed_at.is_not(None))
    statement = rows.select(table, StoredPlan).where(*where).order_by(table.c.reviewed_at.desc())
    return rows.first(tx, statement, StoredPlan)


def approved_for(tx: Tx, fleet: str, commit: str) -> list[StoredPlan]:
    """The plans of a commit of which anything was approved, newest first."""
    where = (table.c.fleet == fleet, table.c.commit == commit, table.c.approved_at.is_not(None))
    statement = rows.select(table, StoredPlan).where(*where).order_by(table.c.approved_at.desc())
    return rows.every(tx, statement, StoredPlan)


def listed(
    tx: Tx, *, fleet: str | None = None, status: PlanStatus | None = None, limit: int = 50
) -> list[StoredPlan]:
    """The newest `limit` plans, newest first."""
    statement = rows.select(table, StoredPlan).order_by(table.c.id.desc()).limit(limit)
    for name, value in (("fleet", fleet), ("status", status)):
        if value is not None:
            statement = statement.where(table.c[name] == value)
    return rows.every(tx, statement, StoredPlan)


def supersede(tx: Tx, fleet: str, keep: str) -> None:
    """Everything of a fleet that still waits, but the plan `keep`, is superseded."""
    where = (
        table.c.fleet == fleet,
        table.c.id != keep,
        table.c.status.in_(("planned", "waiting", "diverged")),
    )
    tx.connection.execute(sa.update(table).where(*where).values(status="superseded", updated_at=tx.now))


def prune(tx: Tx, fleet: str, keep: int) -> int:
    """Removes all but the newest `keep` plans of a fleet that nobody waits for, of reviewed ones too; how many went."""
    seen = table.c.reviewed_at.is_not(None)
    past = sa.and_(table.c.status.in_(("applied", "superseded", "planned")), ~seen)
    gone = 0
    # a review that nobody has merged yet must not fall to plans that the daemon makes every few minutes
    for which in (past, sa.and_(seen, table.c.status.not_in(("waiting", "approved", "diverged")))):
        spare = (
            sa.select(table.c.id)
            .where(table.c.fleet == fleet, which)
            .order_by(table.c.id.desc())
            .offset(keep)
        )
        gone += tx.connection.execute(sa.delete(table).where(table.c.id.in_(spare))).rowcount
    return gone


def _by_identity(tx: Tx, fleet: str, identity: str) -> StoredPlan | None:
    where = (table.c.fleet == fleet, table.c.identity == identity)
    return rows.first(tx, rows.select(table, StoredPlan).where(*where), StoredPlan)
