"""One resource of a plan as a block of lines: headline, reason, risk, fields, steps on the node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from reconciler.plan.model import Action, Change, DriftItem, PlannedStep
from reconciler.plan.render.fields import field_lines
from reconciler.plan.render.lines import Line, quoted
from reconciler.plan.render.style import printable

_SYMBOLS = {
    Action.CREATE: "+",
    Action.UPDATE: "~",
    Action.DELETE: "-",
    Action.REPLACE: "-/+",
    Action.FORGET: ".",
    Action.NO_OP: "",
}
_HEADLINES = {
    Action.CREATE: "will be created",
    Action.UPDATE: "will be updated in-place",
    Action.DELETE: "will be destroyed",
    Action.REPLACE: "must be replaced",
    Action.FORGET: "will no longer be managed by Reconciler, but will not be destroyed",
    Action.NO_OP: "is left as it is",
}
_OPERATIONS = {"create": "+", "update": "~", "delete": "-", "none": ""}
_HEAD, _FIELD = 4, 8


def symbol(change: Change) -> str:
    """Terraform's symbol of the action."""
    if change.action is Action.REPLACE and change.retained:
        return "./+"
    return _SYMBOLS[change.action]


def resource_lines(change: Change, *, detail: bool) -> Iterator[Line]:
    """The block of one change; `detail` lists every step instead of their counts."""
    yield Line(2, f"# {change.address} {_HEADLINES[change.action]}", role="heading")
    if change.previous is not None:
        yield Line(2, f"# (moved from {change.previous})")
    if change.action is Action.REPLACE and change.retained:
        yield Line(2, "# (the old one is left as it is, and only forgotten)")
    yield Line(2, f"# because {because(change)}")
    if change.risks:
        yield Line(2, f"# risk: {', '.join(change.risks)}")
    yield Line(_HEAD, f'resource "{change.key.kind.value}" {quoted(change.key.name)} {{', symbol(change))
    yield from field_lines(change, _FIELD)
    yield Line(_HEAD, "}")
    yield from _steps(change, detail=detail)


def because(change: Change) -> str:
    """The reason with its place."""
    place = f" ({change.source.path}:{change.source.line})" if change.source and change.source.path else ""
    return printable(change.reason + place)


def _steps(change: Change, *, detail: bool) -> Iterator[Line]:
    leaving = [s for s in change.steps if s.op == "delete"] if change.previous_server else []
    here = [s for s in change.steps if s not in leaving]
    for server, steps in ((change.previous_server, leaving), (change.server, here)):
        if not steps or server is None:
            continue
        yield Line(_HEAD, f"# on {server}: {counts(steps)}", role="dim")
        if detail:
            for step in steps:
                yield Line(_FIELD, printable(step.summary or step.key), _OPERATIONS.get(step.op, ""))


def counts(steps: list[PlannedStep]) -> str:
    """`2 steps to create, 1 to update`."""
    found = Counter(step.op for step in steps)
    words = [f"{found[op]} to {word}" for op, word in _WORDS.items() if found[op]]
    first, rest = words[0], words[1:]
    number, _, what = first.partition(" ")
    noun = "step" if number == "1" else "steps"
    return ", ".join([f"{number} {noun} {what}", *rest])


_WORDS = {"create": "create", "update": "update", "delete": "delete", "none": "check again"}


def drift_lines(items: list[DriftItem]) -> Iterator[Line]:
    """The drift of one resource on one node; `items` is not empty."""
    yield Line(2, f"# {items[0].key} on {items[0].server} has changed", role="heading")
    for item in items:
        # What an apply would create is missing on the node; what it would delete was added there.
        mark = {"create": "-", "delete": "+"}.get(item.action, "~")
        note = f" # {printable(item.note)}" if item.note else ""
        yield Line(_HEAD, f"{printable(item.step)}{note}", mark)
        for name, applied, observed in item.changes:
            yield Line(_FIELD, f"{printable(name)} = {quoted(applied)} -> {quoted(observed)}", "~")
