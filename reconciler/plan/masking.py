"""The one place that knows which values of a manifest are not shown, and replaces them."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.desired.fleet import FieldPath
from reconciler.desired.kinds import Kind
from reconciler.kit.canonical import Json
from reconciler.plan.kinds import RULES

SENSITIVE = "(sensitive value)"
UNKNOWN = "(known after apply)"


def masked(kind: Kind, value: Json, path: FieldPath = ()) -> Json:
    """`value`, found at `path` of a manifest of `kind`, with every sensitive value in it replaced; what is not set is none."""
    rules = RULES[kind]
    if value is not None and rules.hides(path):
        return SENSITIVE
    if isinstance(value, Mapping):
        return {key: masked(kind, inner, (*path, key)) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [masked(kind, inner, (*path, index)) for index, inner in enumerate(value)]
    return value


def masked_manifest(kind: Kind, manifest: Mapping[str, Json] | None) -> dict[str, Json] | None:
    """A manifest that may be shown, or None."""
    if manifest is None:
        return None
    if not RULES[kind].sensitive:
        return dict(manifest)
    return {key: masked(kind, inner, (key,)) for key, inner in manifest.items()}


def marks(kind: Kind, value: Json, path: FieldPath = ()) -> Json:
    """Terraform's `*_sensitive` form: `true` where a value is sensitive, maps only where something below is, else False."""
    if not RULES[kind].sensitive:
        return False
    if value is None:
        return False
    if RULES[kind].hides(path):
        return True
    if isinstance(value, Mapping):
        inner = {key: marks(kind, child, (*path, key)) for key, child in value.items()}
        return {key: mark for key, mark in inner.items() if mark is not False} or False
    return False
