"""What the loop tells about its work; the metrics fulfil it."""

from __future__ import annotations

from typing import Protocol


class Meter(Protocol):
    """Counts and measures. No call fails."""

    def reconciled(self, kind: str, result: str, seconds: float) -> None:
        """A reconcile of one resource ended."""
        ...

    def provisioned(self, ok: bool) -> None:  # noqa: FBT001 - the only thing to say
        """A new server was set up, or could not be."""
        ...

    def drift(self, kind: str, action: str) -> None:
        """A difference was found: `heal` or `report`."""
        ...

    def avc(self, tclass: str, number: int = 1) -> None:
        """SELinux refused something so often, by the class of the object."""
        ...
