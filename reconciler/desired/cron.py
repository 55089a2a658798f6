"""Schedules as crontab(5) has them, and the calendar events of systemd.time(7) that come at the same minutes.

Five fields, `minute hour day-of-month month day-of-week`, or one of the words below. Lists, ranges, steps and English
names are understood; what crontab(5) does not know (`L`, `#`, seconds) is refused, and so is a date that never comes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_WORDS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_RUN = 3
"""So many values in a row are written as a range."""


@dataclass(frozen=True)
class _Field:
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()

    def number(self, text: str) -> int:
        if text.lower() in self.names:
            return self.low + self.names.index(text.lower())
        if not (text.isascii() and text.isdigit()) or len(text) > 4:
            known = f" or a name such as {self.names[1]}" if self.names else ""
            raise ValueError(f"is wrong at the {self.name}: {text!r} is not a number{known}")
        if not self.low <= int(text) <= self.high:
            raise ValueError(f"is wrong at the {self.name}: {text} is not from {self.low} to {self.high}")
        return int(text)

    def values(self, text: str) -> frozenset[int]:
        """What a list of ranges means. Raises ValueError with the field's name."""
        return frozenset(value for part in text.split(",") for value in self._part(part))

    def _part(self, text: str) -> Iterable[int]:
        span, slash, step = text.partition("/")
        first, dash, last = span.partition("-")
        if span == "*":
            low, high = self.low, self.high
        elif dash:
            low, high = self.number(first), self.number(last)
        else:
            low = high = self.number(first)
            if slash:
                raise ValueError(
                    f"is wrong at the {self.name}: a step follows * or a range, such as {low}-{self.high}/{step}"
                )
        if low > high:
            raise ValueError(f"is wrong at the {self.name}: {span} runs backwards")
        if not slash:
            return range(low, high + 1)
        if not (step.isascii() and step.isdigit() and len(step) < 4) or not 1 <= int(step) <= self.high:
            raise ValueError(
                f"is wrong at the {self.name}: the step {step!r} is not a number from 1 to {self.high}"
            )
        return range(low, high + 1, int(step))


_MINUTE = _Field("minute", 0, 59)
_HOUR = _Field("hour", 0, 23)
_DAY = _Field("day of the month", 1, 31)
_MONTH = _Field("month", 1, 12, _MONTHS)
_WEEKDAY = _Field("day of the week", 0, 7, _DAYS)  # 0 and 7 are Sunday
_FIELDS = (_MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY)


@dataclass(frozen=True)
class Schedule:
    """The minutes, hours, days and months at which a job is due; weekdays are 1 (Monday) to 7.

    `either`: the day of the month or the day of the week is enough. crontab(5): when neither holds a `*`.
    """

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either: bool

    @staticmethod
    def of(text: str) -> Schedule:
        """Read a schedule. Raises ValueError that says what is wrong with it."""
        texts = _fields(text)
        read = [field.values(part) for field, part in zip(_FIELDS, texts, strict=True)]
        minutes, hours, days, months, weekdays = read
        either = "*" not in texts[2] and "*" not in texts[4]
        if not any(day <= _LONGEST[month - 1] for month in months for day in days):
            raise ValueError(f"is wrong at the day of the month: {texts[2]} never comes in month {texts[3]}")
        return Schedule(minutes, hours, days, months, frozenset(day or 7 for day in weekdays), either)

    @property
    def calendar(self) -> tuple[str, ...]:
        """Values of `OnCalendar=` that together come at these minutes and at no others."""
        time = f"{_written(self.hours, 0, 23)}:{_written(self.minutes, 0, 59)}:00"
        month = _written(self.months, 1, 12)
        day = _written(self.days, 1, 31)
        names = [_DAYS[number % 7].title() for number in sorted(self.weekdays)]
        weekday = "" if len(names) == 7 else ",".join(names) + " "
        if self.either:
            return (f"*-{month}-{day} {time}", f"{weekday}*-{month}-* {time}")
        return (f"{weekday}*-{month}-{day} {time}",)

    @property
    def at_most_daily(self) -> bool:
        """Whether at least a day lies between two times: one that was missed is long in coming again."""
        return len(self.minutes) == len(self.hours) == 1


def _fields(text: str) -> list[str]:
    if text.startswith("@"):
        if text == "@reboot":
            raise ValueError(
                "is @reboot, which is no time; what is up from the start of the node on is a worker"
            )
        if text not in _WORDS:
            raise ValueError(f"is {text}, which is no known word; known: {', '.join(_WORDS)}")
        return _WORDS[text].split()
    texts = text.split()
    if len(texts) != len(_FIELDS):
        raise ValueError(
            f"has {len(texts)} fields and not five: minute, hour, day of the month, month, day of the week, "
            "such as '30 3 * * mon-fri'"
        )
    return texts


def _written(values: frozenset[int], low: int, high: int) -> str:
    """As systemd writes a list: `00,15,30,45`, `09..17`, `*` for all."""
    if len(values) == high - low + 1:
        return "*"
    parts: list[str] = []
    rest = sorted(values)
    while rest:
        run = next((n for n in range(1, len(rest)) if rest[n] != rest[0] + n), len(rest))
        if run >= _RUN:
            parts.append(f"{rest[0]:02}..{rest[run - 1]:02}")
        else:
            parts += [f"{value:02}" for value in rest[:run]]
        rest = rest[run:]
    return ",".join(parts)
