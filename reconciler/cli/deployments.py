"""`reconciler deployments` and `reconciler deployments show`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reconciler.cli import options

if TYPE_CHECKING:
    from reconciler.store import Tx
    from reconciler.store.queries.deployments import Deployment


@click.group(name="deployments", invoke_without_command=True)
@options.state
@click.option(
    "--limit", type=click.IntRange(1, 10000), default=20, show_default=True, help="Most rows to list."
)
@click.option("--resource", metavar="ADDRESS", help="Only of this resource, such as Site/shop.")
@click.option("--failed", is_flag=True, help="Only failed ones.")
@options.output("text", "json")
@options.no_color
@click.pass_context
def command(
    context: click.Context,
    state: Path,
    limit: int,
    resource: str | None,
    *,
    failed: bool,
    output: str,
    no_color: bool,
) -> None:
    """List deployments, newest first; `deployments show ID` prints one with its output."""
    context.obj = state
    if context.invoked_subcommand is not None:
        return
    from reconciler.cli import tables  # noqa: PLC0415 - help and completion stay fast
    from reconciler.store import open_state  # noqa: PLC0415
    from reconciler.store.queries import deployments, users  # noqa: PLC0415

    kind, _, name = (resource or "").partition("/")
    wanted = deployments.Filter(kind=kind or None, name=name or None, status="failed" if failed else None)

    def unit(tx: Tx) -> tuple[list[Deployment], dict[str, str]]:
        return deployments.listed(tx, wanted, limit=limit), {u.id: u.name for u in users.all(tx)}

    with open_state(state.absolute()) as store:
        found, people = store.read(unit)
    if output == "json":
        click.echo(json.dumps([as_json(d, people) for d in found], indent=2, ensure_ascii=False))
        return
    if not found:
        click.echo("No deployments.")
        return
    headings = (
        "ID",
        "RESOURCE",
        "STATUS",
        "TRIGGER",
        "ACTOR",
        "COMMIT",
        "SOURCE",
        "STARTED",
        "TOOK",
        "REASON",
    )
    rows = [
        (
            d.id,
            f"{d.kind}/{d.name}" + (" (drift)" if d.corrective else ""),
            d.status,
            d.triggered_via,
            people.get(d.actor_id or "", ""),
            (d.commit_hash or "")[:7],
            (d.source_commit or "")[:12],
            d.started_at.strftime("%Y-%m-%d %H:%M:%S") if d.started_at else "",
            _took(d),
            d.reason or "",
        )
        for d in found
    ]
    tables.show(headings, rows, no_color=no_color)


@command.command(name="show")
@click.argument("deployment")
@options.output("text", "json")
@click.pass_obj
def show(state: Path, deployment: str, output: str) -> None:
    """Print one deployment with what its node said. DEPLOYMENT is an id or the beginning of one."""
    from reconciler.store import open_state  # noqa: PLC0415
    from reconciler.store.queries import deployments, users  # noqa: PLC0415

    def unit(tx: Tx) -> tuple[Deployment, str, str, dict[str, str]]:
        found = deployments.find(tx, deployment.upper())
        out = deployments.output_of(tx, found.id, "stdout")
        err = deployments.output_of(tx, found.id, "stderr")
        return found, out.shown(), err.shown(), {u.id: u.name for u in users.all(tx)}

    with open_state(state.absolute()) as store:
        found, out, err, people = store.read(unit)
    value = as_json(found, people)
    if output == "json":
        click.echo(json.dumps({**value, "stdout": out, "stderr": err}, indent=2, ensure_ascii=False))
        return
    for name, item in value.items():
        if item not in (None, "", False):
            click.echo(f"{name.replace('_', ' ') + ':':<14} {item}")
    for title, text in (("stdout", out), ("stderr", err)):
        if text:
            click.echo(f"\n{title}:\n{text.rstrip()}")


def as_json(d: Deployment, people: dict[str, str]) -> dict[str, object]:
    """A deployment without its output."""
    return {
        "id": d.id,
        "resource": f"{d.kind}/{d.name}",
        "status": d.status,
        "trigger": d.triggered_via,
        "actor": people.get(d.actor_id or "") or None,
        "branch": d.branch,
        "commit": d.commit_hash,
        "sourceBranch": d.source_branch,
        "sourceCommit": d.source_commit,
        "plan": d.plan_id,
        "apply": d.apply_id,
        "corrective": d.corrective,
        "reason": d.reason,
        "started": d.started_at.isoformat() if d.started_at else None,
        "finished": d.finished_at.isoformat() if d.finished_at else None,
    }


def _took(d: Deployment) -> str:
    if d.started_at is None or d.finished_at is None:
        return ""
    return f"{(d.finished_at - d.started_at).total_seconds():.1f}s"
