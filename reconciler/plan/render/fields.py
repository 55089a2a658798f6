"""The fields of a resource block: all of a new one, those that differ of a changed one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence

from reconciler.kit.canonical import Json
from reconciler.kit.text import count
from reconciler.plan.masking import masked_manifest
from reconciler.plan.model import Action, Change, FieldDiff
from reconciler.plan.render.lines import Line, label, quoted

_STEP = 4
_EVERY_KIND = ("suspend", "protect", "deletionPolicy", "labels", "annotations")
_FORCES = " # forces replacement"
Tree = dict[str | int, "FieldDiff | Tree"]


def field_lines(change: Change, indent: int) -> Iterator[Line]:
    """The inside of a resource block. `indent` is the column of the fields' names."""
    match change.action:
        case Action.CREATE:
            yield from _all(_flat(masked_manifest(change.key.kind, change.after)), "+", indent)
            yield from _identity(change, indent)
        case Action.DELETE:
            yield from _all(_flat(masked_manifest(change.key.kind, change.before)), "-", indent)
        case Action.UPDATE | Action.REPLACE:
            shown = _flat(masked_manifest(change.key.kind, change.after))
            yield from _differing(_tree(change.diffs), shown, indent)
            if change.previous_server is not None:
                yield from _identity(change, indent)
        case Action.FORGET | Action.NO_OP:
            yield from _hidden(len(_flat(change.before)), "attribute", indent)


def _flat(manifest: Mapping[str, Json] | None) -> dict[str, Json]:
    """The fields as people think of them: a kind's own, then those of every kind; nothing that is not set."""
    fields: dict[str, Json] = {}
    for part in ("spec", "metadata"):
        inner = (manifest or {}).get(part)
        if isinstance(inner, Mapping):
            fields |= {k: v for k, v in inner.items() if not (part == "metadata" and k == "name")}
    for name in _EVERY_KIND:
        if (value := fields.pop(name, False)) is not False:
            fields[name] = value
    return {name: value for name, inner in fields.items() if (value := _set(inner)) not in (None, {}, [])}


def _set(value: Json) -> Json:
    """A value without what is not set in it, at any depth."""
    if isinstance(value, Mapping):
        pruned = {name: _set(inner) for name, inner in value.items()}
        return {name: inner for name, inner in pruned.items() if inner not in (None, {}, [])}
    if isinstance(value, list | tuple):
        return [_set(item) for item in value]
    return value


def _identity(change: Change, indent: int) -> Iterator[Line]:
    for name, value in sorted(change.identity.items()):
        camel = re.sub(r"_([a-z])", lambda m: m[1].upper(), name)
        yield Line(indent, f"{camel} = {quoted(value)}", "+")


def _all(fields: Mapping[str, Json], symbol: str, indent: int) -> Iterator[Line]:
    gone = " -> null" if symbol == "-" else ""
    for name, value in fields.items():
        match value:
            case Mapping():
                yield Line(indent, f"{label(name)} {{", symbol)
                yield from _all(value, symbol, indent + _STEP)
                yield Line(indent, "}")
            case list() | tuple():
                yield Line(indent, f"{label(name)} = [", symbol)
                for item in value:
                    yield Line(indent + _STEP, f"{quoted(item)},", symbol)
                yield Line(indent, f"]{gone}")
            case _:
                yield Line(indent, f"{label(name)} = {quoted(value)}{gone}", symbol)


def _tree(diffs: Sequence[FieldDiff]) -> Tree:
    """Diffs by path, without the words `spec` and `metadata`."""
    root: Tree = {}
    for diff in diffs:
        path = diff.path[1:] if diff.path[0] in ("spec", "metadata") and len(diff.path) > 1 else diff.path
        node = root
        for part in path[:-1]:
            inner = node.setdefault(part, {})
            if isinstance(inner, FieldDiff):
                break
            node = inner
        node[path[-1]] = diff
    return root


def _differing(tree: Tree, shown: Json, indent: int) -> Iterator[Line]:
    for name, found in tree.items():
        if isinstance(found, FieldDiff):
            yield from _leaf(name, found, indent)
        else:
            yield Line(indent, f"{label(name)} {{", "~")
            yield from _differing(found, _inside(shown, name), indent + _STEP)
            yield Line(indent, "}")
    if isinstance(shown, Mapping):
        yield from _hidden(sum(1 for name in shown if name not in tree), "attribute", indent)


def _inside(shown: Json, name: str | int) -> Json:
    if isinstance(shown, Mapping):
        return shown.get(str(name))
    if isinstance(shown, list | tuple) and isinstance(name, int) and name < len(shown):
        item: Json = shown[name]
        return item
    return None


def _leaf(name: str | int, diff: FieldDiff, indent: int) -> Iterator[Line]:
    forces = _FORCES if diff.forces_replacement else ""
    before, after = diff.before, diff.after
    if isinstance(before, list | tuple) or isinstance(after, list | tuple):
        yield from _list(name, before, after, forces, indent)
    elif before is None:
        yield Line(indent, f"{label(name)} = {quoted(after)}{forces}", "+")
    elif after is None:
        yield Line(indent, f"{label(name)} = {quoted(before)} -> null{forces}", "-")
    elif diff.sensitive:
        yield Line(indent, f"{label(name)} = {quoted(after)}{forces}", "~")
    else:
        yield Line(indent, f"{label(name)} = {quoted(before)} -> {quoted(after)}{forces}", "~")


def _list(name: str | int, before: Json, after: Json, forces: str, indent: int) -> Iterator[Line]:
    old = [quoted(_set(v)) for v in before] if isinstance(before, list | tuple) else []
    new = [quoted(_set(v)) for v in after] if isinstance(after, list | tuple) else []
    symbol = "+" if before is None else "-" if after is None else "~"
    yield Line(indent, f"{label(name)} = [", symbol)
    same = 0
    for tag, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            same += b - a
            continue
        for item in old[a:b]:
            yield Line(indent + _STEP, f"{item},", "-")
        for item in new[c:d]:
            yield Line(indent + _STEP, f"{item},", "+")
    yield from _hidden(same, "element", indent + _STEP)
    yield Line(indent, f"]{forces}")


def _hidden(number: int, noun: str, indent: int) -> Iterator[Line]:
    if number:
        yield Line(indent, f"# ({count(number, f'unchanged {noun}')} hidden)", role="dim")
