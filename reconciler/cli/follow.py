"""An apply as it happens: a line for each beginning and end, in Terraform's words, and on a terminal what runs now."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

import click
from rich.console import Console
from rich.status import Status
from rich.text import Text

from reconciler.converge.progress import Result
from reconciler.desired.fleet import Key
from reconciler.nodes.answers import Event

_DOING = {
    "create": "Creating",
    "update": "Modifying",
    "replace": "Replacing",
    "delete": "Destroying",
    "forget": "Forgetting",
    "repair": "Repairing drift",
    "clear": "Removing what moved away",
    "uninstall": "Uninstalling software of",
}
_DONE = {
    "create": "Creation",
    "update": "Modification",
    "replace": "Replacement",
    "delete": "Destruction",
    "forget": "Forgetting",
    "repair": "Repair",
    "clear": "Removal",
    "uninstall": "Removal of software",
}


class Follow:
    """Prints to standard output; `quiet` prints nothing, for machine-readable output.

    When nobody reads any more it falls silent: an apply goes on without its audience.
    A context manager: on a terminal it keeps a last line with what each node is doing, and takes it away at the end.
    """

    def __init__(self, *, quiet: bool = False, no_color: bool = False) -> None:
        self._quiet = quiet
        self._now: dict[str, str] = {}
        self._status: Status | None = None
        if not quiet and sys.stdout.isatty():
            console = Console(no_color=no_color, highlight=False, markup=False, emoji=False)
            self._status = Status("", console=console)

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pause()

    def pause(self) -> None:
        """Take the last line away, for a question or the end; `resume` brings it back."""
        if self._status is not None:
            self._status.stop()

    def resume(self) -> None:
        """Go on showing what runs now."""
        if self._status is not None:
            self._status.start()

    def node(self, server: str, text: str) -> None:
        """A word about a node."""
        self._line(f"{server}: {text}")
        self._show(server, text)

    def started(self, key: Key, action: str, deployment: str) -> None:
        """Work begins."""
        self._line(f"{key}: {_DOING.get(action, action)}...")

    def event(self, server: str, event: Event, deployment: str) -> None:
        """Steps on the last line; reloads as lines of their own; the rest is in the deployments."""
        match event.type:
            case "step_started":
                self._show(server, f"{event.section} {event.key}")
            case "validate":
                self._show(server, f"validate {event.data.get('name', '')}")
            case "reload" | "restart" if event.data.get("ok") is not False:
                self._line(f"{server}: {event.type} {event.data.get('unit', '')}")
            case "apply_done":
                self._show(server, "")
            case _:
                pass

    def finished(self, result: Result) -> None:
        """Work has ended."""
        word = _DONE.get(result.action, result.action)
        if result.state == "succeeded":
            self._line(f"{result.key}: {word} complete after {result.seconds:.0f}s ({result.message})")
        else:
            self._line(f"{result.key}: {word} {result.state}: {result.message}")

    def _line(self, text: str) -> None:
        if self._quiet:
            return
        try:
            if self._status is not None:
                self._status.console.print(Text(text), soft_wrap=True)
            else:
                click.echo(text)
        except OSError:
            self._quiet = True

    def _show(self, server: str, text: str) -> None:
        if self._status is None:
            return
        self._now[server] = text
        parts = [f"{name}: {doing}" for name, doing in sorted(self._now.items()) if doing]
        width = max(20, self._status.console.width - 4)
        self._status.update(Text("  ".join(parts)[:width]))
