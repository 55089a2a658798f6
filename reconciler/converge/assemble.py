"""Pure: what a plan means for each node — the bundle it should have, and the sections an apply touches."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from reconciler import blueprint
from reconciler.blueprint import SecretSource, upgrading
from reconciler.blueprint.model import Bundle, Section, Step
from reconciler.desired.fleet import Entry, Fleet, Key, Origin
from reconciler.desired.kinds import Database, Kind, Server, Site
from reconciler.desired.problems import Source
from reconciler.kit.canonical import Json
from reconciler.plan.manifests import parse
from reconciler.plan.model import Action, Change, Plan
from reconciler.plan.recorded import Recorded
from reconciler.platforms import for_os

Identities = Mapping[Key, Mapping[str, str]]
_WAYS = frozenset({"address", "port", "os", "sshKey", "hostKey"})
_GONE = (Action.DELETE, Action.FORGET)
_UNINSTALLED = "package"


@dataclass(frozen=True)
class NodeState:
    """One node as it should be: its server, and the bundle with real secrets. `archive` gives bodies that are kept as files,
    by digest; None for one that is not."""

    server: Server
    bundle: Bundle
    archive: Callable[[str], bytes | None] = lambda sha256: None


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


def per_server(fleet: Fleet) -> dict[str, Fleet]:
    """Small fleets, one a server with what is on it: rendering looks things up, and a whole fleet would make that slow."""
    groups: dict[str, dict[Key, Entry]] = {
        key.name: {key: entry} for key, entry in fleet.entries.items() if key.kind is Kind.SERVER
    }
    for key, entry in fleet.entries.items():
        manifest = entry.manifest
        if isinstance(manifest, Site | Database) and manifest.spec.server in groups:
            groups[manifest.spec.server][key] = entry
        elif isinstance(manifest, Server):
            people = (Key(Kind.USER, login.user) for login in manifest.spec.logins)
            groups[key.name] |= {named: fleet.entries[named] for named in people if named in fleet.entries}
    return {name: Fleet(entries) for name, entries in groups.items()}


def work(plan: Plan, servers: Mapping[str, Server]) -> dict[str, NodeWork]:
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
        if (server := servers.get(name)) is not None
    }


def _found_otherwise(change: Change) -> bool:
    """Whether a server is now reached in another way, or said to be another system: its node has to confirm that."""
    words = {diff.path[1] for diff in change.diffs if len(diff.path) > 1 and diff.path[0] == "spec"}
    return change.key.kind is Kind.SERVER and not words.isdisjoint(_WAYS)


def departures(plan: Plan, servers: Mapping[str, Server]) -> dict[str, list[Change]]:
    """What moved away and is to be removed where it was, by the name of the server that it leaves."""
    found: dict[str, list[Change]] = {}
    for change in plan.effective:
        name = left_server(plan, change)
        if name is not None and name in servers:
            found.setdefault(name, []).append(change)
    return found


def left_server(plan: Plan, change: Change) -> str | None:
    """The server on which a change leaves something to remove, by the name that it has now; None when there is none."""
    if not change.destroys or change.previous_server is None:
        return None
    renamed = {c.previous.name: c.key.name for c in plan.changes if c.previous and c.key.kind is Kind.SERVER}
    return renamed.get(change.previous_server, change.previous_server)


def servers_of(plan: Plan) -> dict[str, Server]:
    """The servers by name, as the plan leaves them, or as they were if the plan forgets them."""
    found = {}
    for change in plan.changes:
        manifest = change.after or change.before
        if change.key.kind is Kind.SERVER and manifest is not None:
            parsed = parse(Kind.SERVER, manifest)
            if isinstance(parsed, Server):
                found[change.key.name] = parsed
    return found


def identities(plan: Plan) -> Identities:
    """What is allocated to each resource, by this plan or before."""
    return {change.key: change.identity for change in plan.changes}


def state(
    server: Server,
    fleet: Fleet,
    known: Identities,
    secrets: SecretSource,
    removals: Iterable[Section] = (),
    locked: Collection[Key] = (),
) -> NodeState:
    """The node's bundle. Raises as `reconciler.blueprint.sections`.

    Resources that are `locked`, since a value of theirs cannot be opened, are not in it, nor what needs them: the node
    keeps what it has of them.
    """
    bundle = blueprint.bundle(server, fleet, known, secrets, removals=tuple(removals))
    return NodeState(server, _without(bundle, {str(key) for key in locked}) if locked else bundle)


def _without(bundle: Bundle, locked: set[str]) -> Bundle:
    left: list[Section] = []
    for section in bundle.sections:
        if section.id in locked or not locked.isdisjoint(section.needs):
            locked.add(section.id)
        else:
            left.append(section)
    return replace(bundle, sections=tuple(left))


def software_of(bundle: Bundle) -> dict[str, str]:
    """Which piece of software each package belongs to, by the step's key."""
    return {
        step.key: str(step.params["software"])
        for section in bundle.sections
        for step in section.steps
        if step.type in ("package", "upgrade") and step.params.get("software")
    }


