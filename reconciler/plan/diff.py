"""Two canonical manifests of one resource become the list of fields that differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from reconciler.desired.fleet import FieldPath
from reconciler.desired.kinds import Kind
from reconciler.desired.kinds.common import MOVED_FROM
from reconciler.desired.problems import Source
from reconciler.kit.canonical import Json
from reconciler.plan.kinds import RULES
from reconciler.plan.masking import masked
from reconciler.plan.model import FieldDiff

_IGNORED = (
    ("apiVersion",),
    ("kind",),
    # Identity: a rename is told by `Change.previous`, and its annotation is an instruction, not state.
    ("metadata", "name"),
    ("metadata", "annotations", MOVED_FROM),
)


@dataclass(frozen=True)
class RawDiff:
    """One field that differs, with its values in clear; None stands for null and for a field that is not there."""

    path: FieldPath
    before: Json
    after: Json


def compare(before: Json, after: Json, path: FieldPath = ()) -> Iterator[RawDiff]:
    """The leaves that differ, in the order of the later manifest.

    Maps are compared key by key; a map that is missing is an empty one. Lists of maps are compared by index, all other
    lists as one value: an order of names has a meaning, an index of a name has none.
    """
    match before, after:
        case Mapping(), Mapping() | None:
            yield from _maps(before, after or {}, path)
        case None, Mapping():
            yield from _maps({}, after, path)
        case ((list() | tuple()), (list() | tuple())) if _of_maps(before) and _of_maps(after):
            for index in range(max(len(before), len(after))):
                yield from compare(_at(before, index), _at(after, index), (*path, index))
        case ((list() | tuple()), (list() | tuple())):
            if list(before) != list(after):
                yield RawDiff(path, before, after)
        case _:
            # `True == 1` in Python, but not in YAML.
            if before != after or type(before) is not type(after):
                yield RawDiff(path, before, after)


def _maps(before: Mapping[str, Json], after: Mapping[str, Json], path: FieldPath) -> Iterator[RawDiff]:
    for key in [*after, *(k for k in before if k not in after)]:
        inner = (*path, key)
        if inner not in _IGNORED:
            yield from compare(before.get(key), after.get(key), inner)


def _of_maps(value: Sequence[Json]) -> bool:
    return bool(value) and all(isinstance(item, Mapping) for item in value)


def _at(value: Sequence[Json], index: int) -> Json:
    return value[index] if index < len(value) else None


def field_diffs(
    kind: Kind,
    before: Mapping[str, Json],
    after: Mapping[str, Json],
    *,
    locate: Callable[[FieldPath], Source | None] = lambda _: None,
    in_place: Callable[[RawDiff], bool] = lambda _: False,
) -> tuple[FieldDiff, ...]:
    """What a plan shows of the difference: sensitive values replaced, places looked up, replacement marked.

    `locate` finds the place of a field of the later manifest. `in_place` says that a field that otherwise forces
    replacement does not this time (its server was renamed).
    """
    rules = RULES[kind]
    found = tuple(compare(before, after))
    telling = tuple(raw for raw in found if not rules.follows(raw.path))
    return tuple(
        FieldDiff(
            path=raw.path,
            before=_shown(kind, raw.before, raw.path),
            after=_shown(kind, raw.after, raw.path),
            sensitive=rules.hides(raw.path),
            forces_replacement=rules.forces(raw.path) and not in_place(raw),
            source=_place(raw.path, locate),
        )
        for raw in telling or found
    )


def _shown(kind: Kind, value: Json, path: FieldPath) -> Json:
    # A value that is not there is no secret, and saying so tells "added" from "changed".
    return None if value is None else masked(kind, value, path)


def _place(path: FieldPath, locate: Callable[[FieldPath], Source | None]) -> Source | None:
    """The place of the field, or of the nearest thing around it (a field that was removed has no place)."""
    for length in range(len(path), -1, -1):
        if (found := locate(path[:length])) is not None:
            return found
    return None
