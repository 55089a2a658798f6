"""What the settings file says, in the words of the loop."""

from __future__ import annotations

from pathlib import Path

from reconciler.app.config import Config
from reconciler.desired import mirror
from reconciler.loop.settings import FleetSpec, LoopLimits, LoopSettings
from reconciler.plan.guards import Thresholds

_AT_START = ("limits.nodes", "limits.per_fleet", "limits.checks", "limits.apply_within", "http", "log")
"""Settings that a reload cannot change in a daemon that runs."""


def only_at_start(before: Config, after: Config) -> list[str]:
    """The settings that differ and that a running daemon goes on without, in their dotted names."""
    return [word for word in _AT_START if _value(before, word) != _value(after, word)]


def _value(config: Config, word: str) -> object:
    found: object = config
    for part in word.split("."):
        found = getattr(found, part)
    return found


def loop_settings(config: Config) -> LoopSettings:
    """What the loop is to be told, from the settings."""
    limits = config.limits
    return LoopSettings(
        fleets=tuple(
            FleetSpec(
                name=fleet.name,
                branch=fleet.branch,
                path=fleet.path,
                poll=fleet.poll,
                policy=fleet.signatures.policy,
                signers=Path(fleet.signatures.signers) if fleet.signatures.signers else None,
                watch=tuple(path for address in fleet.addresses for path in mirror.watch_paths(address)),
            )
            for fleet in config.fleets
        ),
        limits=LoopLimits(
            nodes=limits.nodes,
            per_fleet=limits.per_fleet,
            checks=limits.checks,
            apply_within=limits.apply_within,
            retry_first=limits.retry.first,
            retry_longest=limits.retry.longest,
            denials=limits.denials,
        ),
        commands=dict(config.checks),
        thresholds=Thresholds(config.guards.mass_deletion.floor, config.guards.mass_deletion.share),
    )
