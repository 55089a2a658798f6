"""What the operators' verbs share: options, times for people, and the word on whether a daemon heard them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def fleet_name(function: F) -> F:
    """`--fleet-name NAME`."""
    return click.option(
        "--fleet-name",
        metavar="NAME",
        help="Fleet by its name in the daemon's settings (default: the only one).",
    )(function)


def when(at: datetime | None) -> str:
    """A time in UTC to the second, empty for none."""
    return at.strftime("%Y-%m-%d %H:%M:%SZ") if at else ""


def span(length: timedelta) -> str:
    """A length of time in one or two units: `45s`, `5m`, `2h10m`, `3d4h`."""
    seconds = max(0, int(length.total_seconds()))
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days}d{hours}h" if hours else f"{days}d"
    if hours:
        return f"{hours}h{minutes}m" if minutes else f"{hours}h"
    return f"{minutes}m" if minutes else f"{seconds}s"


def heard(*, running: bool) -> None:
    """Say so when what was recorded waits for a daemon that is not there."""
    if not running:
        click.echo(
            "Recorded; no daemon is running. It takes effect when one is started: reconciler serve", err=True
        )
