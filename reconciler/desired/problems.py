"""A user's mistake as a value: what, where (file:line:col) and what to do."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Literal


def printable(text: str) -> str:
    """`text` with control characters, line breaks and direction marks as escapes: safe on a terminal and in a log."""
    if text.isprintable():
        return text
    return "".join(c if unicodedata.category(c)[0] != "C" and c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


@dataclass(frozen=True, order=True)
class Source:
    """A place in the fleet repository. `path` is relative to its root; `line` and `column` start at 1."""

    path: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{printable(self.path)}:{self.line}:{self.column}"


@dataclass(frozen=True, order=True)
class Problem:
    """One mistake. `code` is stable (`unknown-field`, `duplicate-domain`, …); `hint` says what to do, if anything.

    docs/spec/v1/problems.md lists the codes.
    """

    source: Source
    code: str
    message: str
    hint: str = ""
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        hint = f" ({self.hint})" if self.hint else ""
        word = "warning: " if self.severity == "warning" else ""
        return f"{self.source}: {word}{printable(self.message + hint)}"


def format_problem(problem: Problem) -> str:
    """One line for people and editors: `path:line:col: message (hint)`."""
    return str(problem)


def problem_json(problem: Problem) -> dict[str, str | int]:
    """The same for programs: `path`, `line`, `column`, `severity`, `code`, `message`, `hint`."""
    return {
        "path": problem.source.path,
        "line": problem.source.line,
        "column": problem.source.column,
        "severity": problem.severity,
        "code": problem.code,
        "message": problem.message,
        "hint": problem.hint,
    }
