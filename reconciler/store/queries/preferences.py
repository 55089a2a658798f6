"""What people set for themselves."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from reconciler.store import rows
from reconciler.store.tables import user_preferences as table
from reconciler.store.transaction import Tx


def put(tx: Tx, user_id: str, key: str, value: Any) -> None:
    """Sets a preference; `value` is any JSON value, None included."""
    rows.upsert(tx, table, {"user_id": user_id, "key": key}, {"value": value})


def get(tx: Tx, user_id: str, key: str, default: Any = None) -> Any:
    """The value of a preference, or `default` when it was never set."""
    row = tx.connection.execute(
        sa.select(table.c.value).where(table.c.user_id == user_id, table.c.key == key)
    ).first()
    return default if row is None else row.value


def all(tx: Tx, user_id: str) -> dict[str, Any]:  # noqa: A001 - read as `preferences.all(tx, …)`
    """All preferences of a person."""
    statement = sa.select(table.c.key, table.c.value).where(table.c.user_id == user_id).order_by(table.c.key)
    return {row.key: row.value for row in tx.connection.execute(statement)}
