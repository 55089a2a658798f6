"""What can be said of a rollout's windows without a clock: their time zones, and their minutes of a week."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, tzinfo
from functools import cache
from typing import get_args
from zoneinfo import ZoneInfo, available_timezones

from reconciler.desired.kinds.rollout import Day, RolloutWindow
from reconciler.desired.scalars import seconds
from reconciler.kit.text import did_you_mean

_DAYS: tuple[str, ...] = get_args(Day)
_DAY = 24 * 60
_WEEK = 7 * _DAY
_NO_ZONES = ("posix", "right/", "localtime", "Factory")
"""Files of the database that are no zones, or differ from machine to machine."""


@cache
def zone(name: str) -> tzinfo | None:
    """The time zone of that IANA name, or None when the system's database has none. UTC needs no database."""
    if name == "UTC":
        return UTC
    if name.startswith(_NO_ZONES):
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # not there; not a zone; a folder such as Europe
        return None


def meant(name: str) -> str:
    """`did you mean 'Europe/Berlin'?`, or "" when nothing is close."""
    return did_you_mean(name, sorted(n for n in available_timezones() if not n.startswith(_NO_ZONES)))


def minutes(window: RolloutWindow) -> frozenset[int]:
    """The minutes of a week, counted in the window's own time zone from Monday 00:00, in which it is open."""
    hour, minute = map(int, window.start.split(":"))
    long = -(-int(seconds(window.duration)) // 60)
    begins = [_DAYS.index(day) * _DAY + hour * 60 + minute for day in window.days]
    return frozenset((begin + passed) % _WEEK for begin in begins for passed in range(min(long, _WEEK)))


def never_open(windows: Sequence[RolloutWindow]) -> Iterator[int]:
    """The places of the windows that allow and that windows which deny cover in every week.

    Only windows of one time zone are compared, but one that denies the whole week denies it everywhere.
    """
    denied = [(window.timezone, minutes(window)) for window in windows if window.mode == "deny"]
    for place, window in enumerate(windows):
        if window.mode == "allow" and denied:
            closed = [m for name, m in denied if name == window.timezone or len(m) == _WEEK]
            if minutes(window) <= frozenset().union(*closed):
                yield place
