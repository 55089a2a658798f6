"""What `reconciler explain site.spec.phpVersion` prints: one field, or a map and what is in it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.desired import fields
from reconciler.desired.fields import FieldDoc
from reconciler.desired.kinds import MODELS, Kind
from reconciler.errors import UsageFault
from reconciler.kit.text import did_you_mean


@dataclass(frozen=True)
class Explanation:
    """One field for people.

    `path` begins with the kind as manifests write it. `type` is in words, `default` is YAML in one line ("" for none),
    `allowed` all values where they are few, `rule` what a text has to look like. `children` are the fields of a map.
    """

    path: str
    type: str
    required: bool
    default: str
    allowed: tuple[str, ...]
    rule: str
    description: str
    children: tuple[Explanation, ...] = ()


def explain(path: str) -> Explanation:
    """The field at a dotted path that begins with a kind, in any case. Raises UsageFault, with what was probably meant."""
    word, *rest = path.strip().strip(".").split(".")
    kinds = {kind.value.lower(): kind for kind in Kind}
    kind = kinds.get(word.lower()) or kinds.get(word.lower().removesuffix("s"))
    if kind is None:
        hint = did_you_mean(word.lower(), kinds) or f"kinds: {', '.join(k.value for k in Kind)}"
        raise UsageFault(f"there is no kind {word[:60]!r}", hint=hint)
    model: fields.ModelType | None = MODELS[kind]
    found: FieldDoc | None = None
    for part in rest:
        known = fields.children(model, found.path if found else ()) if model is not None else {}
        if part not in known:
            raise UsageFault(
                f"{kind.value} has no field {'.'.join(rest)[:120]!r}", hint=_meant(kind, part, found)
            )
        found = known[part]
        model = found.model
    if found is None:
        about = (MODELS[kind].__doc__ or "").strip()
        below = tuple(_one(kind, field) for field in fields.children(MODELS[kind]).values())
        return Explanation(
            kind.value,
            "manifest",
            required=False,
            default="",
            allowed=(),
            rule="",
            description=about,
            children=below,
        )
    return _one(kind, found, inner=True)


def _one(kind: Kind, field: FieldDoc, *, inner: bool = False) -> Explanation:
    below = fields.children(field.model, field.path).values() if inner and field.model is not None else ()
    return Explanation(
        path=".".join((kind.value, *field.path)),
        type=field.type,
        required=field.required,
        default=field.default,
        allowed=field.allowed,
        rule=field.rule,
        description=field.description,
        children=tuple(_one(kind, child) for child in below),
    )


def _meant(kind: Kind, part: str, parent: FieldDoc | None) -> str:
    """The field of the same map that was probably meant, else one of that name anywhere in the kind."""
    if parent is not None and parent.free:
        return f"{kind.value.lower()}.{'.'.join(parent.path)} is a map with keys of your own"
    if parent is not None and parent.model is None:
        return f"{kind.value.lower()}.{'.'.join(parent.path)} has no fields"
    if parent is None:
        known = fields.children(MODELS[kind])
    else:
        known = fields.children(parent.model, parent.path) if parent.model is not None else {}
    elsewhere = {field.name: ".".join(field.path) for field in fields.walk(kind)}
    if part in elsewhere:
        return f"did you mean {elsewhere[part]!r}?"
    return did_you_mean(part, known) or did_you_mean(part, elsewhere) or f"fields: {', '.join(known)}"
