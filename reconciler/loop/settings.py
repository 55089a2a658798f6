"""What the loop is told: fleets and limits, as values; where they come from is not its business."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from reconciler.plan.guards import Thresholds


@dataclass(frozen=True)
class FleetSpec:
    """One fleet: a branch and folder of a repository. `poll` is in seconds.

    `policy` is the signature policy; `signers` the file or folder of the keys that may sign before any User is known.
    `watch` are local paths whose change means a push.
    """

    name: str
    branch: str = "main"
    path: str = ""
    poll: float = 60.0
    policy: Literal["none", "head", "strict"] = "none"
    signers: Path | None = None
    watch: tuple[Path, ...] = ()


@dataclass(frozen=True)
class LoopLimits:
    """How far the loop goes. Times are in seconds.

    `nodes` are worked on at one time, `per_fleet` of one fleet; `checks` nodes are asked for drift at one time.
    `apply_within` bounds one apply on one node; retries wait from `retry_first` to `retry_longest`. `stop_within` is how
    long running work may take once the daemon is told to end. Every `denials` a node is asked what SELinux refused.
    """

    nodes: int = 16
    per_fleet: int = 16
    checks: int = 32
    apply_within: float = 1800.0
    retry_first: float = 5.0
    retry_longest: float = 600.0
    stop_within: float = 6.0
    denials: float = 20.0


@dataclass(frozen=True)
class LoopSettings:
    """Everything. `commands` are the health checks' commands by name, `thresholds` those of the guard against mass deletion."""

    fleets: tuple[FleetSpec, ...]
    limits: LoopLimits = field(default_factory=LoopLimits)
    commands: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    thresholds: Thresholds = field(default_factory=Thresholds)
