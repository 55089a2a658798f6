"""Pure: what a plan means for each node — the bundle it should have, and the sections an apply touches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reconciler import blueprint
from reconciler.blueprint import SecretSource
from reconciler.blueprint.model import Bundle, Section, Step
from reconciler.desired.fleet import Entry, Fleet, Key, Origin
from reconciler.desired.kinds import Kind, Server
from reconciler.desired.problems import Source
from reconciler.kit.canonical import Json
from reconciler.plan.manifests import parse
from reconciler.plan.model import Action, Change, Plan
from reconciler.plan.recorded import Recorded

Identities = Mapping[Key, Mapping[str, str]]
_WAYS = frozenset({"address", "port", "os", "sshKey", "hostKey"})
_GONE = (Action.DELETE, Action.FORGET)


@dataclass(frozen=True)
class NodeState:
    """One node as it should be: its server, and the bundle with real secrets."""

    server: Server
    bundle: Bundle


@dataclass(frozen=True)
class NodeWork:
    """What an apply does on one node. `repairs` are the resources that only have drift."""

    name: str
    server: Server
    changes: tuple[Change, ...] = ()
    repairs: tuple[Key, ...] = ()

    @property
    def keys(self) -> tuple[Key, ...]:
        """The resources that it concerns."""
        return (*(change.key for change in self.changes), *self.repairs)

    def change(self, key: Key) -> Change | None:
        """The change of a resource; None for a repair."""
        return next((change for change in self.changes if change.key == key), None)


def fleet_of(manifests: Iterable[tuple[Key, Mapping[str, Json]]]) -> Fleet:
    """A fleet of canonical manifests, without places; one that no longer can be read is left out."""
    entries = {}
    for key, value in manifests:
        if (manifest := parse(key.kind, value)) is not None:
            entries[key] = Entry(manifest, Origin(Source("")))
    return Fleet(entries)


def after(plan: Plan) -> Fleet:
    """The fleet as it is recorded once the plan is applied; what is suspended or broken as it was."""
    return fleet_of(
        (change.key, change.after)
        for change in plan.changes
        if change.after is not None and change.action not in _GONE
    )


def of_record(recorded: Recorded) -> Fleet:
    """The fleet as it is recorded now."""
    return fleet_of((key, resource.manifest) for key, resource in recorded.resources.items())


def work(plan: Plan) -> dict[str, NodeWork]:
    """The nodes that the plan has work on, by server name, each with its changes in the plan's order.

    What a moved resource leaves on the server that it was on is not in it: see `departures`.
    """
    changes: dict[str, list[Change]] = {}
    for change in plan.effective:
        # without steps only the record changes
        concerned = change.steps or _found_otherwise(change)
        if concerned and change.server is not None and change.action is not Action.FORGET:
            changes.setdefault(change.server, []).append(change)
    # whatever changes is put right with its change; what is renamed or forgotten is known under that name no more
    settled = {c.key for c in plan.effective} | {c.previous for c in plan.effective}
    repairs: dict[str, list[Key]] = {}
    for item in plan.drift:
        if item.key not in settled and item.key not in repairs.setdefault(item.server, []):
            repairs[item.server].append(item.key)
    return {
        name: NodeWork(name, server, tuple(changes.get(name, ())), tuple(repairs.get(name, ())))
        for name in sorted(changes.keys() | {name for name, keys in repairs.items() if keys})
        if (server := server_of(plan, name)) is not None
    }


def _found_otherwise(change: Change) -> bool:
    """Whether a server is now reached in another way, or said to be another system: its node has to confirm that."""
    words = {diff.path[1] for diff in change.diffs if len(diff.path) > 1 and diff.path[0] == "spec"}
    return change.key.kind is Kind.SERVER and not words.isdisjoint(_WAYS)


def departures(plan: Plan) -> dict[str, list[Change]]:
    """What moved away and is to be removed where it was, by the name of the server that it leaves."""
    found: dict[str, list[Change]] = {}
    for change in plan.effective:
        name = left_server(plan, change)
        if name is not None and server_of(plan, name) is not None:
            found.setdefault(name, []).append(change)
    return found


def left_server(plan: Plan, change: Change) -> str | None:
    """The server on which a change leaves something to remove, by the name that it has now; None when there is none."""
    if not change.destroys or change.previous_server is None:
        return None
    renamed = {c.previous.name: c.key.name for c in plan.changes if c.previous and c.key.kind is Kind.SERVER}
    return renamed.get(change.previous_server, change.previous_server)


def server_of(plan: Plan, name: str) -> Server | None:
    """A server as the plan leaves it, or as it was if the plan forgets it."""
    key = Key(Kind.SERVER, name)
    change = next((c for c in plan.changes if c.key == key), None)
    manifest = (change.after or change.before) if change else None
    parsed = parse(Kind.SERVER, manifest) if manifest else None
    return parsed if isinstance(parsed, Server) else None


def identities(plan: Plan) -> Identities:
    """What is allocated to each resource, by this plan or before."""
    return {change.key: change.identity for change in plan.changes}


def state(
    server: Server, fleet: Fleet, known: Identities, secrets: SecretSource, removals: Iterable[Section] = ()
) -> NodeState:
    """The node's bundle. Raises as `reconciler.blueprint.sections`."""
    return NodeState(server, blueprint.bundle(server, fleet, known, secrets, removals=tuple(removals)))


def masked_steps(plan: Plan) -> dict[str, tuple[Step, ...]]:
    """Every resource's steps in plan form as the plan leaves them, by address: what gets recorded."""
    fleet, known = after(plan), identities(plan)
    found: dict[str, tuple[Step, ...]] = {}
    for server in fleet.servers():
        for section in blueprint.sections(server, fleet, known, blueprint.masked):
            found[section.id] = section.steps
    return found


def removals(node: NodeWork, recorded: Recorded, wanted: Mapping[str, tuple[Step, ...]]) -> list[Section]:
    """The sections that undo on this node what its changes leave behind."""
    found = []
    for change in node.changes:
        old = recorded.resources.get(change.previous or change.key)
        # what arrives from another server is undone there
        if old is None or change.retained or change.previous_server is not None:
            continue
        stays = change.action is not Action.DELETE
        keep = frozenset(step.key for step in wanted.get(str(change.key), ())) if stays else frozenset()
        if steps := blueprint.removals(old.steps, keep):
            found.append(Section(str(change.key), tuple(steps)))
    return found


def leavings(changes: Iterable[Change], recorded: Recorded) -> list[Section]:
    """The sections that remove from a node what moved away from it."""
    found = []
    for change in changes:
        old = recorded.resources.get(change.previous or change.key)
        if old is not None and (steps := blueprint.removals(old.steps, frozenset())):
            found.append(Section(str(change.key), tuple(steps)))
    return found
