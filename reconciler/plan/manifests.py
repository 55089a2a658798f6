"""Manifests as canonical JSON and back."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.desired.kinds import MODELS, Resource
from reconciler.desired.kinds.common import Kind
from reconciler.kit import canonical
from reconciler.kit.canonical import Json


def to_json(manifest: Resource) -> dict[str, Json]:
    """Canonical JSON of a manifest: YAML spelling, defaults filled in."""
    value: dict[str, Json] = manifest.model_dump(mode="json", by_alias=True)
    return value


def parse(kind: Kind, value: Mapping[str, Json]) -> Resource | None:
    """The manifest of canonical JSON, or None when it was written by a version that knew other fields."""
    try:
        model = MODELS[kind].model_validate_json(canonical.dumps(value))
    except ValueError:
        return None
    return model  # type: ignore[return-value]  # the kinds that are recorded are the members of Resource


def modern(kind: Kind, value: Mapping[str, Json]) -> Mapping[str, Json]:
    """A recorded manifest with the defaults of fields that are newer than the record; itself when it cannot be read.

    Without this, every upgrade that adds a field would show a change in every resource.
    """
    parsed = parse(kind, value)
    return value if parsed is None else to_json(parsed)
