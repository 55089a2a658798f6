"""Databases of sites. The password is made at the first record, sealed, and comes out only as a `Secret`.

A password that is being replaced has the new one beside it, pending, until the node has confirmed it: whichever of the two
the node has when something breaks off, neither is lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from reconciler.kit import ids
from reconciler.kit.secret import Secret
from reconciler.secrets import passwords
from reconciler.store import rows
from reconciler.store.tables import databases
from reconciler.store.transaction import Tx
from reconciler.store.words import DatabaseStatus, DatabaseType


@dataclass(frozen=True)
class Database:
    """`manifest_name` names the resource; `name` and `username` are what the database server knows."""

    id: str
    site_id: str | None
    server_id: str
    manifest_name: str
    name: str
    username: str
    type: DatabaseType
    status: DatabaseStatus
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class DatabaseFields:
    """What a manifest says about a database."""

    server_id: str
    name: str
    username: str
    type: DatabaseType
    site_id: str | None = None


def upsert(tx: Tx, manifest_name: str, fields: DatabaseFields, password: Secret | None = None) -> Database:
    """Records a database, found by server, type and name: a retained one that is declared again is taken over.

    A new one is `creating` and gets `password`, or a generated one; a known one keeps its password unless another is
    given. A retained one becomes `creating` again. Conflict.
    """
    identity = {"server_id": fields.server_id, "type": fields.type, "name": fields.name}
    values = {"manifest_name": manifest_name, "username": fields.username, "site_id": fields.site_id}
    where = [databases.c[column] == value for column, value in identity.items()]
    known = rows.first(tx, rows.select(databases, Database).where(*where), Database)
    if known is None:
        row_id = ids.new()
        sealed = _sealed(tx, row_id, password or passwords.generate())
        rows.insert(tx, databases, {**identity, **values, "password": sealed}, row_id)
        return get_by_id(tx, row_id)
    rows.upsert(tx, databases, identity, values)
    if known.status == "retained":
        set_status(tx, known.id, "creating")
    if password is not None and password != password_of(tx, known.id):
        set_password(tx, known.id, password)
    return get_by_id(tx, known.id)


def get(tx: Tx, manifest_name: str) -> Database | None:
    """The database of this manifest; retained ones have none any more."""
    where = (databases.c.manifest_name == manifest_name, databases.c.status != "retained")
    statement = rows.select(databases, Database).where(*where).order_by(databases.c.id.desc())
    return rows.first(tx, statement, Database)


def get_by_id(tx: Tx, database_id: str) -> Database:
    """The database with this id. StoreFault when it is gone."""
    return rows.by_id(tx, databases, Database, database_id)


def all(  # noqa: A001 - read as `databases.all(tx)`
    tx: Tx, *, server_id: str | None = None, site_id: str | None = None
) -> list[Database]:
    """All databases, or those of one server or site, retained ones included, by name."""
    statement = rows.select(databases, Database).order_by(databases.c.name, databases.c.id)
    if server_id is not None:
        statement = statement.where(databases.c.server_id == server_id)
    if site_id is not None:
        statement = statement.where(databases.c.site_id == site_id)
    return rows.every(tx, statement, Database)


def password_of(tx: Tx, database_id: str) -> Secret:
    """The password of the database's user. WrongKey; StoreFault when the record is gone."""
    sealed = tx.connection.scalar(sa.select(databases.c.password).where(databases.c.id == database_id))
    if sealed is None:
        raise rows.missing(databases, database_id)
    return tx.box.open(sealed, table="databases", row_id=database_id, column="password")


def set_password(tx: Tx, database_id: str, password: Secret) -> None:
    """Seals and stores another password."""
    rows.update(tx, databases, database_id, {"password": _sealed(tx, database_id, password)})


def pending_of(tx: Tx, database_id: str) -> Secret | None:
    """The password that is on its way to the node, or None. WrongKey."""
    sealed = tx.connection.scalar(
        sa.select(databases.c.pending_password).where(databases.c.id == database_id)
    )
    if sealed is None:
        return None
    return tx.box.open(sealed, table="databases", row_id=database_id, column="pending_password")


def begin_rotation(tx: Tx, database_id: str) -> bool:
    """Make a new password, pending. False, and nothing is made, when one is pending already: the node may have that one."""
    if pending_of(tx, database_id) is not None:
        return False
    sealed = tx.box.seal(
        passwords.generate(), table="databases", row_id=database_id, column="pending_password"
    )
    rows.update(tx, databases, database_id, {"pending_password": sealed})
    return True


def end_rotation(tx: Tx, database_id: str) -> None:
    """The node has the pending password: it takes the place of the old one."""
    pending = pending_of(tx, database_id)
    if pending is not None:
        values = {"password": _sealed(tx, database_id, pending), "pending_password": None}
        rows.update(tx, databases, database_id, values)


def drop_rotation(tx: Tx, database_id: str) -> None:
    """Forget the pending password: another one is given by the manifest."""
    rows.update(tx, databases, database_id, {"pending_password": None})


def rotating(tx: Tx) -> frozenset[str]:
    """The manifest names of the databases whose password is being replaced."""
    where = (databases.c.pending_password.is_not(None), databases.c.status != "retained")
    return frozenset(tx.connection.scalars(sa.select(databases.c.manifest_name).where(*where)))


def set_status(tx: Tx, database_id: str, status: DatabaseStatus) -> None:
    """Sets the state; `retained` is for one that is declared no more but kept on its server."""
    rows.update(tx, databases, database_id, {"status": status})


def rename(tx: Tx, database_id: str, manifest_name: str) -> None:
    """Records that another manifest name declares it; on the server nothing changes."""
    rows.update(tx, databases, database_id, {"manifest_name": manifest_name})


def delete(tx: Tx, database_id: str) -> bool:
    """Removes the record, with the password. Whether it was there."""
    return rows.delete(tx, databases, database_id)


def _sealed(tx: Tx, database_id: str, password: Secret) -> str:
    return tx.box.seal(password, table="databases", row_id=database_id, column="password")


def mark(tx: Tx) -> str:
    """Changes whenever a database or its password does: how many there are, and when the newest was touched."""
    row = tx.connection.execute(sa.select(sa.func.count(), sa.func.max(databases.c.updated_at))).one()
    return f"{row[0]} {row[1]}"
