"""Asking the daemon to look at resources now, and finding out how that came out."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from reconciler.app import addresses, asking
from reconciler.app.addresses import Address
from reconciler.errors import UsageFault
from reconciler.record.conditions import WAITS
from reconciler.store import Store, Tx
from reconciler.store.queries import (
    audit,
    conditions,
    deployments,
    inventory,
    loop_state,
    requests,
    servers,
    suspensions,
)
from reconciler.store.queries.loop_state import LoopState
from reconciler.store.queries.requests import Request
from reconciler.store.queries.suspensions import FLEET

_POLL = 0.2
_QUIET = 1.5
"""Seconds for which nothing may be under way before the work counts as done: between a look and what follows from it
nothing is recorded."""
"""Waits that end by themselves in minutes; the others may take hours."""


@dataclass(frozen=True)
class Order:
    """What is asked: a look, with repairs of drift (`heal`), through closed windows for a `reason`, releasing a wave."""

    heal: bool = False
    override: str | None = None
    release: str | None = None

    @property
    def args(self) -> dict[str, Any]:
        """The request's arguments."""
        found: dict[str, Any] = {}
        if self.override is not None:
            found |= {"override_window": True, "reason": self.override}
        if self.release is not None:
            found["release_wave"] = self.release
        return found


@dataclass(frozen=True)
class Asked:
    """A request, with what the loop remembered of the servers that it concerns when it was made."""

    request: Request
    before: Mapping[str, LoopState]


@dataclass(frozen=True)
class Standing:
    """How a resource stands, in one sentence; `over`: nothing more will come of the request."""

    address: str
    state: Literal["ready", "not ready", "working"]
    message: str
    over: bool


def reconcile(tx: Tx, wanted: Sequence[str], by: str, order: Order) -> list[Asked]:
    """Ask for each address, or for every fleet when none is given; in the audit log.

    UsageFault for what is unknown, and for orders that are meant for this moment while no daemon runs.
    """
    found: list[Address] = list(dict.fromkeys(addresses.require(tx, text) for text in wanted))
    found = found or list(addresses.fleets(tx))
    if not found:
        hint = "the daemon looks at every fleet when it starts: reconciler serve"
        raise UsageFault("no fleet is known yet", hint=hint)
    if order.args and not asking.running(tx):
        raise UsageFault(
            "no daemon is running; nothing was recorded",
            hint="--now and --release are for this moment, not for whenever the next daemon starts",
        )
    return [_ask(tx, address, by, order) for address in found]


def _ask(tx: Tx, address: Address, by: str, order: Order) -> Asked:
    verb: Literal["heal", "reconcile"] = "heal" if order.heal else "reconcile"
    audit.append(tx, actor=by, action=verb, subject=str(address), detail=order.args or None)
    request = requests.add(tx, verb, str(address), actor=by, args=order.args)
    concerned = _servers(tx, address)
    return Asked(request, {name: loop_state.get(tx, "Server", name) for name in concerned})


def _servers(tx: Tx, address: Address) -> set[str]:
    """The servers that a resource or fleet is on, as far as it was applied."""
    if address.kind == "Server":
        return {address.name}
    return {
        entry.server
        for entry in inventory.all(tx)
        if entry.server and (entry.fleet == address.name if address.kind == FLEET else _is(entry, address))
    }


def _is(entry: inventory.InventoryEntry, address: Address) -> bool:
    return (entry.kind, entry.name) == (address.kind, address.name)


def outcome(store: Store, asked: Sequence[Asked], seconds: float) -> list[Standing]:
    """How everything stands once the daemon is done with it, or after `seconds`.

    The requests have been answered already. The daemon is done when it has looked at the servers since, and nothing has
    been under way there for a moment.
    """
    deadline = time.monotonic() + seconds
    quiet_since: float | None = None
    while True:
        found = store.read(lambda tx: [standing(tx, one) for one in asked])
        now = time.monotonic()
        if not all(one.over for one in found):
            quiet_since = None
        elif quiet_since is None:
            quiet_since = now
        elif now - quiet_since >= _QUIET:
            return found
        if now >= deadline:
            return found
        time.sleep(min(_POLL, deadline - now))


def standing(tx: Tx, asked: Asked) -> Standing:
    """How what was asked for stands now."""
    subject = asked.request.subject
    kind, _, name = subject.partition("/")
    held = next((s for s in suspensions.listed(tx) if _holds(s, kind, name, asked.before)), None)
    if held is not None:
        which = "" if (held.kind, held.name) == (kind, name) else f"{held.kind}/{held.name} is "
        return Standing(subject, "not ready", f"{which}suspended by {held.owner}: {held.reason}", over=True)
    looked = all(loop_state.get(tx, "Server", server) != before for server, before in asked.before.items())
    if not looked or _under_way(tx, kind, name, set(asked.before)):
        return Standing(subject, "working", "it goes on", over=False)
    found = {one.type: one for one in conditions.listed(tx, kind=kind, name=name)}
    stalled, reconciling, ready = (found.get(word) for word in ("Stalled", "Reconciling", "Ready"))
    if stalled is not None and stalled.status == "True":
        return Standing(subject, "not ready", stalled.message, over=True)
    if reconciling is not None and reconciling.status == "True":
        over = reconciling.reason in WAITS
        return Standing(subject, "not ready" if over else "working", reconciling.message, over=over)
    if ready is not None and ready.status != "True":
        return Standing(subject, "not ready", ready.message or ready.reason, over=True)
    return Standing(subject, "ready", ready.message if ready else "", over=True)


def _holds(one: suspensions.Suspension, kind: str, name: str, on: Mapping[str, object]) -> bool:
    return (one.kind, one.name) == (kind, name) or (one.kind == "Server" and kind != FLEET and one.name in on)


def _under_way(tx: Tx, kind: str, name: str, on: set[str]) -> bool:
    ids = {row.id for row in servers.all(tx) if row.name in on}
    return any(
        one.server_id in ids or (one.kind, one.name) == (kind, name) for one in deployments.unfinished(tx)
    )


def have_seen(store: Store, state: Path, address: str) -> None:
    """Have the daemon, if one runs, look at something that was changed outside of git: a key that is known now."""

    def unit(tx: Tx) -> None:
        if asking.running(tx):
            requests.add(tx, "reconcile", address, actor=asking.actor())

    asking.tell(store, state, unit)
