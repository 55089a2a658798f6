"""The plan as a value: all changes with reasons, places, risks and steps. Serialisable and complete."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from reconciler.desired.fleet import Key
from reconciler.desired.problems import Problem, Source
from reconciler.kit.canonical import Json


class Action(StrEnum):
    """What happens to a resource."""

    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    DELETE = "delete"
    FORGET = "forget"
    NO_OP = "no-op"


class Risk(StrEnum):
    """What a change may cost while or after it is applied."""

    NONE = "none"
    RELOAD = "reload"
    RESTART = "restart"
    DOWNTIME = "downtime"
    DATA_LOSS = "data-loss"


@dataclass(frozen=True)
class FieldDiff:
    """One field that differs. Values of sensitive fields are already replaced by `(sensitive value)`."""

    path: tuple[str | int, ...]
    before: Json
    after: Json
    sensitive: bool = False
    forces_replacement: bool = False
    source: Source | None = None


@dataclass(frozen=True)
class PlannedStep:
    """One step on the node: `op` is create, update, delete or none; `summary` is for people."""

    op: str
    key: str
    summary: str


@dataclass(frozen=True)
class Change:
    """What happens to one resource, and why.

    `reason` is a sentence for people, `reason_code` a stable word (docs/plan.md lists them). `source` is the line that
    caused it. `identity` holds what the plan allocated or what was recorded.

    `before` and `after` are complete manifests, sensitive values included, because an apply is driven by them alone:
    everything that shows a plan masks them with `reconciler.plan.masking`. `after` is what gets recorded; of a no-op it
    is what stays recorded (None for a resource that is declared but cannot be created).
    A change without steps touches no node: only its record changes.
    """

    key: Key
    action: Action
    reason_code: str
    reason: str
    server: str | None = None
    previous: Key | None = None
    source: Source | None = None
    before: Mapping[str, Json] | None = field(default=None, repr=False)
    after: Mapping[str, Json] | None = field(default=None, repr=False)
    diffs: tuple[FieldDiff, ...] = ()
    risks: tuple[Risk, ...] = ()
    steps: tuple[PlannedStep, ...] = ()
    identity: Mapping[str, str] = field(default_factory=dict)
    previous_server: str | None = None
    """The server that the resource leaves; its `delete` steps belong there. None when it stays where it is."""
    retained: bool = False
    """Of a replacement: the old object stays on its node and is only forgotten."""

    @property
    def destroys(self) -> bool:
        """Whether something on a node, or a record with its key, is removed for good."""
        return self.action is Action.DELETE or (self.action is Action.REPLACE and not self.retained)

    @property
    def address(self) -> str:
        """`Kind/name`."""
        return str(self.key)


@dataclass(frozen=True)
class DriftItem:
    """One step of a resource whose node shows something else than was applied."""

    key: Key
    server: str
    step: str
    action: str
    changes: tuple[tuple[str, str, str], ...] = ()
    """Triples (field, applied, observed); bodies as short digests, never content."""
    note: str = ""


@dataclass(frozen=True)
class Finding:
    """A guard's word on the plan. `blocking` findings stop an apply until they are approved by `code`.

    One that is not `approvable` stops it until the manifests change.
    """

    code: str
    message: str
    blocking: bool
    addresses: tuple[str, ...] = ()
    hint: str = ""
    approvable: bool = True


@dataclass(frozen=True)
class Plan:
    """Everything an apply needs, and nothing secret.

    `base_commit` and `head_commit` name what was compared ("" for the empty state, `worktree` for uncommitted files);
    `serial` and `lineage` the recorded state. Its identity (`reconciler.plan.identity`) is the digest of all of it but
    `created_at`. "Nothing secret" means no password and no key; `env` values, in clear in git, are in `after`.
    """

    base_commit: str
    head_commit: str
    serial: int
    lineage: str
    engine: str
    created_at: str
    changes: tuple[Change, ...] = ()
    drift: tuple[DriftItem, ...] = ()
    findings: tuple[Finding, ...] = ()
    problems: tuple[Problem, ...] = ()
    author_name: str = ""
    author_email: str = ""
    refreshed: bool = False
    """Whether the nodes were asked, so that an empty `drift` means none."""
    unreachable: Mapping[str, str] = field(default_factory=dict)
    """Server name to the reason its node could not be asked."""

    @property
    def effective(self) -> tuple[Change, ...]:
        """The changes that do something."""
        return tuple(c for c in self.changes if c.action is not Action.NO_OP)

    @property
    def held(self) -> tuple[Change, ...]:
        """What stays as it is although its manifest is fine, because something that it needs is not there yet."""
        return tuple(c for c in self.changes if c.reason_code == "held")
