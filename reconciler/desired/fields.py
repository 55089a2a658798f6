"""The fields of the kinds as data: path, type in words, default, allowed values, description.

Read from the models once. Messages, `explain`, the schemas' titles and the test of docs/spec take it from here.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from reconciler.desired.kinds import MODELS, Kind
from reconciler.desired.kinds.common import Means
from reconciler.desired.kinds.defaults import DefaultsSpec

ModelType = type[BaseModel]


@dataclass(frozen=True)
class FieldDoc:
    """One field of a kind.

    `path` has its YAML spelling without the kind (`("spec", "phpVersion")`). `type` is in words; `default` is YAML in
    one line, or "" for none; `allowed` are all values if they are few; `rule` is what a text has to look like.
    `model` is set where the field, or each item of its list, has fields of its own; `free` where it is a map with keys of the user's choice.
    """

    path: tuple[str, ...]
    type: str
    required: bool
    default: str
    allowed: tuple[str, ...]
    rule: str
    description: str
    noun: str = "value"
    """What one value, or one item of a list, is called."""
    pattern: str = ""
    """The regular expression of such a value, or "" for none."""
    model: ModelType | None = None
    free: bool = False

    @property
    def name(self) -> str:
        """The last word of the path."""
        return self.path[-1]


@cache
def children(model: type[BaseModel], path: tuple[str, ...] = ()) -> Mapping[str, FieldDoc]:
    """The fields of a model by their YAML names, in the order of declaration."""
    return {
        (info.alias or name): _describe((*path, info.alias or name), info)
        for name, info in model.model_fields.items()
    }


def root(of: Kind | ModelType) -> ModelType:
    """The model of a kind; another document's model is its own root."""
    return MODELS[of] if isinstance(of, Kind) else of


def walk(of: Kind | ModelType) -> Iterator[FieldDoc]:
    """Every field of a kind or another document, parents first."""

    def below(model: type[BaseModel], path: tuple[str, ...]) -> Iterator[FieldDoc]:
        for field in children(model, path).values():
            yield field
            if field.model is not None:
                yield from below(field.model, field.path)

    return below(root(of), ())


def find(of: Kind | ModelType, path: Sequence[str | int]) -> FieldDoc | None:
    """The field at a path, or None. Indices are passed over; keys of free maps belong to the map."""
    model: type[BaseModel] | None = root(of)
    found: FieldDoc | None = None
    for part in path:
        if isinstance(part, int) or (found is not None and found.free):
            continue
        if model is None:
            return None
        found = children(model, found.path if found else ()).get(part)
        if found is None:
            return None
        model = found.model
    return found


def _describe(path: tuple[str, ...], info: FieldInfo) -> FieldDoc:
    annotation = _without_none(info.annotation)
    words = _Words.of(annotation, tuple(info.metadata))
    return FieldDoc(
        path=path,
        type=words.type,
        required=info.is_required(),
        default="" if info.is_required() else _default(info),
        allowed=words.allowed,
        rule=words.rule,
        description=info.description or "",
        noun=words.noun,
        pattern=words.pattern,
        model=words.model,
        free=get_origin(annotation) is dict,
    )


def _default(info: FieldInfo) -> str:
    match info.get_default(call_default_factory=True):
        case None:
            return "none"
        case bool() as flag:
            return "true" if flag else "false"
        case BaseModel() | {}:
            return "{}"
        case tuple() as items:
            return f"[{', '.join(str(i) for i in items)}]"
        case other:
            return str(other)


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, types.UnionType):
        members = [a for a in get_args(annotation) if a is not type(None)]
        if len(members) == 1:
            return members[0]
    return annotation


@dataclass(frozen=True)
class _Words:
    type: str
    many: str = ""
    rule: str = ""
    allowed: tuple[str, ...] = ()
    model: ModelType | None = None
    noun: str = "value"
    pattern: str = ""

    @staticmethod
    def of(annotation: Any, metadata: tuple[Any, ...] = ()) -> _Words:
        """Words for a type annotation; `metadata` is what pydantic has already taken off its `Annotated`."""
        if get_origin(annotation) is Annotated:
            inner, *more = get_args(annotation)
            return _Words.of(inner, (*metadata, *more))
        means = next((m for m in metadata if isinstance(m, Means)), None)
        if means is not None:
            pattern = next((m.pattern for m in metadata if isinstance(getattr(m, "pattern", None), str)), "")
            allowed = _Words.of(annotation).allowed
            return _Words(means.noun, means.many, means.rule, allowed, noun=means.noun, pattern=pattern)
        arguments = get_args(annotation)
        match get_origin(annotation):
            case origin if origin is Literal:
                return _choice(tuple(str(a) for a in arguments))
            case origin if origin is tuple:
                item = _Words.of(arguments[0])
                rule = item.rule or (f"a {item.type}" if item.many == "whole numbers" else "")
                return replace(item, type=f"list of {item.many or item.type}", many="", rule=rule)
            case origin if origin is dict:
                key, value = _Words.of(arguments[0]), _Words.of(_without_none(arguments[1]))
                return _Words(f"map of {key.many or key.type} to {value.many or value.type}", rule=value.rule)
        return _plain(annotation, metadata)


def _plain(annotation: Any, metadata: tuple[Any, ...]) -> _Words:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _Words("map", "maps", model=annotation)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return _choice(tuple(str(member.value) for member in annotation))
    if annotation is bool:
        return _Words("true or false")
    if annotation is int:
        # of an optional number pydantic keeps the bounds within the field that was written
        metadata = tuple(n for m in metadata for n in (m.metadata if isinstance(m, FieldInfo) else (m,)))
        low = next((m.ge for m in metadata if isinstance(m, annotated_types.Ge)), None)
        high = next((m.le for m in metadata if isinstance(m, annotated_types.Le)), None)
        span = f" from {low} to {high}" if low is not None and high is not None else ""
        return _Words(f"whole number{span}", "whole numbers")
    return _Words("text", "texts") if annotation is str else _Words("value", "values")


def _choice(allowed: tuple[str, ...]) -> _Words:
    if len(allowed) == 1:
        return _Words(f"the word {allowed[0]}", allowed[0], allowed=allowed)
    return _Words(f"one of {', '.join(allowed)}", f"{', '.join(allowed)}", allowed=allowed)


def spec_model(kind: Kind) -> type[BaseModel]:
    """The model of a kind's `spec`; for Defaults that of `DefaultsSpec`."""
    found = children(MODELS[kind])["spec"].model
    return found if found is not None else DefaultsSpec
