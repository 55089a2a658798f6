"""Encrypted values of manifests: where they are, whether they can be opened, and manifests with them opened."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from reconciler.desired.findings import Finding
from reconciler.desired.fleet import Entry, FieldPath, Fleet, Key, Loaded
from reconciler.desired.kinds import Database, Resource, Site
from reconciler.desired.kinds.secrets import MaySeal, Sealed
from reconciler.desired.problems import Problem, Source
from reconciler.desired.validation import dotted
from reconciler.kit.secret import Secret

Opener = Callable[[str], Secret]
"""What is in an armored text. Raises ValueError, worded to follow a field's name, when that cannot be told."""

_Change = Callable[[FieldPath, Sealed], Sealed]


def sealed(manifest: Resource) -> Iterator[tuple[FieldPath, Sealed]]:
    """The encrypted values of a manifest and their paths."""
    found: list[tuple[FieldPath, Sealed]] = []

    def note(path: FieldPath, value: Sealed) -> Sealed:
        found.append((path, value))
        return value

    _changed(manifest.spec, _spots(type(manifest.spec)), ("spec",), note)
    yield from found


def opened(manifest: Resource, opener: Opener) -> Resource:
    """The manifest with its encrypted values opened. ValueError when one cannot be, with a whole sentence."""

    def change(path: FieldPath, value: Sealed) -> Sealed:
        try:
            return value.with_text(_fitting(value, opener))
        except ValueError as fault:
            raise ValueError(f"{dotted(path)} {fault}") from None

    spots = _spots(type(manifest.spec))
    if not spots:
        return manifest
    return manifest.model_copy(update={"spec": _changed(manifest.spec, spots, ("spec",), change)})


def texts(manifest: Resource) -> Iterator[Secret]:
    """What no output may show of an opened manifest: its encrypted values, and a password in clear."""
    yield from (value.opened for _, value in sealed(manifest) if value.opened is not None)
    if isinstance(manifest, Database) and isinstance(manifest.spec.password, str):
        yield Secret(manifest.spec.password)


def judge(loaded: Loaded, opener: Callable[[], Opener]) -> Loaded:
    """The same fleet, less the resources with a value that cannot be opened or that its field does not take.

    Those are broken: they are kept as they are, and a problem names the place. `opener` is asked for only when something
    is encrypted.
    """
    fleet = loaded.fleet
    given: Opener | None = None
    problems: list[Problem] = []
    broken: set[Key] = set()
    for key, entry in fleet.entries.items():
        for path, value in sealed(entry.manifest):
            given = given or opener()
            try:
                _fitting(value, given)
            except ValueError as fault:
                broken.add(key)
                # where the text is: the map around it may be from here and the text from Defaults
                place = fleet.locate(key, (*path, "age")) or entry.origin.source
                problems.append(_problem(place, path, str(fault)))
        finding = _misfit(entry, given) if given is not None and key not in broken else None
        if finding is not None:
            broken.add(key)
            place = fleet.locate(key, (*finding.path, "age")) or entry.origin.source
            problems.append(Problem(place, finding.code, finding.message, finding.hint))
    if not broken:
        return loaded
    rest = {key: entry for key, entry in fleet.entries.items() if key not in broken}
    return Loaded(
        replace(fleet, entries=rest, broken=fleet.broken | broken),
        tuple(sorted({*loaded.problems, *problems})),
    )


def open_fleet(fleet: Fleet, opener: Callable[[], Opener]) -> tuple[Fleet, dict[Key, str]]:
    """The fleet with everything opened, and why of some resources something could not be: those are as they were."""
    given: Opener | None = None
    changed: dict[Key, Entry] = {}
    locked: dict[Key, str] = {}
    for key, entry in fleet.entries.items():
        if not any(sealed(entry.manifest)):
            continue
        given = given or opener()
        try:
            changed[key] = Entry(opened(entry.manifest, given), entry.origin)
        except ValueError as fault:
            locked[key] = f"{key}: {fault}"
    return (replace(fleet, entries={**fleet.entries, **changed}) if changed else fleet), locked


def _misfit(entry: Entry, opener: Opener) -> Finding | None:
    """What is wrong with values that open, beside others of the manifest."""
    if not isinstance(entry.manifest, Site) or entry.manifest.spec.tls.key is None:
        return None
    from reconciler.desired import certificates  # noqa: PLC0415 - cryptography is slow to import

    whole = opened(entry.manifest, opener)
    return certificates.key_finding(whole) if isinstance(whole, Site) else None


def _problem(place: Source, path: FieldPath, said: str) -> Problem:
    hint = "encrypt it for this daemon: `reconciler secrets encrypt`, or `age --armor -r` with what `reconciler secrets recipient` prints"
    return Problem(place, "locked-secret", f"{dotted(path)} {said}", hint)


def _fitting(value: Sealed, opener: Opener) -> Secret:
    text = opener(value.armored)
    if not value.accepts(text.reveal()):
        # what it holds is not repeated
        raise ValueError(f"opens, but holds something else than {value.rule}")
    return text


def _changed(model: BaseModel, spots: Mapping[str, Any], path: FieldPath, change: _Change) -> BaseModel:
    new = {}
    for name, spot in spots.items():
        value = getattr(model, name)
        field = type(model).model_fields[name]
        after = _value(value, spot, (*path, field.alias or name), change)
        if after is not value:
            new[name] = after
    return model.model_copy(update=new) if new else model


def _value(value: Any, spot: Any, path: FieldPath, change: _Change) -> Any:
    match value:
        case Sealed():
            return change(path, value)
        case BaseModel():
            return _changed(value, spot, path, change)
        case dict() if value:
            after = {key: _value(item, spot, (*path, key), change) for key, item in value.items()}
            return after if any(after[key] is not item for key, item in value.items()) else value
        case tuple() if value:
            items = tuple(_value(item, spot, (*path, place), change) for place, item in enumerate(value))
            return items if any(a is not b for a, b in zip(items, value, strict=True)) else value
        case _:
            return value


@cache
def _spots(model: type[BaseModel]) -> dict[str, Any]:
    """The fields of a model at or below which something may be encrypted; for a model's field those of that model."""
    found = {name: _spot(info.annotation, info) for name, info in model.model_fields.items()}
    return {name: spot for name, spot in found.items() if spot is not None}


def _spot(annotation: Any, info: FieldInfo | None = None) -> Any:
    """True for a value, a map for a model, None when nothing may be encrypted there."""
    if info is not None and any(isinstance(item, MaySeal) for item in info.metadata):
        return True
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _spots(annotation) or None
    arguments = get_args(annotation)
    origin = get_origin(annotation)
    if origin is Annotated:
        return True if any(isinstance(item, MaySeal) for item in arguments) else _spot(arguments[0])
    if origin in (dict, tuple, Union, types.UnionType):
        return next((spot for item in arguments if (spot := _spot(item)) is not None), None)
    return None
