"""A plan for a terminal, in Terraform's symbols and sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from reconciler.kit.text import count, short
from reconciler.plan.exits import errored
from reconciler.plan.model import Action, Finding, Plan
from reconciler.plan.render.blocks import because, drift_lines, resource_lines, symbol
from reconciler.plan.render.lines import Line
from reconciler.plan.render.style import Style, plain, printable

_LEGEND = {
    "+": "  + create",
    "~": "  ~ update in-place",
    "-": "  - destroy",
    "-/+": "-/+ destroy and then create replacement",
    ".": "  . forget",
    "./+": "./+ forget and then create replacement",
}
_RULE = "─" * 77
_FEW = 10

NO_CHANGES = "No changes. Your infrastructure matches the configuration."


def as_text(plan: Plan, *, detail: bool = False, style: Style = plain) -> str:
    """The whole plan, ending with a line break. `detail` lists every step, address and untouched resource."""
    parts = [
        _compared(plan),
        *_drift(plan, style),
        *_actions(plan, style, detail=detail),
        *_left_alone(plan, style, detail=detail),
        _result(plan, style),
        *_findings(plan, style, detail=detail),
        *_problems(plan, style),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def summary(plan: Plan) -> str:
    """`Plan: 1 to add, 2 to change, 0 to destroy.` A replacement counts twice."""
    add = change = destroy = forget = 0
    for c in plan.effective:
        add += c.action in (Action.CREATE, Action.REPLACE)
        change += c.action is Action.UPDATE
        destroy += c.destroys
        forget += c.action is Action.FORGET or (c.action is Action.REPLACE and c.retained)
    more = f", {forget} to forget" if forget else ""
    return f"Plan: {add} to add, {change} to change, {destroy} to destroy{more}."


def _compared(plan: Plan) -> str:
    base = short(plan.base_commit) or "nothing"
    text = f"Reconciler compared {short(plan.head_commit) or 'nothing'} with what is recorded of {base}."
    if plan.unreachable:
        names = "".join(f"\n  {name}: {printable(why)}" for name, why in plan.unreachable.items())
        text += f"\nThese nodes could not be asked:{names}"
    return text


def _drift(plan: Plan, style: Style) -> Iterator[str]:
    if not plan.drift:
        return
    yield f"{style('heading', 'Note: Objects have changed outside of Reconciler')}"
    yield "Reconciler detected the following changes made outside of Reconciler since the last apply:"
    for _, items in groupby(plan.drift, key=lambda item: (item.key, item.server)):
        yield _written(drift_lines(list(items)), style)
    yield f"An apply puts back what was applied.\n\n{_RULE}"


def _actions(plan: Plan, style: Style, *, detail: bool) -> Iterator[str]:
    changes = plan.effective
    if not changes:
        return
    used = {symbol(change) for change in changes}
    legend = "\n".join(words for mark, words in _LEGEND.items() if mark in used)
    yield f"Resource actions are indicated with the following symbols:\n{legend}"
    yield (
        "Reconciler planned the following actions, but then encountered a problem:"
        if errored(plan)
        else "Reconciler will perform the following actions:"
    )
    for change in changes:
        yield _written(resource_lines(change, detail=detail), style)


def _left_alone(plan: Plan, style: Style, *, detail: bool) -> Iterator[str]:
    idle = [c for c in plan.changes if c.action is Action.NO_OP]
    told = [c for c in idle if c.reason_code != "unchanged"]
    if told:
        shown = told if detail else told[:_FEW]
        lines = [f"  # {c.address}: {because(c)}" for c in shown]
        if len(told) > len(shown):
            lines.append(f"  # … and {count(len(told) - len(shown), 'other')}")
        yield "Left as they are:\n" + "\n".join(lines)
    if (rest := len(idle) - len(told)) and plan.effective:
        yield style("dim", f"  # ({count(rest, 'unchanged resource')} hidden)")


def _result(plan: Plan, style: Style) -> str:
    if plan.effective:
        return style("heading", summary(plan))
    if errored(plan):
        return (
            style("error", "Planning failed.")
            + " Reconciler encountered an error while generating this plan."
        )
    if plan.drift:
        return style("heading", "No changes.") + " The configuration is as recorded, but nodes have drifted."
    head, _, rest = nothing(plan).partition(". ")
    return f"{style('heading', f'{head}.')} {rest}"


def nothing(plan: Plan) -> str:
    """What to say of a plan without changes: `NO_CHANGES` only where nothing waits."""
    if not plan.held:
        return NO_CHANGES
    return f"No changes. {count(len(plan.held), 'resource')} cannot be applied now; everything else matches the configuration."


def _findings(plan: Plan, style: Style, *, detail: bool) -> Iterator[str]:
    for finding in plan.findings:
        lines = [f"{headline(finding, style)} {printable(finding.message)}"]
        if finding.addresses:
            shown = finding.addresses if detail else finding.addresses[:_FEW]
            rest = len(finding.addresses) - len(shown)
            more = f" and {count(rest, 'other')}" if rest else ""
            lines += ["", f"  {printable(', '.join(shown))}{more}"]
        if finding.hint:
            lines += ["", printable(finding.hint)]
        yield "\n".join(["╷", *(f"│ {line}".rstrip() for line in lines), "╵"])


def headline(finding: Finding, style: Style = plain) -> str:
    """`Error [protected]:`, `Approval needed [mass-deletion]:` or `Warning [move-ignored]:`."""
    if not finding.blocking:
        return style("warning", f"Warning [{finding.code}]:")
    return style("error", f"{'Approval needed' if finding.approvable else 'Error'} [{finding.code}]:")


def _problems(plan: Plan, style: Style) -> Iterator[str]:
    if not plan.problems:
        return
    errors = sum(1 for p in plan.problems if p.severity == "error")
    head = f"{count(errors, 'error')} and {count(len(plan.problems) - errors, 'warning')} in the manifests:"
    yield "\n".join([style("heading", head), *(f"  {printable(str(p))}" for p in plan.problems)])


def _written(lines: Iterable[Line], style: Style) -> str:
    return "\n".join(line.written(style) for line in lines)
