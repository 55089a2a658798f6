"""`reconciler wait`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reconciler.cli import options

if TYPE_CHECKING:
    from reconciler.app.awaiting import Address, Standing, View, Want
    from reconciler.store import Store

POLL = 0.5
"""Seconds between two looks, or four times as long as a look takes if that is longer."""

_LISTED = 20  # resources that a time-out tells of


@click.command(name="wait")
@click.argument("addresses", nargs=-1, metavar="[KIND/NAME]...")
@options.state
@click.option(
    "--for",
    "conditions",
    multiple=True,
    metavar="CONDITION[=STATUS]",
    default=("Ready",),
    show_default="Ready",
    help="What to wait for, such as Ready, Reconciling=False or Drifted=False; several: all of them.",
)
@click.option("--all", "everything", is_flag=True, help="Wait for every resource that is recorded.")
@click.option(
    "--timeout", metavar="DURATION", default="5m", show_default=True, help="How long to wait at most."
)
@click.option("--revision", metavar="COMMIT", help="Of this commit, or of one accepted after it.")
def command(
    addresses: tuple[str, ...],
    state: Path,
    conditions: tuple[str, ...],
    timeout: str,
    revision: str | None,
    *,
    everything: bool,
) -> int:
    """Wait until resources have come to a condition, such as `wait Site/shop` or `wait --all --revision 5c2d89b`.

    Fleet/NAME is a whole fleet. Exit codes: 0 all of them have, 1 one is stalled and will not without a person, 7 the
    time is over.
    """
    from reconciler.app import awaiting  # noqa: PLC0415 - help and completion stay fast
    from reconciler.desired.scalars import seconds  # noqa: PLC0415
    from reconciler.store import open_state  # noqa: PLC0415

    if bool(addresses) == everything:
        raise click.UsageError("Name resources as KIND/NAME, or give --all.")
    try:
        within = seconds(timeout)
    except ValueError as fault:
        raise click.BadParameter(str(fault), param_hint="--timeout") from None
    wants = [awaiting.want(text) for text in conditions]
    named = None if everything else list(dict.fromkeys(_address(text) for text in addresses))
    with open_state(state.absolute()) as store:
        return _Waiting(store, wants, named, awaiting.commit(revision) if revision else None).run(within)


class _Waiting:
    """One wait. `named` None: everything that is recorded at each look."""

    def __init__(
        self, store: Store, wants: list[Want], named: list[Address] | None, revision: str | None
    ) -> None:
        self._store = store
        self._wants = wants
        self._named = named
        self._revision = revision
        self._told: set[Address] = set()

    def run(self, within: float) -> int:
        """Look again and again; the exit code."""
        from reconciler.app import awaiting  # noqa: PLC0415
        from reconciler.plan.exits import ExitCode  # noqa: PLC0415

        begun = time.monotonic()
        while True:
            looked = time.monotonic()
            view = self._store.read(lambda tx: awaiting.look(tx, self._revision))
            found = self._judged(view)
            failed = [one for one in found if one.state == "failed"]
            waiting = [one for one in found if one.state == "waiting"]
            self._tell(found)
            if failed:
                for one in failed:
                    click.echo(f"Error: {one}", err=True)
                return int(ExitCode.ERROR)
            if found and not waiting:
                return int(ExitCode.OK)
            now = time.monotonic()
            if now - begun >= within:
                self._explain(view, waiting)
                return int(ExitCode.TIMEOUT)
            time.sleep(min(max(POLL, 4 * (now - looked)), begun + within - now))

    def _judged(self, view: View) -> list[Standing]:
        from reconciler.app import awaiting  # noqa: PLC0415

        addresses = awaiting.everything(view, self._wants) if self._named is None else self._named
        return [awaiting.judge(view, address, self._wants) for address in addresses]

    def _tell(self, found: list[Standing]) -> None:
        """A line for each resource that has got there, once; everything at once when all of them have."""
        if self._named is None:
            if found and all(one.state == "reached" for one in found):
                wanted = ", ".join(str(one) for one in self._wants)
                click.echo(f"All {len(found)} resources: {wanted}")
            return
        for one in found:
            if one.state == "reached" and one.address not in self._told:
                self._told.add(one.address)
                click.echo(str(one))

    def _explain(self, view: View, waiting: list[Standing]) -> None:
        from reconciler.app import awaiting  # noqa: PLC0415
        from reconciler.kit.text import count  # noqa: PLC0415

        for one in waiting[:_LISTED]:
            click.echo(str(one), err=True)
        if len(waiting) > _LISTED:
            click.echo(f"… and {len(waiting) - _LISTED} more", err=True)
        told = {str(one) for one in waiting}
        for trouble in awaiting.troubles(view):
            if trouble not in told:
                click.echo(trouble, err=True)
        what = count(len(waiting), "resource") if waiting else "nothing is recorded, so no resource"
        click.echo(f"Error: the time is over: {what} did not come to it", err=True)
        for hint in filter(None, awaiting.unknown(view, [one.address for one in waiting]).values()):
            click.echo(f"Hint: {hint}", err=True)


def _address(text: str) -> Address:
    """`Site/shop` as kind and name, however the letters of the kind are written."""
    from reconciler.desired.kinds import Kind  # noqa: PLC0415
    from reconciler.errors import UsageFault  # noqa: PLC0415
    from reconciler.kit.text import did_you_mean  # noqa: PLC0415

    kind, slash, name = text.partition("/")
    known = {one.value.lower(): one.value for one in Kind} | {"fleet": "Fleet"}
    if not slash or not name:
        raise UsageFault(
            f"{text!r} names no resource", hint="write it as KIND/NAME, such as Site/shop or Fleet/main"
        )
    if kind.lower() not in known:
        hint = did_you_mean(kind, known.values()) or f"kinds: {', '.join(known.values())}"
        raise UsageFault(f"there is no kind {kind!r}", hint=hint)
    return known[kind.lower()], name
