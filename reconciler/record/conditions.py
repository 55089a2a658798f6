"""Ready, Reconciling, Stalled and Drifted: what is true of a resource now, with reason and message."""

from __future__ import annotations

from typing import Literal

from reconciler.desired.fleet import Key
from reconciler.store import Tx
from reconciler.store.queries import conditions
from reconciler.store.queries.conditions import State

Status = Literal["True", "False", "Unknown"]


def _put(
    tx: Tx, key: Key, kind: str, status: Status, reason: str, message: str, revision: str | None
) -> None:
    conditions.put(tx, key.kind.value, key.name, kind, State(status, reason, message, revision))


def begin(tx: Tx, key: Key, revision: str) -> None:
    """Work on the resource starts."""
    _put(tx, key, "Ready", "Unknown", "Progressing", "being reconciled", revision)
    _put(tx, key, "Reconciling", "True", "Progressing", f"applying {revision[:12]}", revision)


def succeed(tx: Tx, key: Key, revision: str, message: str) -> None:
    """The node has what the revision says."""
    _put(tx, key, "Ready", "True", "ReconciliationSucceeded", message, revision)
    _put(tx, key, "Reconciling", "False", "Succeeded", "", revision)
    _put(tx, key, "Stalled", "False", "Succeeded", "", revision)
    _put(tx, key, "Drifted", "False", "InSync", "", revision)


def fail(tx: Tx, key: Key, revision: str, message: str, *, stalled: bool) -> None:
    """The attempt failed; `stalled` when trying again will not help before a person acts."""
    _put(tx, key, "Ready", "False", "ReconciliationFailed", message, revision)
    _put(tx, key, "Reconciling", "False", "Failed", "", revision)
    if stalled:
        _put(tx, key, "Stalled", "True", "NeedsAttention", message, revision)
    else:
        _put(tx, key, "Stalled", "False", "WillRetry", "", revision)


def drifted(tx: Tx, key: Key, message: str) -> None:
    """The node shows something else than was applied."""
    _put(tx, key, "Drifted", "True", "NodeDiffers", message, None)


def in_sync(tx: Tx, key: Key) -> None:
    """The node shows what was applied."""
    if conditions.get(tx, key.kind.value, key.name, "Drifted") is not None:
        _put(tx, key, "Drifted", "False", "InSync", "", None)
