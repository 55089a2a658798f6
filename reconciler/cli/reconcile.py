"""`reconciler reconcile`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reconciler.cli import operators, options

if TYPE_CHECKING:
    from reconciler.store import Store
    from reconciler.store.queries.requests import Request


@click.command(name="reconcile")
@click.argument("addresses", nargs=-1, metavar="[KIND/NAME]...")
@click.option("--all", "everything", is_flag=True, help="Every fleet.")
@click.option(
    "--now", is_flag=True, help="Even while a maintenance window is closed; needs --reason, and is audited."
)
@click.option("--reason", metavar="TEXT", help="Why the window is passed over.")
@click.option("--wait", is_flag=True, help="Wait until it is done and say how it went.")
@click.option(
    "--timeout",
    metavar="DURATION",
    default="10m",
    show_default=True,
    help="How long --wait waits, such as 90s or 30m.",
)
@options.state
def command(
    addresses: tuple[str, ...],
    *,
    everything: bool,
    now: bool,
    reason: str | None,
    wait: bool,
    timeout: str,
    state: Path,
) -> int:
    """Tell the daemon to look at KIND/NAME (a server, site, database, or Fleet/NAME) now, whatever the schedule says.

    It fetches, compares and converges as it would by itself; what is held back (a guard, a suspension, a closed window
    without --now) stays held back. Exit codes: 0 done, 1 fault, refused or not ready, 7 not done in time.
    """
    from reconciler.app import asking, reconciling, suspending  # noqa: PLC0415 - help and completion stay fast
    from reconciler.store import open_state  # noqa: PLC0415

    if everything == bool(addresses):
        raise click.UsageError("name what to look at: KIND/NAME, or --all")
    if now != (reason is not None):
        raise click.UsageError(
            "--now needs --reason TEXT: it passes over a maintenance window"
            if now
            else "--reason goes with --now"
        )
    seconds = _seconds(timeout)
    override = suspending.reason_of(reason) if reason is not None else None
    by = asking.actor()
    with open_state(state.absolute()) as store:
        asked, running = asking.tell(
            store, state.absolute(), lambda tx: reconciling.reconcile(tx, addresses, by, override=override)
        )
        if not running:
            click.echo(f"Asked for: {', '.join(one.subject for one in asked)}.")
            operators.heard(running=False)
            return 1 if wait else 0
        if not wait:
            click.echo(
                f"Asked for: {', '.join(one.subject for one in asked)}. `reconciler status` shows how it goes."
            )
            return 0
        return _report(store, asking.answers(store, asked, seconds), timeout)


def _report(store: Store, answers: Sequence[Request], timeout: str) -> int:
    from reconciler.app import reconciling  # noqa: PLC0415

    codes = [0]
    for answer in answers:
        if answer.outcome is None:
            click.echo(f"{answer.subject}: not done within {timeout}; it goes on", err=True)
            codes.append(7)
            continue
        if answer.outcome == "refused":
            click.echo(f"{answer.subject}: refused: {answer.message}", err=True)
            codes.append(1)
            continue
        found = store.read(lambda tx, subject=answer.subject: reconciling.standing(tx, subject))  # type: ignore[misc]
        word = {"True": "ready", "False": "not ready"}.get(found.ready, "not known to be ready")
        click.echo(
            ": ".join(
                part for part in (f"{found.address} is {word}", found.message or answer.message) if part
            )
        )
        codes.append(0 if found.ready == "True" else 1)
    return 1 if 1 in codes else max(codes)


def _seconds(text: str) -> float:
    from reconciler.desired.scalars import seconds  # noqa: PLC0415

    try:
        return seconds(text)
    except ValueError as fault:
        raise click.UsageError(f"--timeout {fault}") from None
