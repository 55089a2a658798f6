"""`reconciler init`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from reconciler.cli import options


@click.command(name="init")
@options.state
@options.output("text", "json")
def command(state: Path, output: str) -> None:
    """Make the state directory, its key and its database.

    May be repeated: what exists is left as it is. Back up app.key apart from the database: without it the stored
    secrets are lost.
    """
    from reconciler.store import create_state  # noqa: PLC0415 - SQLAlchemy is slow to import

    made = create_state(state.absolute())
    if output == "json":
        value = {
            "folder": str(made.folder),
            "database": str(made.database),
            "key": made.key_source,
            "lineage": made.lineage,
            "created": list(made.created),
            "existing": list(made.existing),
        }
        click.echo(json.dumps(value, indent=2))
        return
    if not made.created:
        click.echo(f"{made.folder} is initialised already; nothing was changed.")
        return
    click.echo(f"State directory: {made.folder}")
    click.echo(f"Database:        {made.database}")
    click.echo(f"Key:             {made.key_source}")
    click.echo(f"Created:         {', '.join(made.created)}")
    click.echo("\nKeep a copy of the key apart from the database: without it the stored secrets are lost.")
