"""`reconciler source` and `reconciler source accept`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from reconciler.cli import operators, options


@click.group(name="source", invoke_without_command=True)
@options.state
@options.output("text", "json")
@options.no_color
@click.pass_context
def command(context: click.Context, state: Path, output: str, *, no_color: bool) -> int:
    """Show where each fleet's branch stands, and which commit is followed.

    SEEN is what the branch showed last, ACCEPTED the newest commit that is followed. Exit code 1 when a source is not in
    order.
    """
    context.obj = state
    if context.invoked_subcommand is not None:
        return 0
    from reconciler.cli import tables  # noqa: PLC0415 - help and completion stay fast
    from reconciler.store import open_state  # noqa: PLC0415
    from reconciler.store.queries import sources  # noqa: PLC0415

    with open_state(state.absolute()) as store:
        found, now = store.read(lambda tx: (sources.listed(tx), tx.now))
    code = 0 if all(source.state == "ok" for source in found) else 1
    if output == "json":
        value = [
            {
                "fleet": source.fleet,
                "remote": _remote(source.remote),
                "branch": source.branch,
                "seen": source.seen_commit,
                "accepted": source.head_commit,
                "state": source.state,
                "message": source.message,
                "waitingAcceptance": source.accept_commit,
                "checked": source.checked_at.isoformat() if source.checked_at else None,
            }
            for source in found
        ]
        click.echo(json.dumps(value, indent=2, ensure_ascii=False))
        return code
    if not found:
        click.echo("No fleet was looked at yet. The daemon does that: reconciler serve")
        return code
    rows = [
        (
            source.fleet,
            _remote(source.remote),
            source.branch,
            (source.seen_commit or "")[:12],
            (source.head_commit or "none")[:12],
            source.state,
            f"{operators.span(now - source.checked_at)} ago" if source.checked_at else "never",
            source.message,
        )
        for source in found
    ]
    headings = ("FLEET", "REMOTE", "BRANCH", "SEEN", "ACCEPTED", "STATE", "CHECKED", "MESSAGE")
    tables.show(headings, rows, no_color=no_color)
    return code


def _remote(address: str) -> str:
    """The address as it was recorded; what an https address may hold of a login is left out once more."""
    from reconciler.desired.remotes import shown  # noqa: PLC0415

    return shown(address) if address.startswith("https:") else address


@command.command(name="accept")
@click.argument("sha")
@operators.fleet_name
@click.pass_obj
def accept(state: Path, sha: str, fleet_name: str | None) -> None:
    """Follow commit SHA, although it does not follow from the one before: the branch was rewritten or rewound.

    SHA is what the branch shows now (`reconciler source`), whole or at least 7 characters of it. What is applied then is
    the whole difference: `reconciler plan --from ACCEPTED --to SHA` shows it, and the guards still hold.
    """
    from reconciler.app import accepting, asking  # noqa: PLC0415 - help and completion stay fast
    from reconciler.store import open_state  # noqa: PLC0415

    by = asking.actor()
    with open_state(state.absolute()) as store:
        source, running = asking.tell(
            store, state.absolute(), lambda tx: accepting.accept(tx, fleet_name, sha, by)
        )
    instead = f" instead of {source.head_commit[:12]}" if source.head_commit else ""
    click.echo(f"Fleet {source.fleet} follows {(source.seen_commit or '')[:12]}{instead}; accepted by {by}.")
    operators.heard(running=running)