def masked_steps(nodes: Mapping[str, Fleet], known: Identities) -> dict[str, tuple[Step, ...]]:
    """Every resource's steps in plan form, by address: what gets recorded. Raises as `state`."""
    return {
        section.id: section.steps
        for fleet in nodes.values()
        for server in fleet.servers()
        for section in blueprint.sections(server, fleet, known, blueprint.masked)
    }


def removals(node: NodeWork, recorded: Recorded, wanted: Mapping[str, tuple[Step, ...]]) -> list[Section]:
    """The sections that undo on this node what its changes leave behind."""
    found = []
    for change in node.changes:
        # what arrives from another server is undone there
        if not change.retained and change.previous_server is None:
            stays = change.action is not Action.DELETE
            keep = frozenset(step.key for step in wanted.get(str(change.key), ())) if stays else frozenset()
            found.append((change, keep))
    return _undoing(found, recorded)


def upgrades(node: NodeWork, recorded: Recorded, fleet: Fleet) -> list[Section]:
    """The section, if any, of the upgrades of this node's software that were asked for; `fleet` is what it is to have."""
    key = Key(Kind.SERVER, node.name)
    found = recorded.resources.get(key)
    if found is None or not found.upgrading or node.change(key) is None:
        return []
    steps = upgrading.steps(node.server, fleet, for_os(node.server.spec.os.value), found.upgrading)
    return [Section(str(key), steps)] if steps else []


def together(*groups: Sequence[Section]) -> list[Section]:
    """Sections by their ids, the steps of the later groups behind those of the earlier ones."""
    found: dict[str, Section] = {}
    for section in (section for group in groups for section in group):
        known = found.get(section.id)
        found[section.id] = replace(known, steps=(*known.steps, *section.steps)) if known else section
    return list(found.values())


def uninstalls(
    plan: Plan, recorded: Recorded, wanted: Mapping[str, tuple[Step, ...]]
) -> dict[str, dict[str, Step]]:
    """The steps, by key, that take software off a server that it no longer declares, by the server's name.

    They are no part of its first apply: a site may run on it until that one has come to its end.
    """
    found: dict[str, dict[str, Step]] = {}
    for change in plan.effective:
        if change.key.kind is not Kind.SERVER or change.action in _GONE:
            continue
        old = recorded.resources.get(change.previous or change.key)
        keep = frozenset(step.key for step in wanted.get(str(change.key), ()))
        undo = blueprint.removals(old.steps, keep) if old is not None else ()
        if steps := {step.key: step for step in undo if step.type == _UNINSTALLED}:
            found[change.key.name] = steps
    return found


def leavings(changes: Iterable[Change], recorded: Recorded) -> list[Section]:
    """The sections that remove from a node what moved away from it."""
    return _undoing([(change, frozenset()) for change in changes], recorded)


def _undoing(changes: Iterable[tuple[Change, frozenset[str]]], recorded: Recorded) -> list[Section]:
    """A section a change. Two may have to undo the same thing, after attempts that broke off: the first one does."""
    found, seen = [], set[str]()
    for change, keep in changes:
        old = recorded.resources.get(change.previous or change.key)
        undo = blueprint.removals(old.steps, keep) if old is not None else ()
        undo = tuple(step for step in undo if step.type != _UNINSTALLED)
        if steps := tuple(step for step in undo if step.key not in seen):
            seen |= {step.key for step in steps}
            found.append(Section(str(change.key), steps))
    return found
