"""Tables and pages on the terminal: rich, with colours only where a person can see them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

_STYLES = {
    "True": "green",
    "active": "green",
    "success": "green",
    "installed": "green",
    "False": "bold red",
    "error": "bold red",
    "failed": "bold red",
    "Unknown": "yellow",
    "creating": "yellow",
    "provisioning": "yellow",
    "running": "yellow",
    "pending": "yellow",
    "installing": "yellow",
    "suspended": "yellow",
}


def style(word: str) -> str:
    """The style of a status word, empty for any other text."""
    return _STYLES.get(word, "")


def console(*, no_color: bool = False) -> Console:
    """A console on standard output. Not a terminal: no colours, and lines as long as they need to be."""
    plain = no_color or not sys.stdout.isatty()
    return Console(
        no_color=plain,
        color_system=None if plain else "auto",
        width=None if not plain else 200,
        highlight=False,
        soft_wrap=plain,
        emoji=False,
        markup=False,
    )


def show(headings: Sequence[str], rows: Iterable[Sequence[str]], *, no_color: bool = False) -> None:
    """A table without frames; status words get their colour. Cells are text, never markup."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, overflow="fold", no_wrap=heading not in ("MESSAGE", "REASON"))
    for row in rows:
        table.add_row(*(Text(cell, style=style(cell)) for cell in row))
    # rich pads every cell to its column; the blanks at the ends of lines help nobody
    out = console(no_color=no_color)
    with out.capture() as captured:
        out.print(table)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())
