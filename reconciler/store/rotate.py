"""Seals every stored secret anew with the current key, after which the older keys can be dropped."""

from __future__ import annotations

import sqlalchemy as sa

from reconciler.store import identity, tables
from reconciler.store.transaction import Tx

SEALED = (
    tables.ssh_keys.c.private_key,
    tables.databases.c.password,
    tables.databases.c.pending_password,
)
"""The columns whose values are sealed with their row's identity."""


def rotate(tx: Tx) -> int:
    """How many values were sealed anew; those under the current key already are left alone. WrongKey changes nothing."""
    count = 0
    for column in SEALED:
        table = column.table
        rows = tx.connection.execute(sa.select(table.c.id, column).where(column.is_not(None))).all()
        for row_id, sealed in rows:
            if tx.box.current(sealed):
                continue
            place = {"table": table.name, "row_id": row_id, "column": column.name}
            again = tx.box.seal(tx.box.open(sealed, **place), **place)
            tx.connection.execute(sa.update(table).where(table.c.id == row_id).values({column.name: again}))
            count += 1
    count += identity.reseal_age(tx)
    identity.seal_check(tx)
    return count
