"""`reconciler drift`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from reconciler.cli import options


@click.command(name="drift")
@options.fleet
@options.state
@click.option("--server", "servers", multiple=True, metavar="NAME", help="Only this server; may be repeated.")
@click.option("--heal", is_flag=True, help="Put back what was applied, without applying any new commit.")
@click.option("--detailed-exitcode", is_flag=True, help="Exit with 2 when something has drifted.")
@options.output("text", "json")
@options.no_color
def command(  # noqa: PLR0913 - one parameter an option
    fleet: Path,
    subpath: str,
    state: Path,
    servers: tuple[str, ...],
    *,
    heal: bool,
    detailed_exitcode: bool,
    output: str,
    no_color: bool,
) -> int:
    """Compare the nodes with what was applied, without changing them.

    Exit codes: 0, 1 when a node could not be asked, and 2 for drift with --detailed-exitcode.
    """
    from reconciler.app import drifting  # noqa: PLC0415 - help and completion stay fast
    from reconciler.app.settings import Settings  # noqa: PLC0415
    from reconciler.store import open_state  # noqa: PLC0415

    settings = Settings(state=state.absolute(), fleet=fleet, subpath=subpath)
    with open_state(settings.state) as store:
        if heal:
            from reconciler.cli.apply import interruptible, report  # noqa: PLC0415
            from reconciler.cli.follow import Follow  # noqa: PLC0415

            with interruptible(), Follow(quiet=output == "json", no_color=no_color) as follow:
                healed = drifting.heal(settings, store, servers or None, follow)
            return report(healed, output, no_color=no_color)
        seen = drifting.look(store, servers or None)
    if output == "json":
        click.echo(json.dumps(drifting.as_json(seen), indent=2, ensure_ascii=False))
    else:
        for item in seen.drift:
            click.echo(f"{item.key} on {item.server}: {item.step} {_word(item.action)}")
            for field, applied, observed in item.changes:
                click.echo(f"    {field}: applied {applied}, now {observed}")
            if item.note:
                click.echo(f"    {item.note}")
        for server, why in seen.unreachable.items():
            click.echo(f"{server} could not be asked: {why}", err=True)
        asked = len(seen.asked)
        nodes = f"{asked} {'node' if asked == 1 else 'nodes'} asked"
        if seen.drift:
            click.echo(
                f"\n{len(seen.drift)} differences; {nodes}. To put back what was applied: reconciler apply"
            )
        elif asked:
            click.echo(f"No drift: {nodes}.")
        elif not seen.unreachable:
            click.echo("No drift: nothing is applied yet.")
    if seen.unreachable:
        return 1
    return 2 if seen.drift and detailed_exitcode else 0


def _word(action: str) -> str:
    return {"create": "is missing", "update": "differs", "delete": "should be gone"}.get(action, action)
