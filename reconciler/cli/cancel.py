"""`reconciler cancel`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from reconciler.cli import operators, options

if TYPE_CHECKING:
    from reconciler.store import Store


@click.command(name="cancel")
@click.argument("subject", required=False, metavar="[DEPLOYMENT|KIND/NAME]")
@options.state
@options.no_color
def command(subject: str | None, *, state: Path, no_color: bool) -> int:
    """Stop the apply that DEPLOYMENT or KIND/NAME is part of; without an argument, list what is under way.

    It is the whole apply of that server: the node ends the step that it is at, takes back what it did to that resource, and
    leaves the rest as it was. Waits up to 10 seconds for the daemon's answer. What was cancelled is not tried again until
    the next commit or `reconciler reconcile`. Exit codes: 0 stopped, 1 fault or refused, 7 no answer yet.
    """
    from reconciler.store import open_state  # noqa: PLC0415 - help and completion stay fast

    with open_state(state.absolute()) as store:
        if subject is None:
            _list(store, no_color=no_color)
            return 0
        return _cancel(store, state.absolute(), subject)


def _cancel(store: Store, state: Path, subject: str) -> int:
    from reconciler.app import asking, cancelling  # noqa: PLC0415

    by = asking.actor()
    request, _ = asking.tell(store, state, lambda tx: cancelling.cancel(tx, subject, by))
    (answer,) = asking.answers(store, [request], asking.ANSWER_WITHIN)
    if answer.outcome is None:
        click.echo(
            f"{request.subject}: the daemon has not answered within {asking.ANSWER_WITHIN:.0f} seconds. The request stays "
            "recorded; `reconciler cancel` shows what is under way.",
            err=True,
        )
        return 7
    click.echo(f"{request.subject}: {answer.message or answer.outcome}", err=answer.outcome == "refused")
    return 0 if answer.outcome == "done" else 1


def _list(store: Store, *, no_color: bool) -> None:
    from reconciler.cli import tables  # noqa: PLC0415
    from reconciler.store.queries import deployments  # noqa: PLC0415

    found, now = store.read(lambda tx: (deployments.unfinished(tx), tx.now))
    if not found:
        click.echo("Nothing is under way.")
        return
    rows = [
        (
            one.id,
            f"{one.kind}/{one.name}" + (" (drift)" if one.corrective else ""),
            one.status,
            (one.commit_hash or "")[:12],
            f"{operators.span(now - (one.started_at or one.created_at))} ago",
        )
        for one in found
    ]
    tables.show(("DEPLOYMENT", "RESOURCE", "STATUS", "COMMIT", "STARTED"), rows, no_color=no_color)
