"""`reconciler top`."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reconciler.cli import options

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

    from reconciler.app.overview import Overview, ServerView

_STYLES = {
    "ok": "green",
    "applied": "green",
    "unreachable": "yellow",
    "applying": "yellow",
    **dict.fromkeys(("empty", "rewritten", "unsigned", "refused", "quarantined"), "bold red"),
}
_FIXED = 8  # the first line, the table of conditions, and a last line that stays free


@click.command(name="top")
@options.state
@click.option("--once", is_flag=True, help="Print one frame and end; so it is too where no terminal reads.")
@click.option(
    "--every",
    metavar="SECONDS",
    type=click.FloatRange(0.2, 60),
    default=1.0,
    show_default=True,
    help="Time between two frames.",
)
@options.no_color
def command(state: Path, every: float, *, once: bool, no_color: bool) -> int:
    """Show how everything stands: fleets, servers, running work, conditions, alerts.

    It reads the state directory, so it works whether the daemon runs or not. Ctrl-C ends it.
    """
    from rich.live import Live  # noqa: PLC0415 - help and completion stay fast

    from reconciler.app.overview import take  # noqa: PLC0415
    from reconciler.cli import tables  # noqa: PLC0415
    from reconciler.store import open_state  # noqa: PLC0415

    console = tables.console(no_color=no_color)
    with open_state(state.absolute()) as store:
        if once or not sys.stdout.isatty():
            _print(console, frame(store.read(take)))
            return 0
        try:
            with Live(console=console, screen=True, auto_refresh=False) as live:
                while True:
                    live.update(frame(store.read(take), console.height), refresh=True)
                    time.sleep(every)
        except KeyboardInterrupt:
            return 0


@dataclass(frozen=True)
class Room:
    """How many rows of each table a frame shows; None: all."""

    fleets: int | None = None
    servers: int | None = None
    running: int | None = None
    alerts: int | None = None

    @staticmethod
    def within(view: Overview, height: int) -> Room:
        """The rows that fit on a terminal of `height` lines; one of 24 lines shows something of each."""
        fleets, alerts = min(len(view.fleets), max(1, height // 8 - 2)), min(len(view.alerts), 3)
        left = height - _FIXED - (2 + fleets if fleets else 0) - (3 + alerts if alerts else 0)
        running = min(len(view.running), max(1, (left - 5) // 3))
        left -= 2 + running if running else 0
        return Room(fleets, max(1, left - 3), running, alerts)


def frame(view: Overview, height: int | None = None) -> RenderableType:
    """A frame, at most `height` lines high if one is given: what is calm is left out first."""
    from rich.console import Group  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    room = Room() if height is None else Room.within(view, height)
    parts: list[RenderableType] = [_head(view)]
    if view.fleets:
        parts += [Text(), _fleets(view, room.fleets)]
    if view.servers:
        shown = sorted(view.servers, key=lambda server: (server.calm, server.name))[: room.servers]
        parts += [Text(), _servers(sorted(shown, key=lambda server: server.name))]
        left = len(view.servers) - len(shown)
        if left:
            calm = "all calm" if all(server.calm for server in {*view.servers} - {*shown}) else "not all calm"
            parts.append(Text(f"… {left} more, {calm}", style="dim"))
    if view.running:
        parts += [Text(), _running(view, room.running)]
    parts += [Text(), _conditions(view)]
    if view.alerts:
        parts += [Text(), _alerts(view, room.alerts)]
    return Group(*parts)


def age(seconds: float) -> str:
    """A length of time in two units at most: `4s`, `3m12s`, `2h05m`, `3d04h`."""
    whole = max(0, int(seconds))
    for size, unit, part, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // part:02d}{smaller}"
    return f"{whole}s"


def _print(console: Console, found: RenderableType) -> None:
    with console.capture() as captured:
        console.print(found)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


def _head(view: Overview) -> RenderableType:
    from rich.text import Text  # noqa: PLC0415

    from reconciler.kit.text import count  # noqa: PLC0415

    if view.holder is None:
        daemon = Text("no daemon is running", style="yellow")
    else:
        daemon = Text(f"daemon {view.holder.owner}", style="green")
    rest = [
        count(len(view.running), "deployment") + " under way",
        count(view.queued, "server") + " waiting",
        count(view.waiting, "request") + " unanswered",
        f"{len(view.suspended)} suspended",
    ]
    at = view.now.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    line = Text(f"{at} UTC  ", no_wrap=True, overflow="ellipsis")
    return line.append_text(daemon).append("  " + ", ".join(rest))


def _fleets(view: Overview, room: int | None) -> Table:
    table = _table("FLEET", "BRANCH", "SOURCE", "SEEN", "REVISION", "STATUS", "CHECKED", "MESSAGE")
    for fleet in view.fleets[:room]:
        source = fleet.source
        _row(
            table,
            source.fleet,
            source.branch,
            source.state,
            (source.seen_commit or "")[:7],
            (source.head_commit or "")[:7],
            fleet.revision_status,
            _ago(view, source.checked_at),
            source.message,
        )
    return table


def _servers(servers: Sequence[ServerView]) -> Table:
    table = _table("SERVER", "STATE", "READY", "RESOURCES", "DENIALS", "NOW")
    for server in servers:
        of = f"{server.ready}/{server.total}"
        denials = str(server.denials or "")
        _row(table, server.name, server.state, server.condition, of, denials, server.doing)
    return table


def _running(view: Overview, room: int | None) -> Table:
    table = _table("DEPLOYMENT", "RESOURCE", "STATUS", "TRIGGER", "COMMIT", "AGE")
    for deployment in view.running[:room]:
        _row(
            table,
            deployment.id,
            f"{deployment.kind}/{deployment.name}" + (" (drift)" if deployment.corrective else ""),
            deployment.status,
            deployment.triggered_via,
            (deployment.commit_hash or "")[:7],
            age((view.now - deployment.started_at).total_seconds()) if deployment.started_at else "",
        )
    return table


def _conditions(view: Overview) -> Table:
    table = _table("CONDITION", "TRUE", "FALSE", "UNKNOWN")
    for kind, by_status in view.counts.items():
        good = "False" if kind in ("Stalled", "Drifted", "Reconciling") else "True"
        bad = {"True": "False", "False": "True"}[good]
        cells = {status: str(number) for status, number in by_status.items()}
        style = "bold red" if by_status[bad] and kind != "Reconciling" else ""
        _row(table, kind, cells["True"], cells["False"], cells["Unknown"], style=style)
    return table


def _alerts(view: Overview, room: int | None) -> Table:
    table = _table("ALERT", "RESOURCE", "STATE", "SINCE", "MESSAGE")
    for alert in view.alerts[:room]:
        since = _ago(view, alert.first_at)
        _row(table, alert.type, f"{alert.kind}/{alert.name}", alert.state, since, alert.message)
    if room is not None and len(view.alerts) > room:
        _row(table, f"… {len(view.alerts) - room} more")
    return table


def _table(*headings: str) -> Table:
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, no_wrap=True, overflow="ellipsis")
    return table


def _row(table: Table, *cells: str, style: str = "") -> None:
    from rich.text import Text  # noqa: PLC0415

    from reconciler.cli.events import readable  # noqa: PLC0415
    from reconciler.cli.tables import style as style_of  # noqa: PLC0415

    table.add_row(
        *(Text(readable(cell), style=style or _STYLES.get(cell) or style_of(cell)) for cell in cells)
    )


def _ago(view: Overview, at: datetime | None) -> str:
    return "never" if at is None else f"{age((view.now - at).total_seconds())} ago"
