"""Maintenance windows: when changes may reach servers, by the rules of Argo CD's sync windows.

Without windows changes may go out at any time; with allow windows only inside one of them; an active deny window beats
every allow window (https://argo-cd.readthedocs.io/en/stable/user-guide/sync_windows/).

A window opens on its days at its wall-clock time in its time zone and stays open for its duration, counted in elapsed
time, as RFC 5545 (3.3.5, 3.3.6) has it: when the clocks go back an opening time that comes twice means the first, when
they go forward one that does not come at all is read with the offset from before the jump (02:30 becomes 03:30), and
three hours are three hours on every day. A window contains the instant it opens and not the one it closes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

Mode = Literal["allow", "deny"]
Span = tuple[datetime, datetime]

EVERY_DAY = frozenset(range(7))

_DAY = timedelta(days=1)
# Opened once a week a window of nine days never closes, also where the clocks or the calendar jump by a day.
_ENDLESS = timedelta(days=9)
_NEAR = timedelta(days=9)
FAR = timedelta(days=400)
"""How far ahead a change is looked for: a year has both changes of the clocks."""


@dataclass(frozen=True)
class Window:
    """A stretch of time that comes again on given days of the week.

    `days` are numbered from Monday, 0, and name the day on which the window opens; `start` is the wall-clock time in
    `zone`; `duration` may reach over midnight and over days. `overrun` lets work go on that began when it was allowed.

    Raises ValueError for a window that could never be open, a day out of range or a start that carries an offset.
    """

    name: str
    mode: Mode
    start: time
    duration: timedelta
    zone: ZoneInfo
    days: frozenset[int] = EVERY_DAY
    overrun: bool = True

    def __post_init__(self) -> None:
        if not self.days or not self.days <= EVERY_DAY:
            raise ValueError(
                f"window {self.name}: days are numbers from 0 (Monday) to 6, at least one of them"
            )
        if self.duration <= timedelta():
            raise ValueError(f"window {self.name}: the duration must be longer than nothing")
        if self.start.tzinfo is not None:
            raise ValueError(
                f"window {self.name}: the start is a wall-clock time; the zone is a field of its own"
            )


@dataclass(frozen=True)
class Standing:
    """What windows say at one instant."""

    open: bool
    """Whether work may start."""
    until: datetime | None
    """When `open` changes next, in UTC; None: not within `FAR`."""
    by: str
    """The window that decides: the deny window that holds it shut, the allow window that is open or, outside of all
    of them, the one that opens next. Empty when no window has a say now."""
    overrun: bool
    """Whether work that started while it was open may go on: every window that holds it shut must permit it."""


def standing(windows: Sequence[Window], now: datetime) -> Standing:
    """What `windows` say at `now`, an aware time. Raises ValueError for a naive one."""
    if now.tzinfo is None:
        raise ValueError("windows need an aware time")
    now = now.astimezone(UTC)
    coming = _Coming(windows, now, now + _NEAR)
    until = coming.change()
    if until is None and windows:
        coming = _Coming(windows, now, now + FAR)
        until = coming.change()
    is_open = coming.open_at(now)
    return Standing(is_open, until, coming.decider(), is_open or coming.overrun_at(now))


def next_change(windows: Sequence[Window], now: datetime) -> datetime | None:
    """When `windows` next begin or cease to let work start, in UTC; None when they do not within `FAR`."""
    return standing(windows, now).until


def stop_at(windows: Sequence[Window], now: datetime) -> datetime | None:
    """From when on work that goes on at `now`, an aware time, may no longer go on; `now` itself if it may not even now.

    That is the first instant at which it is not open and a window that holds it shut does not permit overrun, which
    may be later than the end of the stretch in which the work began. In UTC; None: not within nine days, far longer
    than any work lasts. Raises ValueError for a naive time.
    """
    if now.tzinfo is None:
        raise ValueError("windows need an aware time")
    now = now.astimezone(UTC)
    coming = _Coming(windows, now, now + _NEAR)
    moments = (now, *coming.moments())
    return next((at for at in moments if not coming.open_at(at) and not coming.overrun_at(at)), None)


class _Coming:
    """The spans of every window from `now` up to a horizon."""

    def __init__(self, windows: Sequence[Window], now: datetime, horizon: datetime) -> None:
        self._now = now
        self._horizon = horizon
        self._all = [(window, _spans(window, now, horizon)) for window in windows]
        self._allows = [(window, spans) for window, spans in self._all if window.mode == "allow"]
        self._denies = [(window, spans) for window, spans in self._all if window.mode == "deny"]

    def open_at(self, at: datetime) -> bool:
        if any(_covers(spans, at) for _, spans in self._denies):
            return False
        return not self._allows or any(_covers(spans, at) for _, spans in self._allows)

    def change(self) -> datetime | None:
        """The first instant after now, up to the horizon, at which `open_at` is another than now."""
        is_open = self.open_at(self._now)
        return next((moment for moment in self.moments() if self.open_at(moment) != is_open), None)

    def moments(self) -> list[datetime]:
        """The instants after now, up to the horizon, at which a window opens or closes, in order."""
        # An end beyond the horizon may be put off by an opening beyond it; those up to it are certain.
        return sorted(
            {
                moment
                for _, spans in self._all
                for span in spans
                for moment in span
                if self._now < moment <= self._horizon
            }
        )

    def decider(self) -> str:
        for window, spans in (*self._denies, *self._allows):
            if _covers(spans, self._now):
                return window.name
        opening = [(spans[0][0], index) for index, (_, spans) in enumerate(self._allows) if spans]
        return self._allows[min(opening)[1]][0].name if opening else ""

    def overrun_at(self, at: datetime) -> bool:
        """Whether all windows that hold it shut at `at` permit overrun."""
        holding = [window for window, spans in self._denies if _covers(spans, at)]
        if not any(_covers(spans, at) for _, spans in self._allows):
            holding += [window for window, _ in self._allows]
        return all(window.overrun for window in holding)


def _covers(spans: Sequence[Span], at: datetime) -> bool:
    """Whether one of `spans`, which are apart and in order, contains `at`."""
    index = bisect_right(spans, at, key=lambda span: span[0]) - 1
    return index >= 0 and at < spans[index][1]


def _spans(window: Window, since: datetime, until: datetime) -> list[Span]:
    """The spans of `window` that end after `since` and begin by `until`, in UTC, apart from each other, in order."""
    duration = min(window.duration, _ENDLESS)
    spans: list[Span] = []
    for day in _days(window, since - duration, until):
        start = datetime.combine(day, window.start, window.zone).astimezone(UTC)
        end = start + duration
        if end <= since or start > until:
            continue
        if spans and start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((start, end))
    return spans


def _days(window: Window, since: datetime, until: datetime) -> Iterator[date]:
    """The local dates on which `window` opens, with a day to spare at both ends for the offset from UTC."""
    day = since.date() - 2 * _DAY
    last = until.date() + 2 * _DAY
    while day <= last:
        if day.weekday() in window.days:
            yield day
        day += _DAY
