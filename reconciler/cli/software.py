"""`reconciler software list`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from reconciler.cli import options


@click.group(name="software")
def command() -> None:
    """Show what is installed on the servers."""


@command.command(name="list")
@options.state
@click.option("--server", metavar="NAME", help="Only of this server.")
@click.option("--history", is_flag=True, help="Every installation, upgrade and removal, not only the newest.")
@click.option(
    "--output", "-o", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Form."
)
@options.no_color
def listed(state: Path, server: str | None, *, history: bool, output: str, no_color: bool) -> None:
    """List the software of servers: what was done last with each piece, how that stands, and which version the node has."""
    from reconciler.app import software  # noqa: PLC0415 - help and completion stay fast
    from reconciler.cli import tables  # noqa: PLC0415
    from reconciler.store import open_state  # noqa: PLC0415

    with open_state(state.absolute()) as store:
        found = store.read(lambda tx: software.listed(tx, server, history=history))
    if output == "json":
        click.echo(json.dumps([row.to_json() for row in found], indent=2, ensure_ascii=False))
        return
    if not found:
        click.echo("No software is recorded.")
        return
    headings = ("SERVER", "SOFTWARE", "ACTION", "STATUS", "VERSION", "SINCE", "REASON")
    rows = [
        (
            row.server,
            f"{row.type} {row.series}".strip(),
            row.action,
            row.status,
            row.version,
            row.updated.strftime("%Y-%m-%d %H:%M:%S"),
            row.reason,
        )
        for row in found
    ]
    tables.show(headings, rows, no_color=no_color)
