"""`reconciler suspend`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reconciler.cli import operators, options

if TYPE_CHECKING:
    from reconciler.store import Store


@click.command(name="suspend")
@click.argument("address", required=False, metavar="[KIND/NAME]")
@click.option(
    "--fleet", "--fleet-name", "fleet_name", metavar="NAME", help="Suspend a whole fleet, by its name."
)
@click.option("--reason", metavar="TEXT", help="Why; whoever finds it suspended reads this.")
@click.option(
    "--for", "length", metavar="DURATION", help="How long, such as 2h or 1h30m (default: until resumed)."
)
@click.option("--until", metavar="TIME", help="Until when: 18:00, '2026-01-31 18:00' (here) or with a zone.")
@click.option("--ahead", is_flag=True, help="Also when nothing of this name is known yet.")
@options.state
@options.output("text", "json")
@options.no_color
def command(  # noqa: PLR0913 - one parameter an option
    address: str | None,
    fleet_name: str | None,
    reason: str | None,
    length: str | None,
    until: str | None,
    *,
    ahead: bool,
    state: Path,
    output: str,
    no_color: bool,
) -> None:
    """Tell the daemon to leave KIND/NAME (or a fleet) as it is; without arguments, list what is suspended.

    Changes, repairs of drift and removals of it wait until `reconciler resume` or the time that was given. What a node
    does at this moment is not stopped: `reconciler cancel` does that.
    """
    from reconciler.store import open_state  # noqa: PLC0415 - help and completion stay fast

    target = f"Fleet/{fleet_name}" if fleet_name else address
    if address and fleet_name:
        raise click.UsageError("give KIND/NAME or --fleet, not both")
    if length and until:
        raise click.UsageError("give --for or --until, not both")
    with open_state(state.absolute()) as store:
        if target is None:
            if reason or length or until or ahead:
                raise click.UsageError("name what to suspend: KIND/NAME, or --fleet NAME")
            _show(store, output, no_color=no_color)
            return
        if not reason:
            raise click.UsageError("--reason is missing: say why, for whoever finds it suspended")
        _suspend(store, state.absolute(), target, reason, (length, until), ahead=ahead)


def _suspend(
    store: Store, state: Path, target: str, reason: str, end: tuple[str | None, str | None], *, ahead: bool
) -> None:
    from reconciler.app import addresses, asking, suspending  # noqa: PLC0415
    from reconciler.store import Tx  # noqa: PLC0415

    why = suspending.reason_of(reason)
    by = asking.actor()

    def unit(tx: Tx) -> str:
        hint = "if it is only about to be declared: --ahead"
        found = addresses.parse(target) if ahead else addresses.require(tx, target, hint=hint)
        until = suspending.end_of(tx.now, *end)
        suspending.suspend(tx, found, reason=why, by=by, until=until)
        stays = (
            f"until {operators.when(until)} (in {operators.span(until - tx.now)})"
            if until
            else "until it is resumed"
        )
        return f"{found} is suspended {stays}. To end it: reconciler resume {found}"

    said, running = asking.tell(store, state, unit)
    click.echo(said)
    operators.heard(running=running)


def _show(store: Store, output: str, *, no_color: bool) -> None:
    from reconciler.cli import tables  # noqa: PLC0415
    from reconciler.store.queries import suspensions  # noqa: PLC0415

    found, now = store.read(lambda tx: (suspensions.listed(tx), tx.now))
    if output == "json":
        value = [
            {
                "resource": f"{one.kind}/{one.name}",
                "reason": one.reason,
                "by": one.owner,
                "since": one.created_at.isoformat(),
                "until": one.expires_at.isoformat() if one.expires_at else None,
            }
            for one in found
        ]
        click.echo(json.dumps(value, indent=2, ensure_ascii=False))
        return
    if not found:
        click.echo(
            "Nothing is suspended by an operator. (Manifests with `suspend: true` are told by `reconciler plan`.)"
        )
        return
    rows = [
        (
            f"{one.kind}/{one.name}",
            one.owner,
            f"{operators.span(now - one.created_at)} ago",
            f"{operators.when(one.expires_at)} (in {operators.span(one.expires_at - now)})"
            if one.expires_at
            else "resumed",
            one.reason,
        )
        for one in found
    ]
    tables.show(("SUSPENDED", "BY", "SINCE", "UNTIL", "REASON"), rows, no_color=no_color)
