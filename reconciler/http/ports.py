"""What the HTTP layer asks of the daemon. `app/` fulfils it; the tests hand in a stand-in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from reconciler.kit.secret import Secret


@dataclass(frozen=True)
class Health:
    """Whether the loop lives; `detail` says in a sentence why not. It is shown to everybody who can reach the socket."""

    ok: bool
    detail: str = ""


@dataclass(frozen=True)
class Readiness:
    """Whether the daemon does its work; `reasons` say what is missing, in sentences that anybody may read."""

    ok: bool
    reasons: tuple[str, ...] = ()


class Daemon(Protocol):
    """The running daemon. No method blocks or waits; all are called in the daemon's event loop."""

    def healthy(self) -> Health:
        """Whether the loop's heartbeat is fresh: a supervisor may end the process when it is not."""
        ...

    def ready(self) -> Readiness:
        """Whether the lease is held, interrupted work is settled, and each source was read once."""
        ...

    def metrics(self) -> tuple[bytes, str]:
        """The metrics and their content type."""
        ...

    def fleets(self) -> Sequence[str]:
        """The names of the fleets."""
        ...

    def branch(self, fleet: str) -> str:
        """The branch that a fleet follows, such as `main`; `fleet` is one of `fleets()`."""
        ...

    def webhook_secret(self, fleet: str) -> Secret | Sequence[Secret] | None:
        """The secret that senders of webhooks for this fleet know, or None when it takes none.

        Several while it is being replaced: a sender may know any of them.
        """
        ...

    def look(self, fleet: str, cause: str) -> None:
        """Look at the fleet's repository again, soon; `cause` is a line for people. Further calls until then are one."""
        ...
