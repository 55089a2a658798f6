"""`reconciler resume`."""

from __future__ import annotations

from pathlib import Path

import click

from reconciler.cli import operators, options


@click.command(name="resume")
@click.argument("address", required=False, metavar="[KIND/NAME]")
@click.option(
    "--fleet", "--fleet-name", "fleet_name", metavar="NAME", help="Resume a whole fleet, by its name."
)
@options.state
def command(address: str | None, fleet_name: str | None, state: Path) -> None:
    """End the suspension of KIND/NAME or of a fleet: the daemon looks at it again at once.

    What was suspended by itself stays so when its fleet or server is resumed. `reconciler suspend` lists suspensions.
    """
    from reconciler.app import asking, suspending  # noqa: PLC0415 - help and completion stay fast
    from reconciler.store import open_state  # noqa: PLC0415

    if (address is None) == (fleet_name is None):
        raise click.UsageError("name what to resume: KIND/NAME or --fleet NAME")
    target = f"Fleet/{fleet_name}" if fleet_name else str(address)
    by = asking.actor()
    with open_state(state.absolute()) as store:
        (found, held), running = asking.tell(
            store, state.absolute(), lambda tx: suspending.resume(tx, target, by)
        )
    if not held:
        click.echo(f"{found} is not suspended by an operator; nothing was changed.")
        return
    click.echo(f"{found} is resumed.")
    operators.heard(running=running)
