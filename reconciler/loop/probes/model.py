"""What is probed and what was found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

from reconciler.kit.clock import Clock
from reconciler.nodes.answers import UnitState

Redact = Callable[[str], str]


@dataclass(frozen=True)
class HealthTarget:
    """A server or a site to look at. `server` is the server's name and `address` its IP address.

    `domain` and `aliases` are a site's. The ports are the node's and seldom other than 80 and 443.
    """

    kind: Literal["Server", "Site"]
    name: str
    server: str
    address: str
    domain: str | None = None
    aliases: tuple[str, ...] = ()
    http_port: int = 80
    https_port: int = 443


class Prober(Protocol):
    """What only the node can tell. Both raise NodeFault's leaves."""

    async def units(self, server: str, names: Sequence[str]) -> Mapping[str, UnitState]:
        """The states of these units of a server."""
        ...

    async def denials(self, server: str, since: datetime) -> int:
        """How often SELinux refused something on a server since this time."""
        ...


@dataclass(frozen=True)
class Means:
    """What probes work with: `commands` by name, the time, and what masks secrets in a text. `since`: the change."""

    prober: Prober
    clock: Clock
    since: datetime
    commands: Mapping[str, Sequence[str]] = field(default_factory=dict)
    redact: Redact = str


@dataclass(frozen=True)
class Verdict:
    """Whether a check passed, and a sentence about it."""

    ok: bool
    message: str


def failed(message: str) -> Verdict:
    """A check that did not pass."""
    return Verdict(ok=False, message=message)


def passed(message: str) -> Verdict:
    """A check that passed."""
    return Verdict(ok=True, message=message)
