"""What an operator names on the command line: `Site/shop`, `Fleet/main`, checked against what is known."""

from __future__ import annotations

import re
from dataclasses import dataclass

from reconciler.desired.kinds import Kind
from reconciler.desired.kinds.common import NAME_PATTERN
from reconciler.errors import UsageFault
from reconciler.kit.text import did_you_mean
from reconciler.store import Tx
from reconciler.store.queries import conditions, databases, inventory, servers, sites, sources
from reconciler.store.queries.suspensions import FLEET

_KINDS = tuple(kind.value for kind in Kind if kind is not Kind.DEFAULTS)


@dataclass(frozen=True, order=True)
class Address:
    """A resource, or with the kind `Fleet` a whole fleet."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


def parse(text: str) -> Address:
    """The address in a text, kinds in any case. UsageFault, with what was probably meant, when there is none."""
    kind, slash, name = text.partition("/")
    known = {word.lower(): word for word in (*_KINDS, FLEET)}
    if not slash or not name:
        hint = (
            f"write KIND/NAME, such as {known.get(kind.lower(), 'Site')}/{'shop' if slash else kind.lower()}"
        )
        raise UsageFault(f"{text[:80]!r} is no address", hint=hint)
    if kind.lower() not in known:
        hint = did_you_mean(kind.capitalize(), known.values()) or f"kinds: {', '.join(known.values())}"
        raise UsageFault(f"there is no kind {kind[:40]!r}", hint=hint)
    if not re.search(NAME_PATTERN, name):
        raise UsageFault(
            f"{name[:80]!r} is no name",
            hint="names have lower-case letters, digits and hyphens, such as shop-1",
        )
    return Address(known[kind.lower()], name)


def known(tx: Tx) -> frozenset[Address]:
    """Every resource and fleet that the database has heard of."""
    found = {Address(entry.kind, entry.name) for entry in inventory.all(tx)}
    found |= {Address(one.kind, one.name) for one in conditions.listed(tx)}
    found |= {Address("Server", row.name) for row in servers.all(tx)}
    found |= {Address("Site", row.name) for row in sites.all(tx)}
    found |= {Address("Database", row.manifest_name) for row in databases.all(tx)}
    return frozenset(found | set(fleets(tx)))


def fleets(tx: Tx) -> tuple[Address, ...]:
    """The fleets that a daemon has looked at."""
    return tuple(Address(FLEET, source.fleet) for source in sources.listed(tx))


def require(tx: Tx, text: str, *, hint: str = "") -> Address:
    """As `parse`; UsageFault, with what was probably meant or else `hint`, for what nothing is known of."""
    address, everything = parse(text), known(tx)
    if address not in everything:
        near = did_you_mean(str(address), sorted(map(str, everything)))
        raise UsageFault(
            f"nothing is known of {address}", hint=near or hint or "`reconciler status` lists what is known"
        )
    return address
