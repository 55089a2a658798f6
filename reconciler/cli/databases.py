"""`reconciler databases rotate-password`."""

from __future__ import annotations

from pathlib import Path

import click

from reconciler.cli import options


@click.group(name="databases")
def command() -> None:
    """Give databases new passwords."""


@command.command(name="rotate-password")
@click.argument("name")
@click.option("--wait", is_flag=True, help="Where a daemon runs: wait until it is done and say how it went.")
@click.option(
    "--timeout", metavar="DURATION", default="10m", show_default=True, help="How long --wait waits."
)
@options.state
def rotate(name: str, *, wait: bool, timeout: str, state: Path) -> int:
    """Replace the password of Database NAME by a new one, which nobody gets to see.

    The user on the node gets it, and right after it the `.env` of the site that uses the database, in one reconcile: the
    daemon's where one runs, within the windows of its server, else this program's. Until the node has it both passwords are
    kept; what breaks off goes on at the next reconcile. A password that the manifest gives is changed there instead. Exit
    codes: 0 done, or asked for; 1 refused or failed, 7 not done in time.
    """
    from reconciler.app import asking, reconciling, rotating  # noqa: PLC0415 - help and completion stay fast
    from reconciler.app.settings import Settings  # noqa: PLC0415
    from reconciler.cli import reconcile  # noqa: PLC0415
    from reconciler.converge.progress import Silent  # noqa: PLC0415
    from reconciler.store import Tx, open_state  # noqa: PLC0415

    seconds = reconcile.duration(timeout)
    by = asking.actor()

    def unit(tx: Tx) -> tuple[rotating.Rotation, list[reconciling.Asked]]:
        begun = rotating.begin(tx, name, by)
        if not asking.running(tx):
            return begun, []
        return begun, reconciling.reconcile(tx, [begun.database], by, reconciling.Order())

    with open_state(state.absolute()) as store:
        (begun, asked), running = asking.tell(store, state.absolute(), unit)
        what = "A new password was made" if begun.began else "A new password was on its way already"
        where = f"{begun.database} and {begun.site}" if begun.site else begun.database
        if running:
            click.echo(f"{what}; the daemon brings it to {where}.")
            return reconcile.report(store, asked, seconds, timeout) if wait else 0
        click.echo(f"{what}; it goes to {where}.")
        results = rotating.carry_out(Settings(state.absolute(), Path()), store, Silent(), begun.fleet)
    for result in results:
        click.echo(
            f"{result.key} is {'ready' if result.state == 'succeeded' else f'not ready: {result.message}'}"
        )
    return 0 if all(result.state == "succeeded" for result in results) else 1
