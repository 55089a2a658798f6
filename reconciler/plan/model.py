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

    `reason` is a sentence for people, `reason_code` a stable word (`new`, `changed`, `removed`, `renamed`, `retry`,
    `dependency`, `suspended`). `source` is the line that caused it. `identity` holds what the plan allocated.
    """

    key: Key
    action: Action
    reason_code: str
    reason: str
    server: str | None = None
    previous: Key | None = None
    source: Source | None = None
    before: Mapping[str, Json] | None = None
    after: Mapping[str, Json] | None = None
    diffs: tuple[FieldDiff, ...] = ()
    risks: tuple[Risk, ...] = ()
    steps: tuple[PlannedStep, ...] = ()
    identity: Mapping[str, str] = field(default_factory=dict)

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
    """A guard's word on the plan. `blocking` findings stop an apply until they are approved by `code`."""

    code: str
    message: str
    blocking: bool
    addresses: tuple[str, ...] = ()
    hint: str = ""


@dataclass(frozen=True)
class Plan:
    """Everything an apply needs, and nothing secret.

    `base_commit` and `head_commit` name what was compared ("" for the empty state, `worktree` for uncommitted files);
    `serial` and `lineage` the recorded state. `identity` is the digest of all of it but `created_at`.
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
