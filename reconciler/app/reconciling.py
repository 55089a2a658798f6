"""Asking the daemon to look at resources now, and how that came out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reconciler.app import addresses, asking
from reconciler.app.addresses import Address
from reconciler.errors import UsageFault
from reconciler.store import Tx
from reconciler.store.queries import audit, conditions, requests
from reconciler.store.queries.requests import Request
from reconciler.store.queries.suspensions import FLEET


@dataclass(frozen=True)
class Standing:
    """How a resource stands: the status of its Ready condition and what is to be said, a stall before anything else."""

    address: str
    ready: str
    message: str


def reconcile(tx: Tx, wanted: Sequence[str], by: str, *, override: str | None = None) -> list[Request]:
    """Ask for each address, or for every fleet when none is given; in the audit log.

    `override` is the reason for which closed windows are passed over this once. UsageFault for what is unknown, and
    for an override while no daemon runs: it is meant for this moment.
    """
    found: list[Address] = [addresses.require(tx, text) for text in dict.fromkeys(wanted)]
    found = found or list(addresses.fleets(tx))
    if not found:
        raise UsageFault(
            "no fleet is known yet", hint="the daemon looks at every fleet when it starts: reconciler serve"
        )
    if override is not None and not asking.running(tx):
        raise UsageFault(
            "no daemon is running, so no window can be passed over; nothing was recorded",
            hint="it would be passed over whenever the next daemon starts; start one first: reconciler serve",
        )
    args = {"override_window": True, "reason": override} if override is not None else {}
    asked = []
    for address in found:
        audit.append(tx, actor=by, action="reconcile", subject=str(address), detail=args or None)
        asked.append(requests.add(tx, "reconcile", str(address), actor=by, args=args))
    return asked


def standing(tx: Tx, address: str) -> Standing:
    """How a resource or, summed up, a fleet stands."""
    kind, _, name = address.partition("/")
    found = {one.type: one for one in conditions.listed(tx, kind=kind, name=name)}
    for word in ("Stalled", "Reconciling"):
        condition = found.get(word)
        if condition is not None and condition.status == "True":
            return Standing(address, "False" if word == "Stalled" else "Unknown", condition.message)
    ready = found.get("Ready")
    if ready is not None:
        return Standing(address, ready.status, ready.message)
    return Standing(address, "True" if kind == FLEET else "Unknown", "")
