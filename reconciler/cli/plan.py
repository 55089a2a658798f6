"""`reconciler plan`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reconciler.cli import options

if TYPE_CHECKING:
    from reconciler.plan.model import Plan


@click.command(name="plan")
@options.fleet
@options.fleet_name
@options.state
@click.option("--rev", default="HEAD", show_default=True, help="Commit, branch or tag to plan.")
@click.option("--worktree", is_flag=True, help="Plan the files as they are now, committed or not.")
@click.option(
    "--from", "base", metavar="A", help="Compare commit A with --to, without state or nodes (for CI)."
)
@click.option("--to", "head", metavar="B", help="The later commit of --from (default: HEAD).")
@click.option("--refresh", is_flag=True, help="Ask the nodes whether they still show what was applied.")
@click.option("--detail", is_flag=True, help="List every step, address and untouched resource.")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help="Save the plan for `apply FILE`."
)
@click.option(
    "--review", is_flag=True, help="Record this plan as reviewed by you: what is merged may do this or less."
)
@click.option("--detailed-exitcode", is_flag=True, help="Exit with 2 when there are changes.")
@options.output("text", "json", "markdown")
@options.no_color
def command(  # noqa: PLR0913 - one parameter an option
    fleet: Path,
    subpath: str,
    fleet_name: str,
    state: Path,
    rev: str,
    *,
    worktree: bool,
    base: str | None,
    head: str | None,
    refresh: bool,
    detail: bool,
    out: Path | None,
    review: bool,
    detailed_exitcode: bool,
    output: str,
    no_color: bool,
) -> int:
    """Show what an apply would do, and why.

    Compares the newest commit of the fleet with what is recorded as applied. With --from A --to B it compares two commits
    and needs neither state nor nodes. With --review the daemon holds a merged commit with the same files to this plan. Exit codes: 0, 1 for errors, and 2 for changes with --detailed-exitcode.
    """
    from reconciler.app import planning  # noqa: PLC0415 - help and completion stay fast
    from reconciler.app.settings import Settings  # noqa: PLC0415
    from reconciler.plan.exits import exit_code  # noqa: PLC0415

    settings = Settings(state=state.absolute(), fleet=fleet, subpath=subpath, name=fleet_name)
    reviewed = None
    if base is not None:
        if refresh or worktree or review:
            raise click.UsageError(
                "--from compares commits alone: leave --refresh, --worktree and --review out"
            )
        plan = planning.between(settings, base, head or "HEAD")
    elif head is not None:
        raise click.UsageError("--to needs --from")
    else:
        from reconciler.converge.progress import Silent  # noqa: PLC0415
        from reconciler.store import open_state  # noqa: PLC0415

        wish = planning.Wish(rev, worktree=worktree, refresh=refresh)
        with open_state(settings.state) as store:
            if review:
                from reconciler.app import asking, reviewing  # noqa: PLC0415

                reviewed = reviewing.review(settings, store, wish, Silent(), asking.actor())
                plan = reviewed.plan
            else:
                plan = planning.against_record(settings, store, wish, Silent())
    if out is not None:
        save(plan, out)
    show(plan, output, detail=detail, no_color=no_color)
    if out is not None and output == "text":
        click.echo(f"\nSaved the plan to {out}. To apply exactly this: reconciler apply {out}")
    if reviewed is not None:
        said = f"Reviewed by {reviewed.stored.reviewed_by}: plan {reviewed.stored.id}. This tree may do this or less."
        click.echo(f"\n{said}" if output == "text" else said, err=output != "text")
    return int(exit_code(plan, detailed=detailed_exitcode))


def save(plan: Plan, path: Path) -> None:
    """Write a plan's file form, readable by its owner only: it holds whole manifests."""
    from reconciler.plan import serial  # noqa: PLC0415

    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(serial.dumps(plan))
        temporary.replace(path)
    except OSError as fault:
        raise click.ClickException(f"cannot write {path}: {fault.strerror}") from fault


def show(plan: Plan, output: str, *, detail: bool = False, no_color: bool = False) -> None:
    """Print a plan in one of its forms."""
    match output:
        case "json":
            from reconciler.plan.render.json import as_json  # noqa: PLC0415

            click.echo(as_json(plan), nl=False)
        case "markdown":
            from reconciler.plan.render.markdown import as_markdown  # noqa: PLC0415

            click.echo(as_markdown(plan, detail=detail), nl=False)
        case _:
            from reconciler.plan.render.style import Style, ansi, plain  # noqa: PLC0415
            from reconciler.plan.render.text import as_text  # noqa: PLC0415

            colour = not no_color and sys.stdout.isatty()
            style: Style = ansi if colour else plain
            click.echo(as_text(plan, detail=detail, style=style), nl=False)
