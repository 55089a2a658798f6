"""`reconciler validate`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from reconciler.cli import options


@click.command(name="validate")
@click.argument("folder", type=click.Path(path_type=Path), default=Path())
@options.output("text", "json")
def command(folder: Path, output: str) -> int:
    """Check the manifests of FOLDER (default: the current one), committed or not.

    Prints every problem as path:line:col. Exit code 1 when there is an error; warnings alone are 0. Needs no state, no node
    and no git.
    """
    from reconciler.app import fleets  # noqa: PLC0415 - help and completion stay fast
    from reconciler.desired.problems import format_problem, problem_json  # noqa: PLC0415

    revision = fleets.in_folder(folder)
    loaded = revision.loaded
    if output == "json":
        value = {
            "valid": not loaded.errors,
            "resources": len(loaded.fleet.entries),
            "problems": [problem_json(problem) for problem in loaded.problems],
        }
        click.echo(json.dumps(value, indent=2))
        return 1 if loaded.errors else 0
    for problem in loaded.problems:
        click.echo(format_problem(problem))
    resources = len(loaded.fleet.entries)
    found = len(loaded.errors)
    warnings = len(loaded.problems) - found
    if loaded.problems:
        click.echo("")
    if found:
        click.echo(
            f"{_count(found, 'error')}, {_count(warnings, 'warning')}; {_count(resources, 'valid resource')}."
        )
        return 1
    noted = f", {_count(warnings, 'warning')}" if warnings else ""
    click.echo(
        f"Valid: {_count(resources, 'resource')} in {_count(len(revision.snapshot.files), 'file')}{noted}."
    )
    return 0


def _count(number: int, noun: str) -> str:
    from reconciler.kit.text import count  # noqa: PLC0415

    return count(number, noun)
