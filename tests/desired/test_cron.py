"""Schedules mean what crontab(5) says, and systemd, asked itself, comes at the same minutes."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.desired.cron import Schedule

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="no systemd-analyze here: apt-get install systemd"
)


@pytest.mark.parametrize(
    ("text", "calendar"),
    [
        ("* * * * *", ("*-*-* *:*:00",)),
        ("*/15 * * * *", ("*-*-* *:00,15,30,45:00",)),
        ("30 3 * * *", ("*-*-* 03:30:00",)),
        ("0 9-17 * * mon-fri", ("Mon,Tue,Wed,Thu,Fri *-*-* 09..17:00:00",)),
        ("0 0 1 jan,jul *", ("*-01,07-01 00:00:00",)),
        ("5 4 * * sun", ("Sun *-*-* 04:05:00",)),
        ("5 4 * * 7", ("Sun *-*-* 04:05:00",)),
        ("5 4 * * 0-6", ("*-*-* 04:05:00",)),
        ("1-10/3 2,4 * * *", ("*-*-* 02,04:01,04,07,10:00",)),
        # either of two days
        ("0 6 13 * fri", ("*-*-13 06:00:00", "Fri *-*-* 06:00:00")),
        # a star, also one with a step, leaves it to the other
        ("0 6 */2 * fri", ("Fri *-*-01,03,05,07,09,11,13,15,17,19,21,23,25,27,29,31 06:00:00",)),
        ("@hourly", ("*-*-* *:00:00",)),
        ("@daily", ("*-*-* 00:00:00",)),
        ("@midnight", ("*-*-* 00:00:00",)),
        ("@weekly", ("Sun *-*-* 00:00:00",)),
        ("@monthly", ("*-*-01 00:00:00",)),
        ("@yearly", ("*-01-01 00:00:00",)),
        ("  0   0 29 2 * ", ("*-02-29 00:00:00",)),
    ],
)
def test_a_schedule_becomes_calendar_events(text: str, calendar: tuple[str, ...]) -> None:
    assert Schedule.of(text).calendar == calendar


@pytest.mark.parametrize(
    ("text", "daily"),
    [
        ("0 3 * * *", True),
        ("@monthly", True),
        ("0 3,15 * * *", False),
        ("@hourly", False),
        ("*/5 3 * * *", False),
    ],
)
def test_a_missed_time_counts_when_the_next_is_a_day_away(text: str, daily: bool) -> None:
    assert Schedule.of(text).at_most_daily is daily


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "0 fields"),
        ("0 0 * * * *", "6 fields"),
        ("60 * * * *", "from 0 to 59"),
        ("* 24 * * *", "hour: 24"),
        ("* * 0 * *", "from 1 to 31"),
        ("* * * 13 *", "month: 13"),
        ("* * * foo *", "such as feb"),
        ("* * * * 8", "from 0 to 7"),
        ("* * ? * *", "'?' is not a number"),
        ("0 0 * * 5#2", "'5#2' is not a number"),
        ("1,,2 * * * *", "'' is not a number"),
        ("-5 * * * *", "'' is not a number"),
        ("²  * * * *", "is not a number"),
        ("٣ * * * *", "is not a number"),
        ("00000000001 * * * *", "is not a number"),
        ("*/ * * * *", "step ''"),
        ("1-5/60 * * * *", "step '60'"),
        ("0 0 31 4,6 *", "never comes in month 4,6"),
        ("0 0 30 2 mon", "never comes in month 2"),
        ("@Daily", "known: @yearly"),
    ],
)
def test_what_is_no_schedule_is_refused_in_words(text: str, word: str) -> None:
    with pytest.raises(ValueError, match=r"^(is|has) ") as caught:
        Schedule.of(text)
    assert word in str(caught.value)


def _field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    span = st.tuples(number, number).map(lambda two: f"{min(two)}-{max(two)}")
    step = st.tuples(st.one_of(st.just("*"), span), st.integers(1, high)).map(
        lambda two: f"{two[0]}/{two[1]}"
    )
    part = st.one_of(number.map(str), span, step)
    return st.one_of(st.just("*"), st.lists(part, min_size=1, max_size=3).map(",".join))


SCHEDULES = st.tuples(_field(0, 59), _field(0, 23), _field(1, 28), _field(1, 12), _field(0, 7)).map(" ".join)


def due(text: str, at: datetime) -> bool:
    """crontab(5), told a second time: number by number, from the text."""

    def holds(field: str, value: int, low: int, high: int) -> bool:
        for part in field.split(","):
            span, _, step = part.partition("/")
            first, _, last = span.partition("-")
            begin = low if span == "*" else int(first)
            end = high if span == "*" else int(last or first)
            if begin <= value <= end and (value - begin) % int(step or 1) == 0:
                return True
        return False

    minute, hour, day, month, weekday = text.split()
    number = at.isoweekday() % 7
    on_day = holds(day, at.day, 1, 31)
    on_weekday = holds(weekday, number, 0, 7) or (number == 0 and holds(weekday, 7, 0, 7))
    either = "*" not in day and "*" not in weekday
    return (
        holds(minute, at.minute, 0, 59)
        and holds(hour, at.hour, 0, 23)
        and holds(month, at.month, 1, 12)
        and (on_day or on_weekday if either else on_day and on_weekday)
    )


@given(SCHEDULES, st.datetimes(datetime(2024, 1, 1), datetime(2030, 12, 31)))
def test_a_schedule_is_due_when_crontab_says(text: str, at: datetime) -> None:
    found = Schedule.of(text)
    on_day, on_weekday = at.day in found.days, at.isoweekday() in found.weekdays
    is_due = (
        at.minute in found.minutes
        and at.hour in found.hours
        and at.month in found.months
        and (on_day or on_weekday if found.either else on_day and on_weekday)
    )
    assert is_due == due(text, at)


def elapses(events: tuple[str, ...], base: datetime, count: int) -> list[datetime]:
    """The next times of all events together, as systemd reckons them."""
    found: set[datetime] = set()
    for event in events:
        argv = ["systemd-analyze", "calendar", f"--base-time={base:%Y-%m-%d %H:%M:%S} UTC"]
        argv += [f"--iterations={count}", f"{event} UTC"]
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=30, check=False, env={"TZ": "UTC"}
        )
        assert done.returncode == 0, done.stderr
        for line in done.stdout.splitlines():
            label, colon, rest = line.strip().partition(": ")
            if colon and (label == "Next elapse" or label.startswith("Iter")):
                at = datetime.strptime(rest.strip(), "%a %Y-%m-%d %H:%M:%S UTC")
                found.add(at.replace(tzinfo=UTC))
    return sorted(found)[:count]


@needs_systemd
@settings(max_examples=60, deadline=None)
@given(SCHEDULES, st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1)))
def test_systemd_comes_at_the_minutes_of_the_schedule_and_at_no_others(text: str, base: datetime) -> None:
    base = base.replace(second=0, microsecond=0, tzinfo=UTC)
    found = elapses(Schedule.of(text).calendar, base, 3)
    assert found, text
    assert all(due(text, at) for at in found)
    # nothing between them was left out; long stretches are looked through by days
    last = min(found[-1], base + timedelta(days=40))
    at, missed = base + timedelta(minutes=1), []
    while at <= last:
        if due(text, at) and at not in found:
            missed.append(at)
        at += timedelta(minutes=1)
    assert missed == []
