"""`reconciler events`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reconciler.cli import options

if TYPE_CHECKING:
    from reconciler.store import Tx
    from reconciler.store.queries.events import Event

POLL = 0.5
"""Seconds between two looks at the database while following: each reads one row unless something is new."""

FIRST = 50
"""Events that are printed to begin with."""

_WINDOW = 200


@click.command(name="events")
@options.state
@click.option("-f", "--follow", is_flag=True, help="Go on printing what happens until interrupted.")
@click.option("--kind", help="Only of this kind, such as Site, or Fleet.")
@click.option("--name", help="Only of the resources of this name.")
@click.option(
    "--since",
    metavar="DURATION",
    help="All of this time until now, such as 90s, 10m or 24h; else the newest 50.",
)
@options.output("text", "json")
@options.no_color
def command(
    state: Path,
    kind: str | None,
    name: str | None,
    since: str | None,
    output: str,
    *,
    follow: bool,
    no_color: bool,
) -> int:
    """Print what happened, oldest first; -f goes on as it happens.

    With --output json each event is an object on a line of its own.
    """
    from reconciler.desired.scalars import seconds  # noqa: PLC0415 - help and completion stay fast
    from reconciler.store import open_state  # noqa: PLC0415

    try:
        length = timedelta(seconds=seconds(since)) if since is not None else None
    except ValueError as fault:
        raise click.BadParameter(str(fault), param_hint="--since") from None
    reader = Reader(_kind(kind), name)
    show: Callable[[Event], None] = _json if output == "json" else Lines(no_color=no_color)
    with open_state(state.absolute()) as store:
        first = store.read(lambda tx: reader.first(tx, tx.now - length if length is not None else None))
        for event in first:
            show(event)
        if not first and not follow:
            click.echo("No events.", err=True)
        try:
            while follow:
                time.sleep(POLL)
                for event in store.read(reader.fresh):
                    show(event)
        except KeyboardInterrupt:
            return 130  # the ordinary end of following: nothing to say about it
    return 0


class Reader:
    """Reads events in the order they happened, each once.

    Two processes may make ids in the same millisecond, so a later event can have the smaller id: what is new is told by
    comparing the newest events with those of before, not by the greatest id.
    """

    def __init__(self, kind: str | None = None, name: str | None = None) -> None:
        self._kind = kind
        self._name = name
        self._seen: frozenset[str] = frozenset()
        self._newest = ""

    def first(self, tx: Tx, since: datetime | None = None) -> list[Event]:
        """The newest `FIRST` events, or all since a time if one is given, oldest first."""
        found = self._back(tx, lambda event: since is None or event.at < since)
        self._remember(found[:_WINDOW])
        if since is None:
            return found[:FIRST][::-1]
        return [event for event in reversed(found) if event.at >= since]

    def fresh(self, tx: Tx) -> list[Event]:
        """What has happened since the last call, oldest first."""
        newest = self._read(tx, 1)
        if not newest or newest[0].id == self._newest:
            return []
        found = self._back(tx, lambda event: event.id in self._seen)
        oldest = min(self._seen, default="")  # what is before it was read, or left out, at the beginning
        new = [event for event in reversed(found) if event.id not in self._seen and event.id > oldest]
        self._remember(found[:_WINDOW])
        return new

    def _back(self, tx: Tx, far_enough: Callable[[Event], bool]) -> list[Event]:
        """The newest events, newest first, back to one that is far enough or to the first of all."""
        window = _WINDOW
        while True:
            found = self._read(tx, window)
            if len(found) < window or any(map(far_enough, found)):
                return found
            window *= 2

    def _read(self, tx: Tx, limit: int) -> list[Event]:
        from reconciler.store.queries import events  # noqa: PLC0415

        return events.listed(tx, kind=self._kind, name=self._name, limit=limit)

    def _remember(self, found: list[Event]) -> None:
        self._seen = frozenset(event.id for event in found)
        self._newest = found[0].id if found else ""


class Lines:
    """Prints an event as a line. A column grows with what it has held, so that lines stay below each other."""

    def __init__(self, *, no_color: bool = False) -> None:
        self._color = False if no_color else None  # None: only where a terminal reads
        self._widths = [len("Warning"), 16, 16]

    def __call__(self, event: Event) -> None:
        """Print it."""
        cells = [event.type, f"{event.kind}/{event.name}", event.reason]
        self._widths = [max(width, len(cell)) for width, cell in zip(self._widths, cells, strict=True)]
        padded = [cell.ljust(width) for cell, width in zip(cells, self._widths, strict=True)]
        if event.type == "Warning":
            padded[0] = click.style(padded[0], fg="yellow")
        at = event.at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
        line = "  ".join([at, *padded, readable(event.message)])
        click.echo(line.rstrip(), color=self._color)


def readable(text: str) -> str:
    """A message on one line: what a node said may hold newlines and control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _json(event: Event) -> None:
    value = {
        "id": event.id,
        "time": event.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "type": event.type,
        "resource": f"{event.kind}/{event.name}",
        "reason": event.reason,
        "message": event.message,
        "deployment": event.deployment_id,
    }
    click.echo(json.dumps(value, ensure_ascii=False))


def _kind(given: str | None) -> str | None:
    """The kind as it is recorded, however its letters are written."""
    from reconciler.desired.kinds import Kind  # noqa: PLC0415

    known = {kind.value.lower(): kind.value for kind in Kind} | {"fleet": "Fleet"}
    return None if given is None else known.get(given.lower(), given)
