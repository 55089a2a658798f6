"""Ready, Reconciling, Stalled and Drifted: what is true of a resource now, with reason and message."""

from __future__ import annotations

from collections.abc import Iterable
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


def drifted(tx: Tx, key: Key, revision: str, message: str) -> None:
    """The node shows something else than was applied of `revision`."""
    _put(tx, key, "Drifted", "True", "NodeDiffers", message, revision)


def in_sync(tx: Tx, key: Key, revision: str) -> None:
    """The node shows what was applied of `revision`."""
    if conditions.get(tx, key.kind.value, key.name, "Drifted") is not None:
        _put(tx, key, "Drifted", "False", "InSync", "", revision)


OF_AN_ATTEMPT = ("NeedsAttention", "Cancelled", "Progressing")
"""Reasons that only another attempt takes back; all others go when nothing stands in the way any more."""
SUSPENDED = "Suspended"


def held(tx: Tx, key: Key, revision: str, reason: str, message: str) -> None:
    """The revision's change of this resource must wait for a person; what runs goes on as it is."""
    if conditions.get(tx, key.kind.value, key.name, "Ready") is None:
        _put(tx, key, "Ready", "Unknown", reason, message, revision)
    _put(tx, key, "Reconciling", "False", reason, "", revision)
    stalled: Status = "False" if reason == SUSPENDED else "True"
    _put(tx, key, "Stalled", stalled, reason, message, revision)


def freed_all(tx: Tx, keys: Iterable[Key], revision: str) -> bool:
    """Nothing holds these resources back any more: only what must change is touched. Whether anything did."""
    held_back = {
        (one.kind, one.name, one.type)
        for word in ("Stalled", "Reconciling")
        for one in conditions.true(tx, word)
        if one.reason not in OF_AN_ATTEMPT
    }
    # who suspends means it: that is no stall, but it goes too
    held_back |= {(one.kind, one.name, one.type) for one in conditions.of_reason(tx, SUSPENDED)}
    found = False
    for key in keys if held_back else ():
        for word in ("Stalled", "Reconciling"):
            if (key.kind.value, key.name, word) in held_back:
                _put(tx, key, word, "False", "Succeeded", "", revision)
                found = True
    return found


def freed_of(tx: Tx, key: Key, reason: str, revision: str) -> None:
    """What held the resource back for this reason is over; whatever else does stays."""
    for word in ("Stalled", "Reconciling"):
        known = conditions.get(tx, key.kind.value, key.name, word)
        if known is not None and known.reason == reason:
            _put(tx, key, word, "False", "Succeeded", "", revision)


WAITS = ("WindowClosed", "RolloutWaiting", "NodeUnreachable", "BackingOff")
"""Reasons of Reconciling for work that begins by itself, later than at once."""


def waits(tx: Tx, key: Key, revision: str, reason: str, message: str) -> None:
    """There is something to do for this resource, and it begins by itself later."""
    if conditions.get(tx, key.kind.value, key.name, "Ready") is None:
        _put(tx, key, "Ready", "Unknown", reason, message, revision)
    _put(tx, key, "Reconciling", "True", reason, message, revision)


def stopped(tx: Tx, key: Key, revision: str, reason: str, message: str) -> None:
    """An operator stopped the work on this resource; it is not tried again with this revision until somebody says so."""
    _put(tx, key, "Ready", "False", reason, message, revision)
    _put(tx, key, "Reconciling", "False", reason, "", revision)
    _put(tx, key, "Stalled", "True", reason, message, revision)


CANCELLED = "Cancelled"
"""Reason of Stalled after an operator stopped the work."""


def is_cancelled(tx: Tx, key: Key) -> bool:
    """Whether an operator stopped the work on this resource, and nobody has asked for it again."""
    known = conditions.get(tx, key.kind.value, key.name, "Stalled")
    return known is not None and (known.status, known.reason) == ("True", CANCELLED)


CertificateReason = Literal["Valid", "EndsSoon", "Expired"]
_CERTIFICATE = "CertificateValid"


def certificate(tx: Tx, key: Key, revision: str, reason: CertificateReason, message: str) -> None:
    """How long a site's certificate is still good for."""
    known = conditions.get(tx, key.kind.value, key.name, _CERTIFICATE)
    if known is None or (known.reason, known.message) != (reason, message):
        _put(tx, key, _CERTIFICATE, "True" if reason == "Valid" else "False", reason, message, revision)


def no_certificate(tx: Tx, key: Key) -> None:
    """A site has none, or none any more."""
    if conditions.get(tx, key.kind.value, key.name, _CERTIFICATE) is not None:
        conditions.forget_one(tx, key.kind.value, key.name, _CERTIFICATE)


def reboot(tx: Tx, key: Key, revision: str, message: str) -> None:
    """Whether a server needs a reboot; `message` says why, and is empty when it needs none."""
    known = conditions.get(tx, key.kind.value, key.name, "RebootNeeded")
    if known is None or (known.status == "True", known.message) != (bool(message), message):
        reason = "NotInUse" if message else "UpToDate"
        _put(tx, key, "RebootNeeded", "True" if message else "False", reason, message, revision)


def reachable(tx: Tx, key: Key, fault: str, revision: str) -> bool:
    """Whether a server's node answers; `fault` is empty when it does. Returns whether that is news."""
    known = conditions.get(tx, key.kind.value, key.name, "Reachable")
    if fault:
        _put(tx, key, "Reachable", "False", "NodeUnreachable", fault, revision)
    else:
        _put(tx, key, "Reachable", "True", "Answered", "", revision)
    return (known is None or known.status == "True") == bool(fault)


def fleet(
    tx: Tx, name: str, kind: str, status: Status, reason: str, message: str, revision: str | None
) -> bool:
    """A condition of a whole fleet (Ready, SourceReady, Stalled). Returns whether status or reason are news."""
    known = conditions.get(tx, "Fleet", name, kind)
    conditions.put(tx, "Fleet", name, kind, State(status, reason, message, revision))
    return known is None or (known.status, known.reason) != (status, reason)
