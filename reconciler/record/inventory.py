"""The recorded state: the inventory's rows as the value that plans are made against."""

from __future__ import annotations

from collections.abc import Iterable

from reconciler.blueprint.model import Step
from reconciler.desired.fleet import Key
from reconciler.desired.kinds import Kind
from reconciler.desired.problems import Source
from reconciler.kit import canonical
from reconciler.plan.model import Change
from reconciler.plan.recorded import Recorded, RecordedResource
from reconciler.store import Tx
from reconciler.store.queries import conditions, inventory, revisions, servers

READY = "Ready"


def recorded(tx: Tx) -> Recorded:
    """Everything that is recorded as applied. A resource without a true Ready condition counts as failed."""
    ready = {(c.kind, c.name) for c in conditions.listed(tx) if c.type == READY and c.status == "True"}
    resources = {}
    for entry in inventory.all(tx):
        key = Key(Kind(entry.kind), entry.name)
        resources[key] = RecordedResource(
            key=key,
            manifest=entry.spec,
            server=entry.server,
            steps=tuple(Step.from_json(step) for step in entry.steps),
            identity={str(k): str(v) for k, v in entry.identity.items()},
            revision=entry.revision,
            source=Source(entry.path, entry.line) if entry.path else None,
            failed=(entry.kind, entry.name) not in ready,
        )
    newest = revisions.newest(tx)
    return Recorded(
        resources=resources,
        serial=inventory.serial(tx),
        lineage=inventory.lineage(tx),
        base_commit=newest.commit if newest else "",
        next_site_number={row.name: row.next_site_number for row in servers.all(tx)},
    )


def put(tx: Tx, change: Change, steps: Iterable[Step], revision: str) -> None:
    """Record a resource as applied: its manifest, its steps in plan form, what was allocated to it.

    ValueError when the change leaves nothing to record.
    """
    if change.after is None:
        raise ValueError(f"{change.address} leaves nothing to record")
    inventory.put(
        tx,
        inventory.Applied(
            kind=change.key.kind.value,
            name=change.key.name,
            spec=change.after,
            digest=canonical.digest(change.after),
            steps=[step.to_json() for step in steps],
            revision=revision,
            path=change.source.path if change.source else "",
            line=change.source.line if change.source else 1,
            server=change.server,
            identity=change.identity,
        ),
    )


def put_attempt(tx: Tx, change: Change, steps: Iterable[Step], revision: str) -> None:
    """Record, before the node is touched, what it may have afterwards.

    The steps of before and after together: should the apply break off, a later deletion still finds everything. The
    manifest stays the one of before, if there is one, so that the next plan still shows the change.
    """
    old = inventory.get(tx, change.key.kind.value, change.key.name)
    wanted = {step.key: step.to_json() for step in steps}
    if old is None:
        put(tx, change, steps, revision)
        return
    before = [step for step in old.steps if step["key"] not in wanted]
    inventory.put(
        tx,
        inventory.Applied(
            kind=old.kind,
            name=old.name,
            spec=old.spec,
            digest=old.digest,
            steps=[*before, *wanted.values()],
            revision=old.revision,
            path=old.path,
            line=old.line,
            server=old.server,
            identity={**old.identity, **change.identity},
        ),
    )
