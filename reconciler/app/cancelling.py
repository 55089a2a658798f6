"""Asking the daemon to stop what is under way."""

from __future__ import annotations

from reconciler.app import addresses, asking
from reconciler.errors import UsageFault
from reconciler.kit.clock import stamp
from reconciler.store import Tx
from reconciler.store.queries import audit, deployments, requests
from reconciler.store.queries.requests import Request


def cancel(tx: Tx, subject: str, by: str) -> Request:
    """Ask for it; in the audit log. `subject` is an address, or a deployment's id or the beginning of it.

    UsageFault when it is unknown, has ended, or when no daemon runs: an order to stop must not wait for the next one,
    which would then stop something else.
    """
    subject = _address(tx, subject) if "/" in subject else _deployment(tx, subject)
    if not asking.running(tx):
        raise UsageFault(
            "no daemon is running, so nothing can be cancelled; nothing was recorded",
            hint="what a node has begun, it ends by itself; Ctrl-C ends a `reconciler apply`",
        )
    audit.append(tx, actor=by, action="cancel", subject=subject)
    return requests.add(tx, "cancel", subject, actor=by)


def _address(tx: Tx, text: str) -> str:
    return str(addresses.require(tx, text))


def _deployment(tx: Tx, prefix: str) -> str:
    found = deployments.find(tx, prefix)
    if found.status not in deployments.UNFINISHED:
        at = f" at {stamp(found.finished_at)}" if found.finished_at else ""
        raise UsageFault(f"deployment {found.id} of {found.kind}/{found.name} ended{at}: {found.status}")
    return found.id
