"""The desired state as one value: every valid resource of a revision, and where each came from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from reconciler.desired.kinds import Database, Kind, Resource, Rollout, Server, Site, SSHKey, User
from reconciler.desired.problems import Problem, Source
from reconciler.kit.canonical import Json

FieldPath = tuple[str | int, ...]
"""A path in a manifest in its YAML spelling: `("spec", "phpVersion")`, `("spec", "aliases", 0)`."""


class Key(NamedTuple):
    """Identity of a resource: never its path."""

    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"{self.kind.value}/{self.name}"


@dataclass(frozen=True)
class Origin:
    """Where a resource was declared and which Defaults touched it.

    `defaulted` maps a field path to the Defaults manifest's place that gave the value.
    """

    source: Source
    defaulted: Mapping[FieldPath, Source] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """One resource of the fleet."""

    manifest: Resource
    origin: Origin

    @property
    def key(self) -> Key:
        """Kind and name."""
        return Key(self.manifest.kind_name, self.manifest.name)

    @cached_property
    def json(self) -> Mapping[str, Json]:
        """The manifest as canonical JSON: YAML spelling, defaults filled in."""
        value: dict[str, Json] = self.manifest.model_dump(mode="json", by_alias=True)
        return value


def _no_place(key: Key, path: FieldPath) -> Source | None:
    return None


@dataclass(frozen=True)
class Fleet:
    """All valid resources of one revision.

    `broken` are the resources whose manifests have problems: they are neither changed nor deleted.
    `whole` is false when a file could not be read as YAML at all, so that its resources are unknown and nothing may
    be deleted on the ground of this revision. `locate` finds the place of a field (lazily), following Defaults.
    """

    entries: Mapping[Key, Entry] = field(default_factory=dict)
    broken: frozenset[Key] = frozenset()
    whole: bool = True
    locate: Callable[[Key, FieldPath], Source | None] = field(default=_no_place, compare=False, repr=False)

    def get(self, kind: Kind, name: str) -> Resource | None:
        """The resource, or None."""
        entry = self.entries.get(Key(kind, name))
        return entry.manifest if entry else None

    def server(self, name: str) -> Server | None:
        """The Server of that name, or None."""
        found = self.get(Kind.SERVER, name)
        return found if isinstance(found, Server) else None

    def servers(self) -> Iterator[Server]:
        """All Servers, by name."""
        return (m for m in self._of(Kind.SERVER) if isinstance(m, Server))

    def sites(self, server: str | None = None) -> Iterator[Site]:
        """All Sites (of one server), by name."""
        return (m for m in self._of(Kind.SITE) if isinstance(m, Site) and server in (None, m.spec.server))

    def databases(self, server: str | None = None) -> Iterator[Database]:
        """All Databases (of one server), by name."""
        return (
            m for m in self._of(Kind.DATABASE) if isinstance(m, Database) and server in (None, m.spec.server)
        )

    def ssh_keys(self) -> Iterator[SSHKey]:
        """All SSHKeys, by name."""
        return (m for m in self._of(Kind.SSH_KEY) if isinstance(m, SSHKey))

    def users(self) -> Iterator[User]:
        """All Users, by name."""
        return (m for m in self._of(Kind.USER) if isinstance(m, User))

    def rollouts(self) -> Iterator[Rollout]:
        """All Rollouts, by name."""
        return (m for m in self._of(Kind.ROLLOUT) if isinstance(m, Rollout))

    def _of(self, kind: Kind) -> Iterator[Resource]:
        return (self.entries[k].manifest for k in sorted(k for k in self.entries if k.kind == kind))


@dataclass(frozen=True)
class Loaded:
    """What reading a tree gave: the fleet of valid resources, and all problems in one pass."""

    fleet: Fleet
    problems: tuple[Problem, ...] = ()

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that are not mere warnings."""
        return tuple(p for p in self.problems if p.severity == "error")
