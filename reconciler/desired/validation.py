"""What pydantic found wrong with a document, as problems: stable codes, plain sentences, suggestions.

Values of `env` and of key fields are never repeated: what is in the wrong place there may be a secret.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from reconciler.desired import fields
from reconciler.desired.fields import FieldDoc
from reconciler.desired.kinds import Kind
from reconciler.desired.scalars import OTHER_BOOLEANS
from reconciler.kit.text import did_you_mean

_SILENT = frozenset(
    {
        "env",
        "publicKey",
        "hostKey",
        "key",
        "signingKeys",
        "webhookSecret",
        "secret",
        "password",
        "token",
    }
)
_SHOWN = 60
_OF_VALUES = frozenset(
    {
        "string_pattern_mismatch", "value_error", "private_key", "listed_twice", "exactly_one",
        "string_too_long", "string_too_short", "too_long", "too_short",
        "greater_than_equal", "less_than_equal", "greater_than", "less_than",
    }
)  # fmt: skip
"""pydantic's words for a value of the right type that is not taken."""

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Fault:
    """One error of a document, without its place. `at_key` when the key, not the value, is what is wrong."""

    path: Path
    code: str
    message: str
    hint: str = ""
    at_key: bool = False


@dataclass(frozen=True)
class Subject:
    """What the errors are about: the kind (or other model) whose fields are meant, and how its paths are told to the user.

    `prefix` is put before each path of the errors, both in messages and in places: `("spec", "values")` for the values
    of Defaults, which are part of a `spec` themselves (`inside`). `written` gives a plain scalar as it is in the file.
    """

    kind: Kind | fields.ModelType
    prefix: Path = ()
    inside: Path = ()
    written: Callable[[Path], str | None] = lambda path: None

    def field(self, path: Sequence[str | int]) -> FieldDoc | None:
        """The field that an error's path means."""
        return fields.find(self.kind, (*self.inside, *path))

    def known(self, path: Path) -> dict[str, FieldDoc]:
        """The fields that a map may have, by name."""
        at = (*self.inside, *path)
        if not at:
            return dict(fields.children(fields.root(self.kind)))
        parent = fields.find(self.kind, at)
        if parent is None or parent.model is None:
            return {}
        return dict(fields.children(parent.model, parent.path))


def faults(error: ValidationError, subject: Subject, *, partial: bool = False) -> Iterator[Fault]:
    """The errors of one document. With `partial`, missing fields are no fault."""
    found = error.errors(include_url=False)
    for details in found:
        if partial and details["type"] == "missing":
            continue
        if details["type"] == "too_short" and any(_below(other["loc"], details["loc"]) for other in found):
            continue  # the list is short of items because those in it are wrong
        yield _fault(details, subject)


def _below(path: Path, other: Path) -> bool:
    return len(path) > len(other) and path[: len(other)] == other


