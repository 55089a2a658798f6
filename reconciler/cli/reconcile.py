"""`reconciler reconcile`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reconciler.cli import operators, options

if TYPE_CHECKING:
    from reconciler.app.reconciling import Asked
    from reconciler.store import Store


@click.command(name="reconcile")
@click.argument("addresses", nargs=-1, metavar="[KIND/NAME]...")
@click.option("--all", "everything", is_flag=True, help="Every fleet.")
@click.option("--heal", is_flag=True, help="Repair drift as well where manifests only have it reported.")
@click.option(
    "--now", is_flag=True, help="Even while a maintenance window is closed; needs --reason, and is audited."
)
@click.option("--reason", metavar="TEXT", help="Why the window is passed over.")
@click.option("--release", metavar="WAVE", help="Let a rollout's wave begin that waits for a person.")
@click.option("--wait", is_flag=True, help="Wait until it is done and say how it went.")
@click.option(
    "--timeout",
    metavar="DURATION",
    default="10m",
    show_default=True,
    help="How long --wait waits, such as 90s or 30m.",
)
@options.state
def command(  # noqa: PLR0913 - one parameter an option
    addresses: tuple[str, ...],
    *,
    everything: bool,
    heal: bool,
    now: bool,
    reason: str | None,
    release: str | None,
    wait: bool,
    timeout: str,
    state: Path,
) -> int:
    """Tell the daemon to look at KIND/NAME (a server, site, database, or Fleet/NAME) now, whatever the schedule says.

    It compares and converges as it would by itself: what a guard, a suspension, a rollout or (without --now) a closed window
    holds back stays held back. What failed or was cancelled is tried again. Exit codes: 0 done, 1 fault, refused or not ready,
    7 not done in time.
    """
    from reconciler.app import asking, reconciling, suspending  # noqa: PLC0415 - help and completion stay fast
    from reconciler.store import open_state  # noqa: PLC0415

    if everything == bool(addresses):
        raise click.UsageError("name what to look at: KIND/NAME, or --all")
    if now and reason is None:
        raise click.UsageError("--now needs --reason TEXT: it passes over a maintenance window")
    if reason is not None and not now:
        raise click.UsageError("--reason goes with --now")
    seconds = duration(timeout)
    order = reconciling.Order(heal, suspending.reason_of(reason) if reason is not None else None, release)
    by = asking.actor()
    with open_state(state.absolute()) as store:
        asked, running = asking.tell(
            store, state.absolute(), lambda tx: reconciling.reconcile(tx, addresses, by, order)
        )
        if running and wait:
            return report(store, asked, seconds, timeout)
        hint = " `reconciler status` shows how it goes." if running else ""
        click.echo(f"Asked for: {', '.join(one.request.subject for one in asked)}.{hint}")
        operators.heard(running=running)
        return 1 if wait else 0


def report(store: Store, asked: Sequence[Asked], seconds: float, timeout: str) -> int:
    """Wait for what was asked of the daemon, and print how each came out: the exit code."""
    from reconciler.app import asking, reconciling  # noqa: PLC0415

    begun = time.monotonic()
    answers = asking.answers(store, [one.request for one in asked], seconds)
    codes, taken = [0], []
    for one, answer in zip(asked, answers, strict=True):
        if answer.outcome is None:
            click.echo(f"{answer.subject}: the daemon has not answered within {timeout}", err=True)
            codes.append(7)
        elif answer.outcome == "refused":
            click.echo(f"{answer.subject}: refused: {answer.message}", err=True)
            codes.append(1)
        else:
            taken.append(one)
    for found in reconciling.outcome(store, taken, seconds - (time.monotonic() - begun)):
        if found.over:
            click.echo(f"{found.address} is {found.state}" + (f": {found.message}" if found.message else ""))
            codes.append(0 if found.state == "ready" else 1)
        else:
            click.echo(f"{found.address}: not done within {timeout}: {found.message}", err=True)
            codes.append(7)
    return 1 if 1 in codes else max(codes)


def duration(text: str) -> float:
    """`--timeout` in seconds. click.UsageError."""
    from reconciler.desired.scalars import seconds  # noqa: PLC0415

    try:
        return seconds(text)
    except ValueError as fault:
        raise click.UsageError(f"--timeout {fault}") from None
