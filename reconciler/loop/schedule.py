"""When each server is looked at for drift: its own moments, spread over the interval, whatever the clock does.

Every server has slots, one an interval, at a place in the interval that its name decides. So five hundred servers with
thirty minutes are some seventeen a minute, after every restart the same ones at the same times, and a check that took
long does not move the next one.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TICK = timedelta(microseconds=1)
GRACE = 1 / 20
"""The share of its interval by which a look may come late without being put off to the server's next slot."""


def share(name: str) -> float:
    """The place of `name` in an interval: from 0 up to but without 1, the same on every machine, evenly spread."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=6).digest()) / 2**48


def next_check(last: datetime, every: timedelta, jitter: float) -> datetime:
    """The slot after a check at `last`, an aware time; `jitter` is the `share` of the name. In UTC.

    Slots are `every` apart. The result is at least half an interval and less than one and a half after `last`: a
    check that was asked for right before a slot takes its place. Raises ValueError for an interval below a millisecond or a
    jitter outside of 0 to 1.
    """
    return _slot(last + every / 2, every, jitter)


def is_due(last: datetime | None, every: timedelta, jitter: float, now: datetime) -> bool:
    """Whether a server that was checked at `last` (None: never) has reached its next slot.

    A check that lies ahead of `now`, because the clock was set back, counts as none.
    """
    return last is None or last > now or next_check(last, every, jitter) <= now


@dataclass(frozen=True)
class _Entry:
    every: timedelta
    jitter: float
    at: datetime
    put_off: bool = False

    def slot_from(self, now: datetime) -> datetime:
        return _slot(now, self.every, self.jitter)


class Timetable:
    """The next check of every server. Ask `due` at `wake_at`, or at any other time, as often as you like.

    No clock is trusted to run evenly. When it jumps forward, or nobody asked for long, what was missed by more than a
    twentieth of its interval (`GRACE`) is not made up at once, by all servers together, but at each server's next
    slot; that happens once, and a server that is late again goes at once. When the clock is set back, no server waits for the
    old time to come again: each goes at its next slot. Either way a server goes within one and a half of its
    intervals after the last jump.
    """

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._next: list[tuple[datetime, str]] = []  # a heap of all entries
        self._asked: datetime | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def keep(
        self, every: Mapping[str, timedelta], last: Mapping[str, datetime | None], now: datetime
    ) -> None:
        """Have exactly the servers of `every`, with these intervals. `last` are their last checks, as far as known.

        Servers whose interval is the same keep their next check, so that this may be called at every revision. The
        others get theirs from their last check; one that was never checked, or long ago, goes at its next slot.
        Raises ValueError for an interval below a millisecond.
        """
        self._notice(now)
        self._replace(
            {
                name: known
                if (known := self._entries.get(name)) is not None and known.every == interval
                else _entry(name, interval, last.get(name), now)
                for name, interval in every.items()
            }
        )

    def due(self, now: datetime) -> tuple[str, ...]:
        """The servers to check now, the most overdue first; each is put on its next slot, as if checked at `now`."""
        self._notice(now)
        due: list[str] = []
        while self._next and self._next[0][0] <= now:
            at, name = self._next[0]
            entry = _adjusted(self._entries[name], now)
            if entry.at == at:
                due.append(name)
                entry = _Entry(entry.every, entry.jitter, next_check(now, entry.every, entry.jitter))
            self._entries[name] = entry
            heapq.heapreplace(self._next, (entry.at, name))
        return tuple(due)

    def wake_at(self) -> datetime | None:
        """When to ask `due` next; None while there are no servers."""
        return self._next[0][0] if self._next else None

    def _notice(self, now: datetime) -> None:
        """Put entries right after the clock was set back: nothing else leaves one farther ahead than it was put."""
        if self._asked is not None and now < self._asked:
            self._replace({name: _adjusted(entry, now) for name, entry in self._entries.items()})
        self._asked = now

    def _replace(self, entries: dict[str, _Entry]) -> None:
        self._entries = entries
        self._next = [(entry.at, name) for name, entry in entries.items()]
        heapq.heapify(self._next)


def _entry(name: str, every: timedelta, last: datetime | None, now: datetime) -> _Entry:
    jitter = share(name)
    if last is None or last > now:
        return _Entry(every, jitter, _slot(now, every, jitter))
    return _adjusted(_Entry(every, jitter, next_check(last, every, jitter)), now)


def _adjusted(entry: _Entry, now: datetime) -> _Entry:
    """`entry` after whatever the clock did since it was made."""
    if entry.at - now > entry.every * 1.5:  # farther ahead than any slot is put: the clock was set back
        return _Entry(entry.every, entry.jitter, entry.slot_from(now), entry.put_off)
    if now - entry.at > entry.every * GRACE and not entry.put_off:
        return _Entry(entry.every, entry.jitter, entry.slot_from(now), put_off=True)
    return entry


def _slot(at: datetime, every: timedelta, jitter: float) -> datetime:
    """The first slot at or after `at`. In whole microseconds: thousands of intervals add up no rounding error."""
    length = every // _TICK
    if length < 1000:  # the unit of durations; half of it is still something
        raise ValueError(f"checks cannot be {every} apart")
    if not 0 <= jitter <= 1:
        raise ValueError(f"jitter must lie between 0 and 1, not {jitter}")
    offset = int(jitter * length)
    number = -((offset - (at - _EPOCH) // _TICK) // length)
    return _EPOCH + (number * length + offset) * _TICK
