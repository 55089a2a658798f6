"""What the database says was last applied, as a value without a database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from reconciler.blueprint.model import Step
from reconciler.blueprint.upgrading import Upgrade
from reconciler.desired.fleet import Key
from reconciler.desired.problems import Source
from reconciler.kit.canonical import Json


@dataclass(frozen=True)
class RecordedResource:
    """One resource as last applied.

    `manifest` is its canonical JSON (YAML spelling, defaults filled in). `steps` are the steps last applied on its node
    in plan form (secret bodies masked). `identity` holds what was allocated, for example `{"system_user": "web1"}`.
    """

    key: Key
    manifest: Mapping[str, Json] = field(repr=False)
    server: str | None
    steps: tuple[Step, ...] = ()
    identity: Mapping[str, str] = field(default_factory=dict)
    revision: str = ""
    source: Source | None = None
    failed: bool = False
    """The last reconcile of it failed, so it must be tried again although nothing changed."""
    rotating: bool = False
    """A new password of it, or of its database, is on its way to the node."""
    upgrading: Sequence[Upgrade] = ()
    """Upgrades of a server's software that were asked for."""
    engine: str = ""
    """What rendered `steps` (the program and its templates, as plans name it). When it is the engine that plans, and the
    manifests are as recorded, nothing is rendered again; empty when unknown."""


@dataclass(frozen=True)
class Recorded:
    """The recorded state of the whole fleet. `serial` rises with every write; `lineage` names the database."""

    resources: Mapping[Key, RecordedResource] = field(default_factory=dict)
    serial: int = 0
    lineage: str = ""
    base_commit: str = ""
    next_site_number: Mapping[str, int] = field(default_factory=dict)
    """Server name to the number of its next system user; numbers are never used again."""
    retained: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    """Server name to engine to the names of databases that are kept there and that no manifest declares any more."""
    offline: bool = False
    """The state comes from a commit, not from a database, so identities are placeholders."""
