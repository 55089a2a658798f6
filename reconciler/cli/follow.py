"""An apply as it happens, a line at a time, in Terraform's words."""

from __future__ import annotations

import click

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
}
_DONE = {
    "create": "Creation",
    "update": "Modification",
    "replace": "Replacement",
    "delete": "Destruction",
    "forget": "Forgetting",
    "repair": "Repair",
    "clear": "Removal",
}


class Follow:
    """Prints to standard output; `quiet` prints nothing, for machine-readable output.

    When nobody reads any more it falls silent: an apply goes on without its audience.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet

    def node(self, server: str, text: str) -> None:
        """A word about a node."""
        self._line(f"{server}: {text}")

    def started(self, key: Key, action: str) -> None:
        """Work begins."""
        self._line(f"{key}: {_DOING.get(action, action)}...")

    def event(self, server: str, event: Event) -> None:
        """Only what concerns the whole node; the rest is in the deployments."""
        if event.type in ("reload", "restart") and event.data.get("ok") is not False:
            self._line(f"{server}: {event.type} {event.data.get('unit', '')}")

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
            click.echo(text)
        except OSError:
            self._quiet = True
