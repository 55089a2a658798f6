"""`reconciler apply`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reconciler.cli import options
from reconciler.cli.plan import show

if TYPE_CHECKING:
    from reconciler.app.applying import Applied
    from reconciler.plan.model import Plan


@click.command(name="apply")
@click.argument("planfile", required=False, type=click.Path(path_type=Path, dir_okay=False))
@options.fleet
@options.fleet_name
@options.state
@click.option("--rev", default="HEAD", show_default=True, help="Commit, branch or tag to apply.")
@click.option("--yes", "--auto-approve", "yes", is_flag=True, help="Do not ask before the apply starts.")
@click.option(
    "--approve",
    "approved",
    multiple=True,
    metavar="CODE",
    help="Approve a guard's finding, such as data-loss.",
)
@click.option(
    "--refresh/--no-refresh", default=True, help="Ask the nodes first and repair drift (default), or do not."
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=1800,
    show_default=True,
    metavar="SECONDS",
    help="How long one node may take; it goes on, and the next apply finds out.",
)
@click.option("--detail", is_flag=True, help="List every step of the plan.")
@options.output("text", "json")
@options.no_color
def command(  # noqa: PLR0913 - one parameter an option
    planfile: Path | None,
    fleet: Path,
    subpath: str,
    fleet_name: str,
    state: Path,
    rev: str,
    *,
    yes: bool,
    approved: tuple[str, ...],
    refresh: bool,
    timeout: float,
    detail: bool,
    output: str,
    no_color: bool,
) -> int:
    """Converge the fleet to its newest commit, or apply the saved plan PLANFILE.

    Shows the plan, asks, converges the nodes, and records a deployment for each resource. Drift is repaired with it. Exit
    codes: 0 done, 1 something failed, 3 a guard stands in the way, 4 the saved plan is stale, 5 another apply is running.
    """
    from reconciler.app.applying import Demand, apply  # noqa: PLC0415 - help and completion stay fast
    from reconciler.app.planning import Wish  # noqa: PLC0415
    from reconciler.app.settings import Settings  # noqa: PLC0415
    from reconciler.cli.follow import Follow  # noqa: PLC0415
    from reconciler.store import open_state  # noqa: PLC0415

    if output == "json" and not yes:
        raise click.UsageError("--output json needs --yes: there is nobody to ask")
    settings = Settings(
        state=state.absolute(), fleet=fleet, subpath=subpath, name=fleet_name, apply_within=timeout
    )

    def confirm(plan: Plan) -> bool:
        if output == "text":
            follow.pause()
            show(plan, "text", detail=detail, no_color=no_color)
            click.echo("")
        answer = yes or _ask()
        follow.resume()
        return answer

    follow = Follow(quiet=output == "json", no_color=no_color)
    demand = Demand(
        wish=Wish(rev, refresh=refresh),
        saved=_load(planfile) if planfile else None,
        approved=frozenset(approved),
        confirm=confirm,
    )
    with open_state(settings.state) as store, interruptible(), follow:
        applied = apply(settings, store, demand, follow)
    return report(applied, output, no_color=no_color)


@contextmanager
def interruptible() -> Iterator[None]:
    """Say what an interrupted apply leaves, before the program ends."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo(
            "\nInterrupted. Nodes finish what they began; the next apply finds out and goes on.", err=True
        )
        raise


def _ask() -> bool:
    if not sys.stdin.isatty():
        raise click.UsageError("there is nobody to ask: give --yes to apply without a question")
    answer: str = click.prompt(
        "Apply these changes? Only 'yes' is accepted", default="no", show_default=False
    )
    return answer == "yes"


def _load(path: Path) -> Plan:
    from reconciler.plan import serial  # noqa: PLC0415

    try:
        return serial.loads(path.read_bytes())
    except OSError as fault:
        raise click.ClickException(f"cannot read the plan {path}: {fault.strerror}") from fault


def report(applied: Applied, output: str, *, no_color: bool) -> int:
    """Print what an apply came to; the exit code."""
    from reconciler.cli import summary  # noqa: PLC0415
    from reconciler.plan.exits import ExitCode, errored  # noqa: PLC0415

    if output == "json":
        click.echo(summary.as_json(applied))
    elif not applied.confirmed:
        click.echo("Apply cancelled: nothing was changed.")
    elif not applied.results:
        show(applied.plan, "text", no_color=no_color)
    else:
        click.echo(summary.as_text(applied), nl=False)
    if not applied.confirmed:
        return int(ExitCode.CANCELLED)
    failed = applied.failed or applied.plan.unreachable or applied.plan.held or errored(applied.plan)
    return int(ExitCode.ERROR if failed else ExitCode.OK)
