"""Drift as ready-to-paste rules for `spec.drift.ignore`, each with the place in the fleet where it belongs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby

from reconciler.desired.fleet import FieldPath, Fleet, Key
from reconciler.desired.problems import Source
from reconciler.plan.ignore import as_glob, fields_of
from reconciler.plan.model import DriftItem

_SPEC: FieldPath = ("spec",)
_DRIFT: FieldPath = ("spec", "drift")
_IGNORE = ("spec", "drift", "ignore")


@dataclass(frozen=True)
class _Place:
    """The key below which rules belong, and the keys that are still missing in between."""

    key: Source
    missing: tuple[str, ...] = ()
    note: str = ""


def rules_as_yaml(items: Sequence[DriftItem], fleet: Fleet, until: date, reason: str) -> str:
    """Rules that leave these differences alone to the end of that day, one resource after another.

    `fleet` is the revision that the rules are to be added to. Each part is for pasting below the line that it names,
    indented for block style; the rules count once they are committed and applied.
    """
    ordered = sorted(items, key=lambda item: (item.key, item.server, item.step))
    lines = [
        line
        for key, mine in groupby(ordered, key=lambda item: item.key)
        for line in _part(_place(fleet, key), key, list(mine), until, reason)
    ]
    return "".join(f"{line}\n" for line in lines)


def _part(
    place: _Place | None, key: Key, items: Sequence[DriftItem], until: date, reason: str
) -> Iterator[str]:
    if place is None:
        yield f"# {key}: this revision has no sound manifest of it to paste this into"
        indent = 0
    else:
        yield f"# {key}: paste below {place.key}{place.note}"
        indent = place.key.column - 1 + 2
    for word in place.missing if place is not None else _IGNORE:
        yield f"{' ' * indent}{word}:"
        indent += 2
    inner = " " * indent
    for item in items:
        for field in fields_of(item) or (None,):
            yield f"{inner}- step: {_quoted(as_glob(item.step))}"
            if field is not None:
                yield f"{inner}  field: {field}"
            yield f"{inner}  until: {until.isoformat()}"
            yield f"{inner}  reason: {_quoted(reason)}"


def _place(fleet: Fleet, key: Key) -> _Place | None:
    """None for a resource that the revision does not declare, or whose manifest has problems."""
    entry = fleet.entries.get(key)
    spec, drift, ignore = (fleet.locate(key, path) for path in (_SPEC, _DRIFT, _IGNORE))
    if entry is None or spec is None or drift is None or ignore is None:
        return None
    if _IGNORE in entry.origin.defaulted:
        return _Place(ignore, note=", which is in Defaults and counts for all that have values from there")
    if ignore != drift:
        return _Place(ignore)
    if drift != spec:
        return _Place(drift, ("ignore",))
    return _Place(spec, ("drift", "ignore"))


def _quoted(text: str) -> str:
    """A double-quoted scalar: JSON's form is also YAML's."""
    return json.dumps(text, ensure_ascii=False)
