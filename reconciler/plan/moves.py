"""Renames: `reconciler/moved-from` on a new name takes over what is recorded under the old one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.desired.fleet import Fleet, Key
from reconciler.desired.kinds.common import MOVED_FROM
from reconciler.plan.model import Finding
from reconciler.plan.recorded import Recorded


@dataclass(frozen=True)
class Moves:
    """`old_of` maps a new key to the recorded one it takes over; `disputed` are old keys that several names claim."""

    old_of: Mapping[Key, Key] = field(default_factory=dict)
    disputed: Mapping[Key, tuple[Key, ...]] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


def find_moves(fleet: Fleet, recorded: Recorded) -> Moves:
    """All renames that hold. An annotation that stayed after its rename was applied means nothing any more."""
    claims: dict[Key, list[Key]] = {}
    findings: list[Finding] = []
    for key in sorted(fleet.entries):
        name = fleet.entries[key].manifest.metadata.annotations.get(MOVED_FROM)
        old = Key(key.kind, name or "")
        if not name or old == key or old not in recorded.resources:
            continue
        if key in recorded.resources or old in fleet.entries or old in fleet.broken:
            findings.append(_ignored(key, old, both_recorded=key in recorded.resources))
        else:
            claims.setdefault(old, []).append(key)
    disputed = {old: tuple(new) for old, new in claims.items() if len(new) > 1}
    findings += [_dispute(old, new) for old, new in disputed.items()]
    old_of = {new[0]: old for old, new in claims.items() if len(new) == 1}
    return Moves(old_of, disputed, tuple(findings))


def _ignored(key: Key, old: Key, *, both_recorded: bool) -> Finding:
    why = f"{key} is recorded already" if both_recorded else f"{old} is still declared"
    return Finding(
        code="move-ignored",
        message=f"`{MOVED_FROM}: {old.name}` on {key} has no effect: {why}.",
        blocking=False,
        addresses=(str(key), str(old)),
        hint="Remove the annotation.",
    )


def _dispute(old: Key, claimants: tuple[Key, ...]) -> Finding:
    return Finding(
        code="ambiguous-move",
        message=f"{', '.join(map(str, claimants))} all say `{MOVED_FROM}: {old.name}`; {old} is left as it is.",
        blocking=True,
        addresses=(str(old), *map(str, claimants)),
        hint="Keep the annotation on one of them.",
        approvable=False,
    )
