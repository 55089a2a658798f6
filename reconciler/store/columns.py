"""What the columns of all tables share: ULID keys, instants, vocabularies, named constraints."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, get_args

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

metadata = sa.MetaData(
    # every constraint has a name, so that a later migration can replace it
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Instant(sa.TypeDecorator[datetime]):
    """An aware time, stored as `2026-01-31T12:00:00.000000Z`: readable, and sorted as text it is sorted in time."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        """To the stored text. ValueError for a time without a zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone cannot be stored")
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def process_result_value(self, value: str | None, dialect: Dialect) -> datetime | None:
        """From the stored text."""
        return None if value is None else datetime.fromisoformat(value)


def key() -> sa.Column[str]:
    """The primary key: a ULID, 26 characters."""
    return sa.Column("id", sa.Text, primary_key=True)


def text(
    name: str, *, null: bool = False, unique: bool = False, default: str | None = None
) -> sa.Column[Any]:
    """A text column; `default` is also the database's own default."""
    return sa.Column(name, sa.Text, nullable=null, unique=unique or None, server_default=default)


def number(name: str, *, null: bool = False, default: int | None = None) -> sa.Column[Any]:
    """An integer column."""
    return sa.Column(
        name, sa.Integer, nullable=null, server_default=None if default is None else str(default)
    )


def json(name: str, *, null: bool = False) -> sa.Column[Any]:
    """A JSON column; None is stored as NULL."""
    return sa.Column(name, sa.JSON(none_as_null=True), nullable=null)


def instant(name: str, *, null: bool = False) -> sa.Column[Any]:
    """A time column."""
    return sa.Column(name, Instant, nullable=null)


def ref(name: str, target: str, ondelete: str, *, null: bool = False) -> sa.Column[Any]:
    """A foreign key to the id of table `target`, indexed, since SQLite looks children up at each delete."""
    return sa.Column(
        name, sa.Text, sa.ForeignKey(f"{target}.id", ondelete=ondelete), nullable=null, index=True
    )


def stamps() -> tuple[sa.Column[Any], sa.Column[Any]]:
    """`created_at` and `updated_at`."""
    return instant("created_at"), instant("updated_at")


def one_of(column: str, vocabulary: object) -> sa.CheckConstraint:
    """A CHECK that `column` holds a word of `vocabulary` (a Literal type of `reconciler.store.words`)."""
    words = ", ".join(f"'{word}'" for word in get_args(vocabulary))
    return sa.CheckConstraint(f"{column} IN ({words})", name=column)
