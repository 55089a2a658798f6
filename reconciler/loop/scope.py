"""Pure: the part of a fleet that one server's worker looks at, and which servers must be looked at together."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from reconciler.desired.fleet import Fleet, Key, Loaded
from reconciler.desired.kinds import Database, Kind, Resource, Server, Site
from reconciler.desired.kinds.common import MOVED_FROM
from reconciler.plan.kinds import spec_of
from reconciler.plan.recorded import Recorded

ON_NODES = (Kind.SERVER, Kind.SITE, Kind.DATABASE)
"""The kinds that are on a node; the others are recorded only."""


def groups(fleet: Fleet, recorded: Recorded) -> dict[str, frozenset[str]]:
    """Every server, declared or recorded, with the servers that must be looked at together with it, itself included.

    That is where a resource moves between servers or a value that must be unique changes hands: what gives it up and
    what takes it belong into one plan.
    """
    union = _Union()
    for key, found in recorded.resources.items():
        if found.server is not None and key.kind in ON_NODES:
            union.add(found.server)
    domains = _held_by(recorded, Kind.SITE, "domain")
    addresses = _held_by(recorded, Kind.SERVER, "address")
    for key, entry in fleet.entries.items():
        manifest = entry.manifest
        server = declared_on(manifest)
        if server is None:
            continue
        union.add(server)
        former = manifest.metadata.annotations.get(MOVED_FROM)
        for name in (key.name, former):
            known = recorded.resources.get(Key(key.kind, name)) if name else None
            if known is not None and known.server is not None:
                union.join(server, known.server)
        if isinstance(manifest, Site):
            union.join_if(server, domains.get(manifest.spec.domain))
        if isinstance(manifest, Server):
            union.join_if(server, addresses.get(manifest.spec.address))
    return union.sets()


def declared_on(manifest: Resource) -> str | None:
    """The server whose node a resource is declared on; None for kinds that are on none."""
    if isinstance(manifest, Server):
        return manifest.name
    if isinstance(manifest, Site | Database):
        return manifest.spec.server
    return None


def part(
    loaded: Loaded, recorded: Recorded, servers: Collection[str], known: Collection[Key]
) -> tuple[Loaded, Recorded]:
    """The desired and the recorded state of some servers, with what is on no node.

    `recorded` may be the servers' part already; `known` is everything that is recorded of the fleet.
    """
    fleet = loaded.fleet
    inside = frozenset(
        key
        for key, entry in fleet.entries.items()
        if key.kind not in ON_NODES or declared_on(entry.manifest) in servers
    )
    mine = recorded_part(recorded, servers)
    # what was declared elsewhere before is not gone because it is declared here now, and the other way round
    entries = {k: v for k, v in fleet.entries.items() if k in inside or k in mine.resources}
    broken = frozenset(k for k in fleet.broken if k in mine.resources or k not in known)
    return Loaded(replace(fleet, entries=entries, broken=broken)), mine


def recorded_part(recorded: Recorded, servers: Collection[str]) -> Recorded:
    """What is recorded on some servers, with what is on no node."""
    resources = {
        key: found
        for key, found in recorded.resources.items()
        if key.kind not in ON_NODES or found.server in servers
    }
    return replace(recorded, resources=resources)


def without_nodes(keys: Collection[Key]) -> frozenset[Key]:
    """Those of `keys` that are on no node."""
    return frozenset(key for key in keys if key.kind not in ON_NODES)


def _held_by(recorded: Recorded, kind: Kind, field: str) -> Mapping[object, str]:
    return {
        spec_of(found.manifest).get(field): found.server
        for key, found in recorded.resources.items()
        if key.kind is kind and found.server is not None
    }


class _Union:
    """Disjoint sets of server names."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def add(self, name: str) -> None:
        self._parent.setdefault(name, name)

    def join(self, one: str, other: str) -> None:
        self.add(one)
        self.add(other)
        self._parent[self._root(one)] = self._root(other)

    def join_if(self, one: str, other: str | None) -> None:
        if other is not None:
            self.join(one, other)

    def sets(self) -> dict[str, frozenset[str]]:
        members: dict[str, set[str]] = {}
        for name in self._parent:
            members.setdefault(self._root(name), set()).add(name)
        return {name: frozenset(group) for group in members.values() for name in group}

    def _root(self, name: str) -> str:
        while self._parent[name] != name:
            self._parent[name] = self._parent[self._parent[name]]
            name = self._parent[name]
        return name
