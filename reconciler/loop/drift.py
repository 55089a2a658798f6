"""What an observation means: which drift is told, which is put back, and what the conditions say of it."""

from __future__ import annotations

from reconciler.converge.observer import Observation
from reconciler.desired.fleet import Key
from reconciler.kit.text import count
from reconciler.loop import certificates, memory, reboots
from reconciler.plan.ignore import Judged, judge
from reconciler.plan.model import DriftItem
from reconciler.plan.recorded import Recorded
from reconciler.record import conditions
from reconciler.store import Tx
from reconciler.store.queries import conditions as condition_rows
from reconciler.store.queries import events


def note(tx: Tx, recorded: Recorded, seen: Observation) -> Judged:
    """Bring the Drifted conditions, and those of certificates and reboots, up to what the nodes showed, but for what is to be ignored."""
    certificates.note(tx, recorded, seen)
    reboots.note(tx, recorded, seen)
    judged = judge(seen.drift, recorded, tx.now.date())
    drifted: dict[Key, int] = {}
    for item in judged.counted:
        drifted[item.key] = drifted.get(item.key, 0) + 1
    for key in sorted(seen.compared):
        if key not in drifted:
            conditions.in_sync(tx, key, recorded.resources[key].revision)
            continue
        differ = "differs" if drifted[key] == 1 else "differ"
        server = recorded.resources[key].server
        said = f"{count(drifted[key], 'step')} on {server} {differ} from what was applied"
        known = condition_rows.get(tx, key.kind.value, key.name, "Drifted")
        if known is None or known.status != "True":
            events.add(tx, key.kind.value, key.name, reason="Drifted", message=said, type="Warning")
        conditions.drifted(tx, key, recorded.resources[key].revision, said)
    return judged


def record(tx: Tx, recorded: Recorded, seen: Observation, *, heal_all: bool) -> list[DriftItem]:
    """As `note`; the drift that is to be put back now. `heal_all`: also what is only to be reported.

    What was repaired too often of late is left for a person: its breaker is open.
    """
    judged = note(tx, recorded, seen)
    for server in seen.asked:
        memory.checked(tx, server)
    if heal_all:
        return list(judged.counted)
    return [item for item in judged.heal if memory.breaker(tx, item.key).at(tx.now).until is None]
