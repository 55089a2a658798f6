"""Deployments: the record of each reconcile of each resource, from pending to its end, with its output."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import sqlalchemy as sa

from reconciler.errors import StoreFault
from reconciler.store import output, rows
from reconciler.store.tables import deployments as table
from reconciler.store.transaction import Tx
from reconciler.store.words import DeploymentStatus, TriggeredVia

TRANSITIONS: dict[DeploymentStatus, frozenset[DeploymentStatus]] = {
    "pending": frozenset(
        {"running", "failed"}
    ),  # failed: it never got to start, say for want of a connection
    "running": frozenset({"success", "failed"}),
    "success": frozenset(),
    "failed": frozenset(),
}
"""From each state the ones that may follow."""

UNFINISHED: tuple[DeploymentStatus, ...] = ("pending", "running")
Stream = Literal["stdout", "stderr"]


@dataclass(frozen=True)
class Deployment:
    """One deployment without its output. `apply_id` is the id under which the node runs it, shared by a bundle."""

    id: str
    site_id: str | None
    server_id: str | None
    actor_id: str | None
    kind: str
    name: str
    plan_id: str | None
    apply_id: str | None
    triggered_via: TriggeredVia
    status: DeploymentStatus
    branch: str
    commit_hash: str | None
    source_branch: str | None
    source_commit: str | None
    corrective: bool
    reason: str | None
    started_at: datetime | None
    finished_at: datetime | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class NewDeployment:
    """What a deployment begins with: whom it concerns, why and from which commit. `corrective`: it repairs drift.

    `source_branch` and `source_commit` are of the application's own repository, where a site has one.
    """

    kind: str
    name: str
    triggered_via: TriggeredVia
    branch: str = "main"
    commit_hash: str | None = None
    source_branch: str | None = None
    source_commit: str | None = None
    server_id: str | None = None
    site_id: str | None = None
    actor_id: str | None = None
    plan_id: str | None = None
    apply_id: str | None = None
    corrective: bool = False
    reason: str | None = None


@dataclass(frozen=True)
class Filter:
    """Which deployments to list; None does not narrow."""

    kind: str | None = None
    name: str | None = None
    status: DeploymentStatus | None = None
    server_id: str | None = None
    site_id: str | None = None
    plan_id: str | None = None
    apply_id: str | None = None
    commit_hash: str | None = None


def can_follow(old: DeploymentStatus, new: DeploymentStatus) -> bool:
    """Whether a deployment may go from `old` to `new`."""
    return new in TRANSITIONS[old]


def create(tx: Tx, new: NewDeployment, *, deployment_id: str | None = None) -> Deployment:
    """Records a pending deployment, under a new id or the given ULID."""
    values = {name: getattr(new, name) for name in rows.fields_of(NewDeployment)}
    return get(tx, rows.insert(tx, table, {**values, "status": "pending"}, deployment_id))


def advance(
    tx: Tx, deployment_id: str, old: DeploymentStatus, new: DeploymentStatus, *, reason: str | None = None
) -> bool:
    """Moves a deployment from `old` to `new` if it is still in `old`: whether it was.

    Sets `started_at` or `finished_at` with it, and `reason` if one is given. ValueError when `new` cannot follow `old`.
    """
    if not can_follow(old, new):
        raise ValueError(f"a deployment cannot go from {old} to {new}")
    values: dict[str, object] = {"status": new, "updated_at": tx.now}
    values["started_at" if new == "running" else "finished_at"] = tx.now
    if reason is not None:
        values["reason"] = reason
    statement = sa.update(table).where(table.c.id == deployment_id, table.c.status == old).values(**values)
    return tx.connection.execute(statement).rowcount > 0


def start(tx: Tx, deployment_id: str) -> Deployment:
    """Pending to running. StoreFault when it is gone or not pending."""
    return _move(tx, deployment_id, "running", None)


def finish(
    tx: Tx, deployment_id: str, status: Literal["success", "failed"], *, reason: str | None = None
) -> Deployment:
    """Ends a deployment, with the reason of a failure. StoreFault when it is gone or cannot end so."""
    return _move(tx, deployment_id, status, reason)


def set_apply(tx: Tx, deployment_id: str, apply_id: str) -> None:
    """Records under which id the node runs it, so that a restarted daemon can ask the node."""
    rows.update(tx, table, deployment_id, {"apply_id": apply_id})


def append_output(tx: Tx, deployment_id: str, stream: Stream, text: str) -> None:
    """Adds to the stored output; of each stream the first and last 128 KiB are kept. `text` must be redacted already."""
    known = output_of(tx, deployment_id, stream)
    added = output.append(known, text)
    gap = [added.at, added.omitted] if added.omitted else None
    rows.update(tx, table, deployment_id, {stream: added.text, f"{stream}_gap": gap})


def output_of(tx: Tx, deployment_id: str, stream: Stream) -> output.Output:
    """The stored output of one stream; `.shown()` is the text for people. StoreFault when the record is gone."""
    statement = sa.select(table.c[stream], table.c[f"{stream}_gap"]).where(table.c.id == deployment_id)
    row = tx.connection.execute(statement).first()
    if row is None:
        raise rows.missing(table, deployment_id)
    text, gap = row
    at, omitted = gap or (0, 0)
    return output.Output(text or "", at, omitted)


def get(tx: Tx, deployment_id: str) -> Deployment:
    """The deployment with this id. StoreFault when there is none."""
    return rows.by_id(tx, table, Deployment, deployment_id)


def find(tx: Tx, prefix: str) -> Deployment:
    """The only deployment whose id begins with `prefix`. StoreFault when there is none or more than one."""
    prefix = prefix.strip().upper()
    if not prefix.isalnum():
        raise StoreFault(f"{prefix!r} is not a deployment id", hint="an id has letters and digits only")
    statement = rows.select(table, Deployment).where(table.c.id.startswith(prefix, autoescape=True))
    found = rows.every(tx, statement.limit(2), Deployment)
    if not found:
        raise StoreFault(f"there is no deployment {prefix}", hint="list them with 'reconciler deployments'")
    if len(found) > 1:
        raise StoreFault(
            f"more than one deployment begins with {prefix}", hint="give more characters of the id"
        )
    return found[0]


def listed(tx: Tx, wanted: Filter | None = None, *, limit: int = 50) -> list[Deployment]:
    """The newest `limit` deployments that fit `wanted`, newest first."""
    statement = rows.select(table, Deployment).order_by(table.c.id.desc()).limit(limit)
    for name in rows.fields_of(Filter):
        value = getattr(wanted, name) if wanted is not None else None
        if value is not None:
            statement = statement.where(table.c[name] == value)
    return rows.every(tx, statement, Deployment)


def drop_output(tx: Tx, before: datetime) -> int:
    """Drops the output of deployments that ended before this time; their records stay. How many had some."""
    where = (table.c.finished_at < before, sa.or_(table.c.stdout.is_not(None), table.c.stderr.is_not(None)))
    empty = {"stdout": None, "stderr": None, "stdout_gap": None, "stderr_gap": None}
    return tx.connection.execute(sa.update(table).where(*where).values(**empty)).rowcount


def unfinished(tx: Tx) -> list[Deployment]:
    """All that have not ended, oldest first: what a starting daemon has to settle."""
    statement = rows.select(table, Deployment).where(table.c.status.in_(UNFINISHED)).order_by(table.c.id)
    return rows.every(tx, statement, Deployment)


def _move(tx: Tx, deployment_id: str, new: DeploymentStatus, reason: str | None) -> Deployment:
    known = get(tx, deployment_id)
    if not can_follow(known.status, new):
        raise StoreFault(
            f"deployment {deployment_id} is {known.status} and cannot become {new}",
            hint="it was settled by somebody else meanwhile",
        )
    advance(tx, deployment_id, known.status, new, reason=reason)
    return get(tx, deployment_id)
