"""The audit log: who did what. Each entry carries the hash of the one before; the database refuses changes.

The chain shows entries that were altered, taken out or put in between. Whoever can write the database file can still
make a whole new chain: send `head` elsewhere from time to time to notice that as well.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from reconciler.kit import canonical
from reconciler.store import rows
from reconciler.store.ledger import audit
from reconciler.store.transaction import Tx

GENESIS = "0" * 64
"""What the first entry names as the hash before it."""


@dataclass(frozen=True)
class AuditEntry:
    """`hash` is the sha256 of the canonical JSON of all other fields."""

    seq: int
    at: datetime
    actor: str
    action: str
    subject: str
    detail: dict[str, Any] | None
    prev_hash: str
    hash: str


def append(
    tx: Tx, *, actor: str, action: str, subject: str, detail: Mapping[str, Any] | None = None
) -> AuditEntry:
    """Adds an entry: `actor` did `action` to `subject`. What goes in must be redacted already."""
    last = head(tx)
    seq, prev = (last.seq + 1, last.hash) if last else (1, GENESIS)
    # through JSON, so that what is hashed is what will be read back
    detail = None if detail is None else json.loads(canonical.dumps(dict(detail)))
    digest = _hash(seq, tx.now, actor, action, subject, detail, prev)
    entry = AuditEntry(seq, tx.now, actor, action, subject, detail, prev, digest)
    values = {name: getattr(entry, name) for name in rows.fields_of(AuditEntry)}
    tx.connection.execute(sa.insert(audit).values(**values))
    return entry


def head(tx: Tx) -> AuditEntry | None:
    """The newest entry."""
    return rows.first(tx, rows.select(audit, AuditEntry).order_by(audit.c.seq.desc()), AuditEntry)


def listed(tx: Tx, *, subject: str | None = None, limit: int = 100) -> list[AuditEntry]:
    """The newest `limit` entries, newest first."""
    statement = rows.select(audit, AuditEntry).order_by(audit.c.seq.desc()).limit(limit)
    if subject is not None:
        statement = statement.where(audit.c.subject == subject)
    return rows.every(tx, statement, AuditEntry)


def verify(tx: Tx) -> str | None:
    """Follows the whole chain: None when it is sound, else a sentence that names the first entry that does not fit."""
    expected, prev = 1, GENESIS
    for entry in rows.every(tx, rows.select(audit, AuditEntry).order_by(audit.c.seq), AuditEntry):
        if entry.seq != expected:
            return f"entry {expected} is missing"
        if entry.prev_hash != prev:
            return f"entry {entry.seq} does not follow entry {entry.seq - 1}"
        if entry.hash != _hash(
            entry.seq, entry.at, entry.actor, entry.action, entry.subject, entry.detail, entry.prev_hash
        ):
            return f"entry {entry.seq} was altered"
        expected, prev = expected + 1, entry.hash
    return None


def _hash(seq: int, at: datetime, actor: str, action: str, subject: str, detail: Any, prev: str) -> str:
    return canonical.digest(
        {
            "seq": seq,
            "at": at.astimezone(UTC).isoformat(timespec="microseconds"),
            "actor": actor,
            "action": action,
            "subject": subject,
            "detail": detail,
            "prev_hash": prev,
        }
    )
