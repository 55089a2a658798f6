"""Which deliveries were acted on lately, so that a captured one that comes again does nothing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from datetime import datetime, timedelta

LIFETIME = timedelta(hours=1)
"""Longer than a Standard Webhooks message is accepted (`signatures.TOLERANCE` to both sides)."""


class Seen:
    """Marks of deliveries, kept in memory for `lifetime`, `limit` of them at most. Only proven deliveries get in."""

    def __init__(self, limit: int = 4096, lifetime: timedelta = LIFETIME) -> None:
        self._limit = limit
        self._lifetime = lifetime
        self._marks: OrderedDict[tuple[str, str], datetime] = OrderedDict()

    def enter(self, fleet: str, marks: Iterable[str], now: datetime) -> bool:
        """Remembers a delivery; False when one of its marks is known already, and then nothing changes."""
        keys = [(fleet, mark) for mark in marks]
        if any(key in self._marks and now - self._marks[key] < self._lifetime for key in keys):
            return False
        for key in keys:
            self._marks[key] = now
            self._marks.move_to_end(key)
        while len(self._marks) > self._limit:
            self._marks.popitem(last=False)
        return True

    def leave(self, fleet: str, marks: Iterable[str]) -> None:
        """Forgets a delivery that could not be acted on, so that the sender's next try is."""
        for mark in marks:
            self._marks.pop((fleet, mark), None)
