"""Colour as a function that is handed in: the renderers themselves write no escape codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

Role = Literal["create", "update", "delete", "replace", "forget", "heading", "error", "warning", "dim"]
Style = Callable[[Role, str], str]
"""Gives a text its colour by the role that it plays."""

_CODES: dict[Role, str] = {
    "create": "32",
    "update": "33",
    "delete": "31",
    "replace": "31",
    "forget": "31",
    "heading": "1",
    "error": "1;31",
    "warning": "1;33",
    "dim": "90",
}


def plain(role: Role, text: str) -> str:
    """No colour."""
    return text


def ansi(role: Role, text: str) -> str:
    """The terminal's own colours, as Terraform uses them."""
    return f"\x1b[{_CODES[role]}m{text}\x1b[0m" if text else text


def printable(text: str) -> str:
    """One line without anything that acts on a terminal: control and format characters become escapes."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)