def dotted(path: Path) -> str:
    """`spec.aliases[0]`; keys with dots or slashes are quoted in brackets."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.replace("-", "").replace("_", "").isalnum():
            text += f".{part}" if text else part
        else:
            text += f"[{part!r}]"
    return text or "the document"


def _fault(details: ErrorDetails, subject: Subject) -> Fault:
    path: Path = details["loc"]
    of_key = bool(path) and path[-1] == "[key]"
    if of_key:
        path = path[:-1]
    where = (*subject.prefix, *path)
    told = dotted(where)
    field = subject.field(path)
    match details["type"]:
        case "missing":
            about = field.description.rstrip(".") if field else ""
            return Fault(where, "missing-field", f"{told} is missing", about)
        case "extra_forbidden":
            return Fault(
                where, "unknown-field", f"{told} is no known field", _suggest(path, subject), at_key=True
            )
        case "literal_error" | "enum":
            return _unknown_value(details, subject, path, field)
        case "string_pattern_mismatch" if of_key:
            return _bad_key(told, where)
        case kind if kind in _OF_VALUES:
            return _bad_value(details, where, field)
        case _:
            return _wrong_type(details, subject, path, field)


def _bad_key(told: str, where: Path) -> Fault:
    rule = "at most 63 letters, digits, dots, slashes, hyphens and underscores"
    if "env" in where:
        rule = "capital letters, digits and underscores, not beginning with a digit"
    elif "headers" in where:
        rule = "letters, digits and hyphens, beginning with a letter"
    return Fault(where, "bad-value", f"{told}: the key is not allowed", f"write {rule}", at_key=True)


def _bad_value(details: ErrorDetails, where: Path, field: FieldDoc | None) -> Fault:
    """A value of the right type that its field does not take."""
    told, value = dotted(where), details["input"]
    rule = f"write {field.rule}" if field and field.rule else ""
    match details["type"]:
        case "string_pattern_mismatch" | "value_error" if isinstance(value, str) and "PRIVATE KEY" in value:
            return _private_key(told, where)
        case "private_key":
            return _private_key(told, where)
        case "string_pattern_mismatch":
            return _bad_text(details, told, where, rule, field)
        case "string_too_long" | "string_too_short" | "too_long" | "too_short":
            hint = rule if details["type"].startswith("string") else ""
            return Fault(where, "bad-length", f"{told} {_bounds(details)}", hint)
        case "greater_than_equal" | "less_than_equal" | "greater_than" | "less_than":
            kind = f"a {field.type}" if field else "a number in range"
            if field and isinstance(where[-1], int):  # an item of a list
                kind = field.rule
            return Fault(where, "out-of-range", f"{told} is {_show(where, value)}, not {kind}")
        case "listed_twice":
            said = "lists something twice" if _silent(where) else details["msg"]
            return Fault(where, "listed-twice", f"{told} {said}", "remove one of them")
        case "exactly_one":
            return Fault(where, "exactly-one", f"{told} {details['msg']}", _left_empty(value))
        case _:
            reason = str(details.get("ctx", {}).get("error", details["msg"]))
            return Fault(where, "bad-value", f"{told} {reason}")


def _private_key(told: str, where: Path) -> Fault:
    hint = "remove it, rewrite the history and make a new key: this one is no longer private"
    return Fault(where, "private-key", f"{told} holds a private key", hint)


def _suggest(path: Path, subject: Subject) -> str:
    """The field that was probably meant: one of the same map, or of that name elsewhere in the kind."""
    word = str(path[-1])
    if path == ("status",):
        return "a status is recorded by the daemon, never in git"
    siblings = subject.known(path[:-1])
    close = did_you_mean(_camel(word), siblings)
    if close:
        return close
    lowered = {name.lower(): name for name in siblings}
    if word.replace("-", "").replace("_", "").lower() in lowered:
        return f"did you mean {lowered[word.replace('-', '').replace('_', '').lower()]!r}?"
    elsewhere = [f for f in fields.walk(subject.kind) if f.name == _camel(word)]
    if elsewhere:
        return f"did you mean {'.'.join(elsewhere[0].path)!r}?"
    return f"known fields: {', '.join(siblings)}" if siblings else ""


def _camel(word: str) -> str:
    head, *rest = word.replace("-", "_").split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in rest)


def _unknown_value(details: ErrorDetails, subject: Subject, path: Path, field: FieldDoc | None) -> Fault:
    where = (*subject.prefix, *path)
    allowed = field.allowed if field else ()
    value = details["input"]
    hint = did_you_mean(value, allowed) if isinstance(value, str) else ""
    if value in allowed:  # the words of numbers
        hint = "write it without quotes"
    if not hint and isinstance(value, bool) and "off" in allowed:
        hint = "write the word in quotes"
    one = f"one of {', '.join(allowed)}" if len(allowed) > 1 else "".join(allowed)
    return Fault(where, "unknown-value", f"{dotted(where)} is {_show(where, value)}; it must be {one}", hint)


def _bad_text(details: ErrorDetails, told: str, where: Path, rule: str, field: FieldDoc | None) -> Fault:
    value = details["input"]
    noun = field.noun if field else "value"
    if _silent(where):
        return Fault(where, "bad-value", f"{told} is not a valid {noun} (it is not shown here)", rule)
    lower = value.lower() if isinstance(value, str) else ""
    if field and field.pattern and lower != value and re.search(field.pattern, lower):
        rule = f"write {lower}: only lower case is allowed"
    return Fault(where, "bad-value", f"{told} is {_show(where, value)}, which is no {noun}", rule)


def _left_empty(value: object) -> str:
    """What to write when the one choice of several was left empty, which means that it was not made."""
    if isinstance(value, dict) and list(value.values()) == [None]:
        return f"write `{next(iter(value))}: {{}}`, or what belongs there"
    return ""


def _bounds(details: ErrorDetails) -> str:
    context = details.get("ctx", {})
    noun = "characters" if details["type"].startswith("string") else "items"
    if "max_length" in context:
        return f"has more than {context['max_length']} {noun}"
    least = context.get("min_length", 1)
    return f"has fewer than {least} {noun}" if least > 1 else "must not be empty"


def _wrong_type(details: ErrorDetails, subject: Subject, path: Path, field: FieldDoc | None) -> Fault:
    where = (*subject.prefix, *path)
    value = details["input"]
    wanted = _wanted(details, field, path)
    # The text of the file, since 8.30 has become 8.3 on the way here.
    written = None if _silent(where) else subject.written(where)
    message = f"{dotted(where)} must be {wanted}, not {_kind_of(where, value, written)}"
    return Fault(where, "wrong-type", message, _type_hint(details["type"], field, value, written))


def _wanted(details: ErrorDetails, field: FieldDoc | None, path: Path) -> str:
    match details["type"]:
        case "string_type":
            return "text"
        case "bool_type":
            return "true or false"
        case "int_type" | "int_from_float":
            return "a whole number"
        case "tuple_type" | "list_type":
            return f"a {field.type}" if field else "a list"
        case "dict_type" | "model_type" | "model_attributes_type":
            return "a map" if field is None or field.model else f"a {field.type}"
        case other:
            return f"of another kind ({other.replace('_', ' ')})"


def _type_hint(kind: str, field: FieldDoc | None, value: object, written: str | None) -> str:
    """What to write instead; `written` is None when the value must not be repeated."""
    rule = f"write {field.rule}" if field and field.rule else ""
    if value is None:
        if kind == "model_type":
            return "write `{}`, or what belongs there"
        return rule if field and field.required else "leave the field out for its default"
    if kind == "string_type" and isinstance(value, (bool, int, float)):
        if field and field.pattern and written and not re.search(field.pattern, written):
            return rule
        return f'write "{written}" in quotes' if written else "write it in quotes"
    if kind == "bool_type" and isinstance(value, str) and value.lower() in OTHER_BOOLEANS:
        return f"write {'true' if OTHER_BOOLEANS[value.lower()] else 'false'}, without quotes"
    if kind == "int_type" and isinstance(value, str) and value.isascii() and value.isdigit():
        return "write it without quotes"
    if kind in ("tuple_type", "list_type") and written:
        plain = isinstance(value, int) and field is not None and not field.pattern
        return f"write [{written}]" if plain else f'write ["{written}"]'
    return ""


def _silent(path: Path) -> bool:
    return any(part in _SILENT for part in path)


def _show(path: Path, value: object) -> str:
    if _silent(path):
        return "not shown"
    if isinstance(value, (dict, list)):
        return _kind_of(path, value)
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _kind_of(path: Path, value: Any, written: str | None = None) -> str:
    match value:
        case None:
            return "empty"
        case dict():
            return "a map"
        case list():
            return "a list"
        case bool():
            return "true or false" if _silent(path) else json.dumps(value)
        case int() | float():
            return "a number" if _silent(path) else f"the number {written or json.dumps(value)}"
        case _:
            return "text"
