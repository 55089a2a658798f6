"""The sentence that says why a change is in the plan."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.blueprint.upgrading import Upgrade
from reconciler.desired.fleet import FieldPath, Key
from reconciler.kit.text import count
from reconciler.plan.model import Action, FieldDiff

_NAMED = 3
_COMMIT: FieldPath = ("spec", "source", "revision", "commit")


def dotted(path: FieldPath) -> str:
    """`spec.aliases[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".")


def changed(diffs: Sequence[FieldDiff]) -> str:
    """Which fields changed, the forcing ones first."""
    forcing = [d for d in diffs if d.forces_replacement]
    if forcing:
        return f"{_list([dotted(d.path) for d in forcing])} changed, which cannot be done in place"
    if moved := next((d for d in diffs if d.path == _COMMIT and d.before and d.after), None):
        others = [d for d in diffs if d is not moved]
        also = f"; {changed(others)}" if others else ""
        return f"source: commit {str(moved.before)[:12]} -> {str(moved.after)[:12]}{also}"
    return f"{_list([dotted(d.path) for d in diffs])} changed"


def renamed(previous: Key, diffs: Sequence[FieldDiff]) -> str:
    """A rename, and what else changed with it."""
    also = f"; {changed(diffs)}" if diffs else ""
    return f"renamed from {previous} by `reconciler/moved-from`{also}"


def removed(action: Action, kind: str) -> str:
    """What a removed manifest means for this resource."""
    if action is Action.DELETE:
        return "its manifest was removed"
    if kind == "Server":
        return "its manifest was removed; the node itself is left as it is"
    return "its manifest was removed and its recorded deletionPolicy is `retain`, so only the record goes"


def dependency(causes: Sequence[Key]) -> str:
    """Another resource changes what this one has on its node."""
    return f"{_list([str(key) for key in causes])} {'changes' if len(causes) == 1 else 'change'} what it has on its node"


def upgrade(asked: Sequence[Upgrade]) -> str:
    """Which upgrades of software were asked for."""
    return f"an upgrade was asked for: {_list([one.words for one in asked])}"


def waiting(why: str, diffs: int) -> str:
    """Why it is left alone, and how much waits."""
    return f"{why}; {count(diffs, 'changed field')} {'waits' if diffs == 1 else 'wait'}" if diffs else why


NEW = "declared for the first time"
RETRY = "the last reconcile of it failed"
ROTATION = "a new password of the database is on its way to the node"
ENGINE = "this version of Reconciler renders it in another way"
SUSPENDED = "`suspend` was set: from now on it is left as it is"
UNCHANGED = "declared as recorded"


def _list(words: Sequence[str]) -> str:
    shown, rest = list(words[:_NAMED]), len(words) - _NAMED
    if rest > 0:
        return f"{', '.join(shown)} and {count(rest, 'other')}"
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))
