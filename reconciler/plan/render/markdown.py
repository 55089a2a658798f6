"""A plan as a comment on a pull request: a table in sight, the changes folded, never longer than a forge takes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from reconciler.kit.text import count, short
from reconciler.plan.exits import errored
from reconciler.plan.identity import identity
from reconciler.plan.kinds import worst_first
from reconciler.plan.model import Action, Change, Plan, Risk
from reconciler.plan.render.blocks import drift_lines, resource_lines
from reconciler.plan.render.lines import Line
from reconciler.plan.render.style import printable
from reconciler.plan.render.text import headline, nothing, summary

MARKER = "<!-- reconciler:plan -->"
"""First line of every comment, unseen by readers: finds the comment again, to replace it."""

GITHUB_LIMIT = 65_536
_SMALLEST = 2_000
_TAIL = 300
"""Characters kept free for closing what is open and saying what was left out."""
_ROWS = 100
_PROBLEMS = 50
_ADDRESSES = 10
_RECORDS = "(records only)"


def as_markdown(plan: Plan, *, limit: int = GITHUB_LIMIT, detail: bool = False) -> str:
    """The comment, of at most `limit` characters (at least 2,000 are needed; ValueError below that).

    Blocks that do not fit are left out whole and counted; a fence that was opened is always closed. `detail` lists every
    step on the nodes.
    """
    if limit < _SMALLEST:
        raise ValueError(f"a comment needs at least {_SMALLEST} characters, not {limit}")
    page = _Page(limit - _TAIL)
    page.add(f"{MARKER}\n## Reconciler plan\n\n{_headline(plan)}\n")
    page.add(_origin(plan))
    for part in _findings(plan):
        page.add(part)
    for part in _table(plan):
        page.add(part)
    for title, blocks, footer in _folds(plan, detail=detail):
        page.fold(title, blocks, footer)
    return page.text()


@dataclass
class _Page:
    """Collects text up to `room` characters; what does not fit is counted and named at the end."""

    room: int
    parts: list[str] = field(default_factory=list)
    left_out: int = 0

    def add(self, text: str) -> bool:
        """Add the text, or leave it out whole."""
        if len(text) > self.room:
            self.left_out += 1
            return False
        self.parts.append(text)
        self.room -= len(text)
        return True

    def fold(self, title: str, blocks: Sequence[Sequence[str]], footer: str) -> None:
        """A folded fence with as many whole blocks of lines as fit, the first cut at a line if it alone is too long."""
        # No line can end the fence: each begins with a symbol or a blank, and what manifests hold stands in quotes.
        head = f"\n<details><summary>{title}</summary>\n\n```diff\n"
        tail = f"```\n{footer}\n</details>\n"
        note = "# ({} left out here; the whole plan has them)\n"
        spare = self.room - len(head) - len(tail) - len(note) - 40
        body: list[str] = []
        taken = 0
        for block in blocks:
            text = "\n".join(block) + "\n\n"
            if len(text) > spare:
                break
            body.append(text)
            spare -= len(text)
            taken += 1
        if taken == 0 and blocks:
            cut, spare = _cut(blocks[0], spare)
            body += cut
        missing = len(blocks) - taken
        if not body:
            self.left_out += missing
            return
        if missing:
            body.append(note.format(count(missing, "resource")))
        inside = "".join(body).rstrip("\n") + "\n"
        self.add(head + inside + tail)

    def text(self) -> str:
        """The page, with a word on what was left out."""
        if self.left_out:
            more = f"\n_{count(self.left_out, 'part')} left out: the comment would be too long. The whole plan has them._\n"
            return "".join([*self.parts, more])
        return "".join(self.parts)


def _cut(block: Sequence[str], spare: int) -> tuple[list[str], int]:
    taken: list[str] = []
    for line in block:
        if len(line) + 1 > spare:
            break
        taken.append(f"{line}\n")
        spare -= len(line) + 1
    return taken, spare


def _headline(plan: Plan) -> str:
    if errored(plan):
        return f"**Planning failed for part of the fleet.** {summary(plan)}"
    if plan.effective:
        return f"**{summary(plan)}**"
    return "**No changes.** Nodes have drifted." if plan.drift else f"**{nothing(plan)}**"


def _origin(plan: Plan) -> str:
    base, head = (_code(short(commit) or "nothing") for commit in (plan.base_commit, plan.head_commit))
    return f"\n{head} compared with what is recorded of {base} · plan {_code(short(identity(plan)))}\n"


def _findings(plan: Plan) -> Iterator[str]:
    for finding in plan.findings:
        shown = ", ".join(_code(address) for address in finding.addresses[:_ADDRESSES])
        rest = len(finding.addresses) - _ADDRESSES
        more = f" and {count(rest, 'other')}" if rest > 0 else ""
        hint = f" {_escaped(finding.hint)}" if finding.hint else ""
        where = f" ({shown}{more})" if shown else ""
        yield f"\n- **{_escaped(headline(finding))}** {_escaped(finding.message)}{hint}{where}\n"


def _table(plan: Plan) -> Iterator[str]:
    rows = _rows(plan)
    if not rows:
        return
    yield "\n| Server | + | ~ | - | Risk | Downtime? |\n| --- | ---: | ---: | ---: | --- | --- |\n"
    yield from rows[:_ROWS]
    if len(rows) > _ROWS:
        yield f"| … {count(len(rows) - _ROWS, 'other')} | | | | | |\n"


def _rows(plan: Plan) -> list[str]:
    add: dict[str, int] = {}
    change: dict[str, int] = {}
    destroy: dict[str, int] = {}
    risks: dict[str, set[Risk]] = {}
    for c in plan.effective:
        here = c.server or _RECORDS
        risks.setdefault(here, set()).update(c.risks)
        if c.action in (Action.CREATE, Action.REPLACE):
            add[here] = add.get(here, 0) + 1
        elif c.action is Action.UPDATE:
            change[here] = change.get(here, 0) + 1
        if c.destroys:
            was = c.previous_server or here
            destroy[was] = destroy.get(was, 0) + 1
            risks.setdefault(was, set()).update(c.risks)
    return [
        f"| {_escaped(name)} | {add.get(name, 0)} | {change.get(name, 0)} | {destroy.get(name, 0)} "
        f"| {', '.join(worst_first(risks[name])) or 'none'} | {_downtime(risks[name])} |\n"
        for name in sorted(risks, key=lambda n: (n == _RECORDS, n))
    ]


def _downtime(risks: set[Risk]) -> str:
    if risks & {Risk.DOWNTIME, Risk.DATA_LOSS}:
        return "yes"
    return "brief" if Risk.RESTART in risks else "no"


def _folds(plan: Plan, *, detail: bool) -> Iterator[tuple[str, list[list[str]], str]]:
    """Title, blocks of lines and footer of each folded part: problems, drift, then each server's changes."""
    if plan.problems:
        shown = [[f"- {printable(str(p))}"] for p in plan.problems[:_PROBLEMS]]
        rest = len(plan.problems) - _PROBLEMS
        yield (
            f"{count(len(plan.problems), 'problem')} in the manifests",
            shown,
            f"\nand {rest} more" if rest > 0 else "",
        )
    if plan.drift:
        grouped = groupby(plan.drift, key=lambda item: (item.key, item.server))
        blocks = [_diff(drift_lines(list(items))) for _, items in grouped]
        yield "Objects have changed outside of Reconciler", blocks, ""
    groups: dict[str, list[Change]] = {}
    for change in plan.effective:
        groups.setdefault(change.server or _RECORDS, []).append(change)
    for server in sorted(groups, key=lambda n: (n == _RECORDS, n)):
        blocks = [_diff(resource_lines(c, detail=detail)) for c in groups[server]]
        yield f"{_html(server)}: {count(len(blocks), 'change')}", blocks, ""


def _diff(lines: Iterator[Line]) -> list[str]:
    return [line.in_diff() for line in lines]


def _escaped(text: str) -> str:
    """Text that Markdown and HTML leave alone, and that calls nobody by name."""
    return re.sub(r"([\\`*_{}\[\]#|~!])", r"\\\1", _html(text)).replace("@", "@\u200b")


def _html(text: str) -> str:
    return printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _code(text: str) -> str:
    """Inline code; a backtick in it would end it."""
    return "`" + printable(text).replace("`", "'").replace("|", "¦") + "`"
