"""The recorded state: the inventory's rows as the value that plans are made against."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reconciler.blueprint.model import Step
from reconciler.desired.fleet import Key
from reconciler.desired.kinds import Kind
from reconciler.desired.problems import Source
from reconciler.errors import Conflict
from reconciler.kit import canonical
from reconciler.plan.kinds import spec_of
from reconciler.plan.model import Change
from reconciler.plan.recorded import Recorded, RecordedResource
from reconciler.record import software
from reconciler.store import Tx
from reconciler.store.queries import conditions, databases, inventory, revisions, servers
from reconciler.store.queries.inventory import InventoryEntry

READY = "Ready"
MAIN = "main"
"""The fleet of whoever names none."""


def _rotating(tx: Tx, entries: Sequence[InventoryEntry]) -> set[Key]:
    """The databases whose password is being replaced, and the sites whose `.env` has it."""
    names = databases.rotating(tx)
    found: set[Key] = set()
    for entry in entries if names else ():
        spec = spec_of(entry.spec)
        if entry.kind == Kind.DATABASE and entry.name in names and spec.get("password") is None:
            found.add(Key(Kind.DATABASE, entry.name))
            if isinstance(site := spec.get("site"), str):
                found.add(Key(Kind.SITE, site))
    return found


def recorded(tx: Tx, fleet: str | None = None, on: Collection[str] | None = None) -> Recorded:
    """Everything that is recorded as applied, of one fleet or of all; with `on` what is on these servers or on none.

    A resource without a true Ready condition counts as failed.
    """
    ready = conditions.ready(tx)
    entries = inventory.all(tx, fleet, on)
    rotating, upgrading = _rotating(tx, entries), software.upgrading(tx)
    resources = {}
    for entry in entries:
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
            rotating=key in rotating,
            upgrading=upgrading.get(entry.name, ()) if entry.kind == Kind.SERVER.value else (),
            engine=entry.engine,
        )
    newest = revisions.newest(tx, fleet=fleet or MAIN)
    return Recorded(
        resources=resources,
        serial=inventory.serial(tx),
        lineage=inventory.lineage(tx),
        base_commit=newest.commit if newest else "",
        next_site_number={row.name: row.next_site_number for row in servers.all(tx)},
        retained=_retained(tx),
    )


def _retained(tx: Tx) -> dict[str, dict[str, list[str]]]:
    """The retained databases by server and engine."""
    names = {row.id: row.name for row in servers.all(tx)}
    found: dict[str, dict[str, list[str]]] = {}
    for row in databases.all(tx):
        if row.status == "retained" and row.server_id in names:
            found.setdefault(names[row.server_id], {}).setdefault(row.type, []).append(row.name)
    return found


@dataclass(frozen=True)
class Origin:
    """Where a record comes from: the commit, the fleet, and what rendered the steps (empty: unknown)."""

    revision: str
    fleet: str = MAIN
    engine: str = ""


def put(tx: Tx, change: Change, steps: Iterable[Step], origin: Origin) -> None:
    """Record a resource as applied: its manifest, its steps in plan form, what was allocated to it.

    ValueError when the change leaves nothing to record, Conflict when another fleet has it.
    """
    known = inventory.get(tx, change.key.kind.value, change.key.name)
    if known is not None and known.fleet != origin.fleet:
        raise Conflict(
            f"{change.address} belongs to the fleet {known.fleet}",
            hint="choose another name, or remove it from the other fleet first",
        )
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
            revision=origin.revision,
            path=change.source.path if change.source else "",
            line=change.source.line if change.source else 1,
            server=change.server,
            identity=change.identity,
            fleet=origin.fleet,
            engine=origin.engine,
        ),
    )


def put_attempt(tx: Tx, change: Change, steps: Iterable[Step], origin: Origin) -> None:
    """Record, before the node is touched, what it may have afterwards.

    The steps of before and after together: should the apply break off, a later deletion still finds everything. The
    manifest and the identity stay those of before, if there is one, so that the next plan still shows the change, and
    taking the commit back finds the system user that holds the data.
    """
    old = inventory.get(tx, change.key.kind.value, change.key.name)
    wanted = {step.key: step.to_json() for step in steps}
    if old is None or old.fleet != origin.fleet:
        put(tx, change, steps, replace(origin, engine=""))
        return
    # a unit that ran and is to be stopped may still run afterwards, so it stays something to undo
    running = {
        step["key"]: step for step in old.steps if step["type"] == "unit" and step.get("active") is not False
    }
    wanted |= {key: step for key, step in running.items() if key in wanted}
    before = [step for step in old.steps if step["key"] not in wanted]
    steps_now = [*before, *wanted.values()]
    _rewrite(tx, old, steps=steps_now, identity={**change.identity, **old.identity}, engine="")


def rename(tx: Tx, kind: Kind, old: str, new: str) -> None:
    """Hand what is recorded of a resource on to its new name.

    What is recorded on a renamed server follows: else the next plan would take the new name for another machine, and
    move every site that has not been applied since.
    """
    inventory.rename(tx, kind.value, old, new)
    entry = inventory.get(tx, kind.value, new)
    if entry is not None:
        metadata = {**entry.spec.get("metadata", {}), "name": new}
        _rewrite(tx, entry, spec={**entry.spec, "metadata": metadata}, engine="")
    if kind is Kind.SERVER:
        for found in inventory.all(tx):
            if found.server == old:
                spec = found.spec
                if spec.get("spec", {}).get("server") == old:
                    spec = {**spec, "spec": {**spec["spec"], "server": new}}
                _rewrite(tx, found, spec=spec, server=new, engine="")


def leave_behind(tx: Tx, server: str, steps: Sequence[Step]) -> None:
    """Make a server answer for what another resource has on its node and no record of its own tells.

    That is what it left when it moved away, and what it may have got already while it is moving here. The steps join
    the server's own, which want none of them: every plan undoes what no resource wants, until that has been done.
    """
    entry = inventory.get(tx, Kind.SERVER.value, server)
    if entry is not None:
        known = {step["key"] for step in entry.steps}
        left = [step.to_json() for step in steps if step.key not in known]
        _rewrite(tx, entry, steps=[*entry.steps, *left], engine="")


def cleared(tx: Tx, server: str, left: Iterable[Step]) -> None:
    """A server does not answer for these steps of others any more: they are undone, or their resource has arrived."""
    entry = inventory.get(tx, Kind.SERVER.value, server)
    if entry is not None:
        gone = {step.key for step in left}
        _rewrite(tx, entry, steps=[step for step in entry.steps if step["key"] not in gone])


def _rewrite(tx: Tx, entry: InventoryEntry, **values: Any) -> None:
    """Record an entry again with other values of some fields."""
    fields = {name: getattr(entry, name) for name in inventory.Applied.__dataclass_fields__} | values
    if "spec" in values:
        fields["digest"] = canonical.digest(fields["spec"])
    inventory.put(tx, inventory.Applied(**fields))
