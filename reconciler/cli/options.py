"""Options that several verbs share, so that they are spelled and explained alike everywhere."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def default_state() -> Path:
    """The state directory when nothing names one: /var/lib/reconciler for root and its owner, else one of the account."""
    shared = Path("/var/lib/reconciler")
    if os.geteuid() == 0 or _owned(shared):
        return shared
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local/state")
    return Path(base) / "reconciler"


def _owned(folder: Path) -> bool:
    try:
        return folder.stat().st_uid == os.geteuid()
    except OSError:
        return False


def state(function: F) -> F:
    """`--state DIR`."""
    return click.option(
        "--state",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="RECONCILER_STATE",
        default=default_state,
        show_default="/var/lib/reconciler or ~/.local/state/reconciler",
        help="State directory made by `reconciler init`.",
    )(function)


def fleet(function: F) -> F:
    """`--fleet DIR` and `--path SUBDIR`."""
    function = click.option(
        "--path",
        "subpath",
        envvar="RECONCILER_PATH",
        default="",
        metavar="SUBDIR",
        help="Folder of the repository that holds the manifests (default: all of it).",
    )(function)
    return click.option(
        "--fleet",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="RECONCILER_FLEET",
        default=Path(),
        show_default="the current folder",
        help="Fleet repository: a git work tree or bare repository.",
    )(function)


def fleet_name(function: F) -> F:
    """`--fleet-name NAME`."""
    return click.option(
        "--fleet-name",
        envvar="RECONCILER_FLEET_NAME",
        default="main",
        show_default=True,
        metavar="NAME",
        help="The fleet's name, where one database holds several.",
    )(function)


def output(*formats: str) -> Callable[[F], F]:
    """`--output text|json…`; the first is the default."""

    def decorate(function: F) -> F:
        return click.option(
            "--output",
            type=click.Choice(formats),
            default=formats[0],
            show_default=True,
            help="Form of the output.",
        )(function)

    return decorate


def no_color(function: F) -> F:
    """`--no-color`; colours are off anyway when the output is no terminal or NO_COLOR is set."""
    return click.option("--no-color", is_flag=True, envvar="NO_COLOR", help="No colours.")(function)
