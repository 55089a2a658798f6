"""Rows as frozen dataclasses: a class names the columns that it wants, so that no query loads a secret by accident."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa

from reconciler.errors import StoreFault
from reconciler.kit import ids
from reconciler.store.transaction import Tx

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

R = TypeVar("R", bound="DataclassInstance")


@cache
def fields_of(cls: type[DataclassInstance]) -> tuple[str, ...]:
    """The field names of a row class, which are its table's column names."""
    return tuple(field.name for field in dataclasses.fields(cls))


def select(table: sa.Table, cls: type[DataclassInstance]) -> sa.Select[Any]:
    """A SELECT of exactly the columns of `cls`."""
    return sa.select(*(table.c[name] for name in fields_of(cls)))


def every(tx: Tx, statement: sa.Select[Any], cls: type[R]) -> list[R]:
    """All rows of a statement made by `select`."""
    return [cls(*row) for row in tx.connection.execute(statement)]


def first(tx: Tx, statement: sa.Select[Any], cls: type[R]) -> R | None:
    """The first row, or None."""
    row = tx.connection.execute(statement.limit(1)).first()
    return None if row is None else cls(*row)


def by_id(tx: Tx, table: sa.Table, cls: type[R], row_id: str) -> R:
    """The row with this id. StoreFault when it is gone."""
    found = first(tx, select(table, cls).where(table.c.id == row_id), cls)
    if found is None:
        raise missing(table, row_id)
    return found


def insert(tx: Tx, table: sa.Table, values: Mapping[str, Any], row_id: str | None = None) -> str:
    """Inserts a row under a new ULID, or under `row_id`, and returns the id. Conflict."""
    row_id = row_id or ids.new()
    stamps = {name: tx.now for name in ("created_at", "updated_at") if name in table.c}
    tx.connection.execute(sa.insert(table).values(id=row_id, **stamps, **values))
    return row_id


def update(tx: Tx, table: sa.Table, row_id: str, values: Mapping[str, Any]) -> None:
    """Sets columns of one row and its `updated_at`. StoreFault when it is gone, Conflict."""
    stamps = {"updated_at": tx.now} if "updated_at" in table.c else {}
    changed = tx.connection.execute(sa.update(table).where(table.c.id == row_id).values(**stamps, **values))
    if changed.rowcount == 0:
        raise missing(table, row_id)


def upsert(
    tx: Tx,
    table: sa.Table,
    identity: Mapping[str, Any],
    values: Mapping[str, Any],
    new: Mapping[str, Any] | None = None,
) -> str:
    """Makes the row found by `identity` have `values`, or inserts it with these and `new`; returns its id.

    A row that has them already is not written to, so that its `updated_at` tells when it really changed. Conflict.
    """
    where = sa.and_(*(table.c[name] == value for name, value in identity.items()))
    row = tx.connection.execute(
        sa.select(table.c.id, *(table.c[name] for name in values)).where(where)
    ).first()
    if row is None:
        return insert(tx, table, {**identity, **values, **(new or {})})
    changed = {name: value for name, value in values.items() if row._mapping[table.c[name]] != value}
    if changed:
        update(tx, table, row.id, changed)
    return str(row.id)


def delete(tx: Tx, table: sa.Table, row_id: str) -> bool:
    """Deletes one row; the database does the rest by its foreign keys. Whether it was there."""
    return tx.connection.execute(sa.delete(table).where(table.c.id == row_id)).rowcount > 0


def missing(table: sa.Table, row_id: str) -> StoreFault:
    """The fault for a row that is not there."""
    return StoreFault(f"{table.name} has no record {row_id}", hint="it was removed meanwhile; look again")
