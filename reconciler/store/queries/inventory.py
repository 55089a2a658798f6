"""The inventory: what was last applied of each resource. It is the recorded state that plans are made against."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from reconciler.store import identity, rows
from reconciler.store.ledger import inventory as table
from reconciler.store.transaction import Tx


@dataclass(frozen=True)
class InventoryEntry:
    """One resource as applied.

    `spec` is the manifest's, with secrets masked; `digest` its sha256; `steps` the step objects of docs/protocol.md
    in order; `revision` the commit it came from, `path` and `line` the place in it; `server` the name of the server,
    None for kinds without one; `identity` what was given to it once and stays, such as its system user; `fleet` the
    fleet that it belongs to; `engine` what rendered the steps, empty when unknown.
    """

    kind: str
    name: str
    server: str | None
    spec: dict[str, Any]
    digest: str
    steps: list[dict[str, Any]]
    revision: str
    path: str
    line: int
    identity: dict[str, Any]
    applied_at: datetime
    fleet: str
    engine: str


@dataclass(frozen=True)
class Applied:
    """What `put` records; the fields are those of `InventoryEntry`."""

    kind: str
    name: str
    spec: Mapping[str, Any]
    digest: str
    steps: Sequence[Mapping[str, Any]]
    revision: str
    path: str
    line: int
    server: str | None = None
    identity: Mapping[str, Any] | None = None
    fleet: str = "main"
    engine: str = ""


def all(  # noqa: A001 - read as `inventory.all(tx)`
    tx: Tx, fleet: str | None = None, servers: Collection[str] | None = None
) -> list[InventoryEntry]:
    """All entries, or those of a fleet, by kind and name; with `servers` only what is on these, or on no server."""
    statement = rows.select(table, InventoryEntry).order_by(table.c.kind, table.c.name)
    if fleet is not None:
        statement = statement.where(table.c.fleet == fleet)
    if servers is not None:
        statement = statement.where(sa.or_(table.c.server.in_(sorted(servers)), table.c.server.is_(None)))
    return rows.every(tx, statement, InventoryEntry)


@dataclass(frozen=True)
class Origin:
    """Which commit of which fleet a resource was last applied from."""

    kind: str
    name: str
    fleet: str
    revision: str


def origins(tx: Tx) -> list[Origin]:
    """The origins of all resources, without reading what was applied of them."""
    return rows.every(tx, rows.select(table, Origin).order_by(table.c.kind, table.c.name), Origin)


def owners(tx: Tx) -> dict[tuple[str, str], str]:
    """The fleet of everything that is recorded, by kind and name."""
    statement = sa.select(table.c.kind, table.c.name, table.c.fleet)
    return {(row.kind, row.name): row.fleet for row in tx.connection.execute(statement)}


def digests(tx: Tx, fleet: str) -> dict[tuple[str, str], str]:
    """The digest of every recorded manifest of a fleet, by kind and name: cheaper than whole entries."""
    statement = sa.select(table.c.kind, table.c.name, table.c.digest).where(table.c.fleet == fleet)
    return {(row.kind, row.name): row.digest for row in tx.connection.execute(statement)}


def get(tx: Tx, kind: str, name: str) -> InventoryEntry | None:
    """The entry of one resource."""
    statement = rows.select(table, InventoryEntry).where(table.c.kind == kind, table.c.name == name)
    return rows.first(tx, statement, InventoryEntry)


def put(tx: Tx, applied: Applied) -> int:
    """Records a resource as applied now and returns the raised serial."""
    values = {
        "server": applied.server,
        "spec": dict(applied.spec),
        "digest": applied.digest,
        "steps": [dict(step) for step in applied.steps],
        "revision": applied.revision,
        "path": applied.path,
        "line": applied.line,
        "identity": dict(applied.identity or {}),
        "applied_at": tx.now,
        "fleet": applied.fleet,
        "engine": applied.engine,
    }
    rows.upsert(tx, table, {"kind": applied.kind, "name": applied.name}, values)
    return identity.raise_serial(tx)


def forget(tx: Tx, kind: str, name: str) -> bool:
    """Removes the entry of a resource that is gone. Whether it was there; only then is the serial raised."""
    gone = (
        tx.connection.execute(sa.delete(table).where(table.c.kind == kind, table.c.name == name)).rowcount > 0
    )
    if gone:
        identity.raise_serial(tx)
    return gone


def rename(tx: Tx, kind: str, old: str, new: str) -> bool:
    """Moves an entry to another name. Whether it was there; only then is the serial raised. Conflict."""
    where = (table.c.kind == kind, table.c.name == old)
    moved = tx.connection.execute(sa.update(table).where(*where).values(name=new)).rowcount > 0
    if moved:
        identity.raise_serial(tx)
    return moved


def serial(tx: Tx) -> int:
    """The number of the recorded state; it grows with each change of the inventory."""
    return identity.serial(tx)


def lineage(tx: Tx) -> str:
    """The ULID of this database; a plan made from another one never fits."""
    return identity.lineage(tx)
