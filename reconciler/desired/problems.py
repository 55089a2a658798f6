"""A user's mistake as a value: what, where (file:line:col) and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, order=True)
class Source:
    """A place in the fleet repository. `path` is relative to its root; `line` and `column` start at 1."""

    path: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}"


@dataclass(frozen=True, order=True)
class Problem:
    """One mistake. `code` is stable (`unknown-field`, `duplicate-domain`, …); `hint` says what to do, if anything."""

    source: Source
    code: str
    message: str
    hint: str = ""
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        hint = f" ({self.hint})" if self.hint else ""
        word = "warning: " if self.severity == "warning" else ""
        return f"{self.source}: {word}{self.message}{hint}"
