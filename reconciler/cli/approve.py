"""`reconciler approve`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reconciler.cli import operators, options

if TYPE_CHECKING:
    from reconciler.app.approving import Waiting
    from reconciler.store import Store

_SHOWN = 40
"""Resources that are named one by one."""


@click.command(name="approve")
@click.argument("plan", required=False)
@click.option(
    "--code",
    "codes",
    multiple=True,
    metavar="CODE",
    help="Approve only this finding, such as data-loss; may be repeated.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@options.state
@options.output("text", "json")
@options.no_color
def command(
    plan: str | None, codes: tuple[str, ...], *, yes: bool, state: Path, output: str, no_color: bool
) -> int:
    """Let a plan pass that waits for a person; without PLAN, list those that wait.

    PLAN is an id, the beginning of one, or the beginning of a plan's identity. What the plan would destroy is shown before
    the question. An approval holds for exactly this plan: changes that are not in it wait again. Exit codes: 0 done, 1 fault,
    3 no approval can let the plan pass, 6 not approved.
    """
    from reconciler.app import approving, asking  # noqa: PLC0415 - help and completion stay fast
    from reconciler.store import open_state  # noqa: PLC0415

    with open_state(state.absolute()) as store:
        if plan is None:
            if codes or yes:
                raise click.UsageError("name the plan to approve")
            _list(store, output, no_color=no_color)
            return 0
        if output == "json" and not yes:
            click.echo(
                json.dumps(
                    _json(store.read(lambda tx: approving.find(tx, plan))), indent=2, ensure_ascii=False
                )
            )
            return 0
        found = store.read(lambda tx: approving.find(tx, plan))
        if output == "text":
            _show(found)
        chosen = approving.chosen(found, codes)
        if not chosen:
            click.echo("Nothing of this plan waits for an approval.", err=True)
            return 0
        if not (yes or _ask(chosen)):
            click.echo("Not approved: nothing was changed.")
            return 6
        by = asking.actor()
        after, running = asking.tell(
            store, state.absolute(), lambda tx: approving.approve(tx, found, chosen, by)
        )
    if output == "json":
        click.echo(json.dumps(_json(after), indent=2, ensure_ascii=False))
    else:
        rest = f" It still waits for {', '.join(after.codes)}." if after.codes else ""
        click.echo(f"Approved by {by}: {', '.join(chosen)}.{rest}")
    operators.heard(running=running)
    return 0


def _ask(codes: Sequence[str]) -> bool:
    if not sys.stdin.isatty():
        raise click.UsageError("there is nobody to ask: give --yes to approve without a question")
    answer: str = click.prompt(
        f"Approve {', '.join(codes)}? Only 'yes' is accepted", default="no", show_default=False
    )
    return answer == "yes"


def _list(store: Store, output: str, *, no_color: bool) -> None:
    from reconciler.app import approving  # noqa: PLC0415
    from reconciler.cli import tables  # noqa: PLC0415
    from reconciler.kit.text import count, short  # noqa: PLC0415

    found, now = store.read(lambda tx: (approving.waiting(tx), tx.now))
    if output == "json":
        click.echo(json.dumps([_json(one) for one in found], indent=2, ensure_ascii=False))
        return
    if not found:
        click.echo("No plan waits for an approval.")
        return
    rows = [
        (
            one.stored.id,
            one.stored.fleet,
            short(one.stored.commit),
            f"{operators.span(now - one.stored.created_at)} ago",
            ", ".join(f.code for f in one.blocking),
            _named([c.address for c in one.destroyed], 3) or "nothing",
        )
        for one in found
    ]
    tables.show(("PLAN", "FLEET", "COMMIT", "WAITING", "FOR", "WOULD DESTROY"), rows, no_color=no_color)
    click.echo(
        f"\n{count(len(found), 'plan')} {'waits' if len(found) == 1 else 'wait'}. To see all of one and decide: ",
        nl=False,
    )
    click.echo(f"reconciler approve {found[0].stored.id}")


def _show(found: Waiting) -> None:
    """What a person needs to decide: where it comes from, what stands in the way, what would be lost."""
    stored = found.stored
    author = f" by {found.plan.author_name}" if found.plan and found.plan.author_name else ""
    click.echo(f"Plan {stored.id} of fleet {stored.fleet}: commit {stored.commit[:12]}{author}")
    summary = ", ".join(f"{number} to {word}" for word, number in stored.summary.items() if number)
    click.echo(f"{summary or 'Its changes were not counted'}. Made {operators.when(stored.created_at)}.\n")
    for finding in found.blocking:
        click.echo(f"  {finding.code}: {finding.message}")
        if finding.addresses:
            click.echo(f"      {_named(finding.addresses, _SHOWN)}")
        if finding.hint:
            click.echo(f"      {finding.hint}")
        if not finding.approvable:
            click.echo("      No approval lets this pass: these resources stay as they are.")
    if found.plan is None:
        click.echo("  This version cannot read the plan itself; the findings above are what is known of it.")
    for title, changes in (
        ("Would be destroyed", found.destroyed),
        ("Would no longer be managed", found.forgotten),
    ):
        if changes:
            click.echo(f"\n{title}:")
            for change in changes[:_SHOWN]:
                risks = ", ".join(risk.value for risk in change.risks if risk.value != "none")
                on = f" on {change.previous_server or change.server}" if change.server else ""
                click.echo(f"  - {change.address}{on}" + (f" ({risks})" if risks else ""))
            if len(changes) > _SHOWN:
                click.echo(f"  - and {len(changes) - _SHOWN} more")
    click.echo("")


def _named(addresses: Sequence[str], most: int) -> str:
    rest = len(addresses) - most
    return ", ".join(addresses[:most]) + (f" and {rest} more" if rest > 0 else "")


def _json(found: Waiting) -> dict[str, object]:
    stored = found.stored
    return {
        "id": stored.id,
        "identity": stored.identity,
        "fleet": stored.fleet,
        "commit": stored.commit,
        "status": stored.status,
        "created": stored.created_at.isoformat(),
        "summary": stored.summary,
        "waitsFor": [f.code for f in found.blocking],
        "findings": [
            {
                "code": f.code,
                "message": f.message,
                "blocking": f.blocking,
                "approvable": f.approvable,
                "addresses": list(f.addresses),
                "hint": f.hint,
            }
            for f in found.findings
        ],
        "destroys": [change.address for change in found.destroyed],
        "forgets": [change.address for change in found.forgotten],
        "approved": stored.approved,
        "approvedBy": stored.approved_by,
    }
