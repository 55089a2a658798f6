"""What a person sees while an apply runs, as calls; the command line prints them, tests collect them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from reconciler.desired.fleet import Key
from reconciler.nodes.answers import Event

ResultState = Literal["succeeded", "failed", "skipped"]


@dataclass(frozen=True)
class Result:
    """How one resource ended. `action` is the plan's word, or `repair`; `hint` says what to do about a failure."""

    key: Key
    action: str
    state: ResultState
    message: str
    deployment: str
    seconds: float
    hint: str = ""


class Progress(Protocol):
    """Told as it happens, from one event loop."""

    def node(self, server: str, text: str) -> None:
        """Something about a node as a whole: connecting, waiting."""
        ...

    def started(self, key: Key, action: str, deployment: str) -> None:
        """Work on a resource begins; `deployment` is its id."""
        ...

    def event(self, server: str, event: Event, deployment: str) -> None:
        """The node's agent told something; `deployment` is the one that it concerns, empty for the node as a whole."""
        ...

    def finished(self, result: Result) -> None:
        """A resource is done with."""
        ...


class Silent:
    """Tells nobody."""

    def node(self, server: str, text: str) -> None:
        """Nothing."""

    def started(self, key: Key, action: str, deployment: str) -> None:
        """Nothing."""

    def event(self, server: str, event: Event, deployment: str) -> None:
        """Nothing."""

    def finished(self, result: Result) -> None:
        """Nothing."""
