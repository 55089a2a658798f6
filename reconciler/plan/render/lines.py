"""A line of a plan: where its symbol stands is decided where it is written out."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from reconciler.kit.canonical import Json
from reconciler.plan.masking import SENSITIVE, UNKNOWN
from reconciler.plan.render.style import Role, Style, printable

_BARE = re.compile(r"^[A-Za-z_][A-Za-z0-9_-]*$")
_ROLES: dict[str, Role] = {
    "+": "create",
    "~": "update",
    "-": "delete",
    "-/+": "replace",
    ".": "forget",
    "./+": "forget",
}


@dataclass(frozen=True)
class Line:
    """`indent` is the column of `text`; a symbol ends two columns before it."""

    indent: int
    text: str
    symbol: str = ""
    role: Role | None = None

    def written(self, style: Style) -> str:
        """As in a terminal."""
        text = style(self.role, self.text) if self.role else self.text
        if not self.symbol:
            return (" " * self.indent + text).rstrip()
        return (
            " " * (self.indent - len(self.symbol) - 1) + style(_ROLES[self.symbol], self.symbol) + " " + text
        )

    def in_diff(self) -> str:
        """As in a ```diff block, where the symbol must be the first character and `!` colours what `~` means."""
        if not self.symbol:
            return (" " * self.indent + self.text).rstrip()
        symbol = self.symbol.replace("~", "!")
        return symbol + " " * (self.indent - len(symbol)) + self.text


def quoted(value: Json) -> str:
    """A scalar, or a list or map on one line, in JSON's spelling; what is masked or unknown stands without quotes."""
    if value in (SENSITIVE, UNKNOWN):
        return str(value)
    return printable(json.dumps(value, ensure_ascii=False))


def label(name: str | int) -> str:
    """A field's name: bare where it can be."""
    if isinstance(name, int):
        return f"[{name}]"
    return name if _BARE.match(name) else quoted(name)
