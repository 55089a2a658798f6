"""Rollouts: how far a revision has come on each server, kept so that a restart goes on where it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from reconciler.store import rows
from reconciler.store.daemon_tables import rollouts as table
from reconciler.store.transaction import Tx
from reconciler.store.words import RolloutState

_WAVE = "wave:"
"""Begins the name of a row that stands for a released wave; no server can be called so."""


@dataclass(frozen=True)
class ServerRollout:
    """One server's part in the rollout of one commit; `since` is when it came to this state, `changed_at`
    when the server came to have what the commit wants, or its turn came while it had not.

    `failing_before` are the health checks that failed before anything was changed: they say nothing about the commit.
    """

    fleet: str
    commit: str
    server: str
    state: RolloutState
    message: str
    failing_before: list[str]
    since: datetime
    changed_at: datetime


def put(
    tx: Tx,
    fleet: str,
    commit: str,
    server: str,
    state: RolloutState,
    message: str = "",
    failing_before: Sequence[str] | None = None,
) -> None:
    """Sets the state; `since` moves only when the state does, `changed_at` only when the server's turn comes.

    `failing_before` None keeps what was known of it.
    """
    identity = {"fleet": fleet, "commit": commit, "server": server}
    known = get(tx, fleet, commit, server)
    since = known.since if known is not None and known.state == state else tx.now
    before = (
        known.failing_before if known is not None and failing_before is None else list(failing_before or ())
    )
    changed = known.changed_at if known is not None and known.state != "pending" else tx.now
    values = {
        "state": state,
        "message": message,
        "failing_before": before,
        "since": since,
        "changed_at": changed,
    }
    rows.upsert(tx, table, identity, values)


def get(tx: Tx, fleet: str, commit: str, server: str) -> ServerRollout | None:
    """One server's state."""
    where = (table.c.fleet == fleet, table.c.commit == commit, table.c.server == server)
    return rows.first(tx, rows.select(table, ServerRollout).where(*where), ServerRollout)


def listed(tx: Tx, fleet: str, commit: str) -> list[ServerRollout]:
    """All servers of a rollout, by name."""
    where = (table.c.fleet == fleet, table.c.commit == commit, table.c.server.not_like(f"{_WAVE}%"))
    return rows.every(
        tx, rows.select(table, ServerRollout).where(*where).order_by(table.c.server), ServerRollout
    )


def release(tx: Tx, fleet: str, commit: str, wave: str) -> None:
    """Lets a wave of this commit's rollout begin that waits for a person."""
    put(tx, fleet, commit, f"{_WAVE}{wave}", "healthy")


def released(tx: Tx, fleet: str, commit: str) -> frozenset[str]:
    """The names of the waves that were released."""
    where = (table.c.fleet == fleet, table.c.commit == commit, table.c.server.like(f"{_WAVE}%"))
    found = tx.connection.execute(sa.select(table.c.server).where(*where)).scalars()
    return frozenset(name.removeprefix(_WAVE) for name in found)


def newest_change(tx: Tx, server: str) -> datetime | None:
    """When a server was last changed by a rollout: denials before and after that are not the same ones."""
    mine = rows.select(table, ServerRollout).where(table.c.server == server)
    found = rows.first(tx, mine.order_by(table.c.changed_at.desc()), ServerRollout)
    return found.changed_at if found is not None else None


def not_ahead(tx: Tx) -> None:
    """States that began in the future begin now: the clock was set back, and their time would not pass for as long."""
    for column in (table.c.since, table.c.changed_at):
        tx.connection.execute(sa.update(table).where(column > tx.now).values({column: tx.now}))


def keep_only(tx: Tx, fleet: str, commit: str) -> None:
    """Forgets the rollouts of a fleet's other commits."""
    tx.connection.execute(sa.delete(table).where(table.c.fleet == fleet, table.c.commit != commit))


def forget(tx: Tx, fleet: str, commit: str, server: str) -> None:
    """Forgets one server's part: it begins anew."""
    where = (table.c.fleet == fleet, table.c.commit == commit, table.c.server == server)
    tx.connection.execute(sa.delete(table).where(*where))
