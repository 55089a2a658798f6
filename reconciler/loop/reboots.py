"""Which servers have to be rebooted, from what their nodes say: the condition RebootNeeded."""

from __future__ import annotations

from reconciler.converge.observer import Observation
from reconciler.desired.fleet import Key
from reconciler.desired.kinds import Kind
from reconciler.nodes.answers import RebootFact
from reconciler.plan.recorded import Recorded
from reconciler.record import conditions
from reconciler.store import Tx

_NAMED = 10
"""So many packages are named in a message."""


def note(tx: Tx, recorded: Recorded, seen: Observation) -> None:
    """Bring the conditions of the servers that told up to what they need."""
    for name, fact in seen.reboots.items():
        key = Key(Kind.SERVER, name)
        if key in recorded.resources:
            conditions.reboot(tx, key, recorded.resources[key].revision, said(fact))


def said(fact: RebootFact) -> str:
    """Why a node has to be rebooted, with the packages that ask for it; empty when it need not be."""
    if not fact.needed:
        return ""
    named = ", ".join(fact.packages[:_NAMED])
    more = len(fact.packages) - _NAMED
    listed = f" ({named}{f' and {more} more' if more > 0 else ''})" if named else ""
    return f"the server needs a reboot: {fact.why}{listed}"
