"""`reconciler sites`: the releases of sites that are deployed from repositories."""

from __future__ import annotations

import json
from pathlib import Path

import click

from reconciler.cli import operators, options


@click.group(name="sites")
def command() -> None:
    """List the releases of a site, go back to one, or follow its repository again."""


@command.command(name="releases")
@click.argument("site")
@options.state
@options.output("text", "json")
@options.no_color
def releases(site: str, state: Path, output: str, *, no_color: bool) -> None:
    """List the commits that SITE was deployed with, the newest deployment first."""
    from reconciler.app import releasing  # noqa: PLC0415 - help and completion stay fast
    from reconciler.cli import tables  # noqa: PLC0415
    from reconciler.store import open_state  # noqa: PLC0415

    with open_state(state.absolute()) as store:
        found, known = store.read(lambda tx: (releasing.releases(tx, site), releasing.source_of(tx, site)))
    if output == "json":
        value = {
            "site": site,
            "tip": known.tip.commit if known.tip else None,
            "held": known.held.commit if known.held else None,
            "fault": known.fault or None,
            "releases": [
                {
                    "commit": one.commit,
                    "branch": one.branch,
                    "state": one.state or None,
                    "deployment": one.deployment,
                    "at": one.at.isoformat() if one.at else None,
                }
                for one in found
            ],
        }
        click.echo(json.dumps(value, indent=2, ensure_ascii=False))
        return
    rows = [(one.commit[:12], one.branch, one.state, operators.when(one.at), one.deployment) for one in found]
    if rows:
        tables.show(("COMMIT", "FROM", "STATE", "DEPLOYED", "DEPLOYMENT"), rows, no_color=no_color)
    else:
        click.echo("No release yet.")
    if known.held is not None:
        click.echo(
            f"\nHeld at {known.held.commit[:12]} until the source moves; `reconciler sites deploy {site}` ends that."
        )
    if known.fault:
        click.echo(f"\nThe source cannot be read: {known.fault}")


@command.command(name="rollback")
@click.argument("site")
@click.option("--to", metavar="COMMIT", help="Commit, or its beginning (default: the release before).")
@options.state
def rollback(site: str, to: str | None, state: Path) -> None:
    """Have SITE go back to an earlier release. It stays there until its branch or tag moves.

    What is still on the node is switched to, without building it. Commands of `after` are not run, so a database
    stays as it is.
    """
    from reconciler.app import asking, releasing  # noqa: PLC0415
    from reconciler.store import open_state  # noqa: PLC0415

    folder = state.absolute()
    with open_state(folder) as store:
        target, running = asking.tell(
            store, folder, lambda tx: releasing.roll_back(tx, folder, site, to, asking.actor())
        )
    click.echo(f"Site/{site} goes back to {target.commit[:12]}.")
    _said(running=running)


@command.command(name="deploy")
@click.argument("site")
@options.state
def deploy(site: str, state: Path) -> None:
    """Have SITE follow its repository again, after a rollback."""
    from reconciler.app import asking, releasing  # noqa: PLC0415
    from reconciler.store import open_state  # noqa: PLC0415

    folder = state.absolute()
    with open_state(folder) as store:
        known, running = asking.tell(store, folder, lambda tx: releasing.follow(tx, site, asking.actor()))
    click.echo(f"Site/{site} follows its source{f', {known.tip.commit[:12]}' if known.tip else ''}.")
    _said(running=running)


@command.command(name="deploy-key")
@click.argument("key")
@options.state
def deploy_key(key: str, state: Path) -> None:
    """Print the public half of SSHKey KEY, for the settings of a repository."""
    from reconciler.app import releasing  # noqa: PLC0415
    from reconciler.store import open_state  # noqa: PLC0415

    with open_state(state.absolute()) as store:
        click.echo(store.read(lambda tx: releasing.deploy_key(tx, key)))


def _said(*, running: bool) -> None:
    if not running:
        click.echo("No daemon is running: `reconciler apply` carries it out.", err=True)
