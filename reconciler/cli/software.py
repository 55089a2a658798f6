"""`reconciler software list` and `upgrade`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reconciler.cli import options

if TYPE_CHECKING:
    from reconciler.app.upgrading import Proposal, Wish
    from reconciler.store import Store


@click.group(name="software")
def command() -> None:
    """Show what is installed on the servers, and upgrade it."""


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


@command.command(name="upgrade")
@click.argument("server")
@click.argument("pieces", nargs=-1, metavar="[SOFTWARE]...")
@click.option("--plan", "plan_only", is_flag=True, help="Only show what would be upgraded.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--wait", is_flag=True, help="Where a daemon runs: wait until it is done and say how it went.")
@click.option(
    "--timeout", metavar="DURATION", default="30m", show_default=True, help="How long --wait waits."
)
@options.state
@options.no_color
def upgrade(  # noqa: PLR0913 - one parameter an option
    server: str,
    pieces: tuple[str, ...],
    *,
    plan_only: bool,
    yes: bool,
    wait: bool,
    timeout: str,
    state: Path,
    no_color: bool,
) -> int:
    """Upgrade SOFTWARE (`nginx`, `php-8.2`; all that is installed when none is named) of SERVER to what its repositories have.

    The node is asked what there is; then it is shown, and you are asked. Only the packages of this software are upgraded,
    with what they need; what runs them goes over to them. The daemon does it where one runs, within the windows of the
    server, else this program. Upgrades that were asked for before and did not come to an end go on. Another series of a
    database server is never gone over to. Exit codes: 0 done, asked for or nothing to do; 1 refused or failed, 7 not done
    in time.
    """
    from reconciler.app import upgrading  # noqa: PLC0415 - help and completion stay fast
    from reconciler.cli import reconcile  # noqa: PLC0415
    from reconciler.plan.exits import ExitCode  # noqa: PLC0415
    from reconciler.store import open_state  # noqa: PLC0415

    seconds = reconcile.duration(timeout)
    with open_state(state.absolute()) as store:
        wanted = store.read(lambda tx: upgrading.wish(tx, server, pieces))
        found = upgrading.propose(store, wanted)
        _show(found, no_color=no_color)
        for one in wanted.open:
            click.echo(f"{one.words} was asked for before and did not come to an end: it goes on.")
        if plan_only or not (found.upgrades or wanted.open):
            return 0
        if not yes and not _agreed():
            click.echo("Cancelled: nothing was changed.")
            return int(ExitCode.CANCELLED)
        return _carry_out(store, state, wanted, found, (seconds, timeout) if wait else None)


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise click.UsageError("there is nobody to ask: give --yes to upgrade without a question")
    answer: str = click.prompt("Upgrade this? Only 'yes' is accepted", default="no", show_default=False)
    return answer == "yes"


def _show(found: Proposal, *, no_color: bool) -> None:
    from reconciler.blueprint.upgrading import effect  # noqa: PLC0415 - help and completion stay fast
    from reconciler.cli import tables  # noqa: PLC0415

    if found.upgrades:
        rows = [
            (one.software, *next(iter(one.packages.values())), effect(one.software)) for one in found.upgrades
        ]
        tables.show(("SOFTWARE", "FROM", "TO", "EFFECT"), rows, no_color=no_color)
    for piece, version in found.current:
        click.echo(f"{piece} {version}: nothing newer.")
    for one in found.major:
        click.echo(f"{one.words}: another series of a database server is a person's work; it stays.")


def _carry_out(
    store: Store, state: Path, wanted: Wish, found: Proposal, wait: tuple[float, str] | None
) -> int:
    from reconciler.app import asking, reconciling, upgrading  # noqa: PLC0415 - help and completion stay fast
    from reconciler.app.settings import Settings  # noqa: PLC0415
    from reconciler.cli import reconcile  # noqa: PLC0415
    from reconciler.converge.progress import Silent  # noqa: PLC0415
    from reconciler.store import Tx  # noqa: PLC0415

    by = asking.actor()

    def unit(tx: Tx) -> list[reconciling.Asked]:
        address = upgrading.ask(tx, wanted, found.upgrades, by)
        return reconciling.reconcile(tx, [address], by, reconciling.Order()) if asking.running(tx) else []

    asked, running = asking.tell(store, state.absolute(), unit)
    if running:
        click.echo(f"Asked for; the daemon upgrades {wanted.server.address}.")
        return reconcile.report(store, asked, *wait) if wait else 0
    results = upgrading.carry_out(Settings(state.absolute(), Path()), store, Silent(), wanted.fleet)
    for result in results:
        done = result.state == "succeeded"
        click.echo(f"{result.key} is {'upgraded' if done else f'not upgraded: {result.message}'}")
    return 0 if all(result.state == "succeeded" for result in results) else 1
