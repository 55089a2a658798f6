"""What connections and requests tell to whoever counts them."""

from __future__ import annotations

from typing import Protocol


class Observer(Protocol):
    """Told by a pool about its connections and requests, in the event loop: it must be quick and must not raise."""

    def connected(self, server: str, seconds: float) -> None:
        """A login succeeded, `seconds` after it was begun."""

    def failed(self, server: str, reason_word: str) -> None:
        """A login failed; `reason_word` is the class name of the fault, such as `NodeUnreachable`."""

    def answered(self, op: str, seconds: float) -> None:
        """The agent answered a request, also with a refusal, `seconds` after it was sent."""


class Unobserved:
    """Nobody counts."""

    def connected(self, server: str, seconds: float) -> None:
        """Passed over."""

    def failed(self, server: str, reason_word: str) -> None:
        """Passed over."""

    def answered(self, op: str, seconds: float) -> None:
        """Passed over."""
