"""Checks for drift: spread over the interval, steady, and neither lost nor all at once when the clock jumps."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.loop.schedule import Timetable, is_due, next_check, share

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
HALF_HOUR = timedelta(minutes=30)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
NAMES = tuple(f"web{number}" for number in range(500))
TIMES = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))
INTERVALS = st.timedeltas(SECOND, timedelta(days=30))
SHARES = st.floats(0, 1, exclude_max=True)


def timetable(names: tuple[str, ...] = NAMES, now: datetime = NOON) -> Timetable:
    made = Timetable()
    made.keep(dict.fromkeys(names, HALF_HOUR), {}, now)
    return made


def run(table: Timetable, now: datetime, until: datetime) -> list[tuple[datetime, tuple[str, ...]]]:
    """Ask whenever the timetable says so."""
    asked = []
    while (wake := table.wake_at()) is not None and max(now, wake) <= until:
        now = max(now, wake)
        asked.append((now, table.due(now)))
    return asked


def test_five_hundred_servers_are_spread_over_their_half_hour() -> None:
    rounds = run(timetable(), NOON, NOON + HALF_HOUR - SECOND)
    assert sorted(name for _, names in rounds for name in names) == sorted(NAMES)
    minutes = Counter((at - NOON) // MINUTE for at, names in rounds for _ in names)
    assert len(minutes) == 30
    assert max(minutes.values()) < 40  # 17 on the average


def test_a_server_is_checked_once_an_interval_at_its_own_moment() -> None:
    rounds = run(timetable(("web1",)), NOON, NOON + 6 * HALF_HOUR)
    times = [at for at, names in rounds for _ in names]
    assert len(times) == 6
    assert {later - earlier for earlier, later in pairwise(times)} == {HALF_HOUR}


def test_the_place_of_a_name_is_the_same_everywhere() -> None:
    assert share("web1") == pytest.approx(0.90339, abs=1e-5)
    assert share("web1") != share("web2")


def test_a_restart_does_not_change_who_goes_when() -> None:
    before = timetable()
    first = run(before, NOON, NOON + 10 * MINUTE)
    last = {name: at for at, names in first for name in names}
    after = Timetable()
    after.keep(dict.fromkeys(NAMES, HALF_HOUR), last, NOON + 10 * MINUTE)
    later = NOON + 40 * MINUTE
    assert run(after, NOON + 10 * MINUTE, later) == run(before, NOON + 10 * MINUTE, later)


@pytest.mark.parametrize("days", [0.02, 0.5, 400])
def test_after_a_time_off_servers_come_one_by_one(days: float) -> None:
    now = NOON + timedelta(days=days)
    table = Timetable()
    table.keep(dict.fromkeys(NAMES, HALF_HOUR), dict.fromkeys(NAMES, NOON), now)
    rounds = run(table, now, now + HALF_HOUR)
    assert {name for _, names in rounds for name in names} == set(NAMES)
    assert max(len(names) for _, names in rounds) < 60


def test_a_last_check_of_a_time_to_come_counts_as_none() -> None:
    table = Timetable()
    table.keep({"web1": HALF_HOUR}, {"web1": NOON + timedelta(days=365)}, NOON)
    assert table.wake_at() is not None
    assert [names for _, names in run(table, NOON, NOON + HALF_HOUR)] == [("web1",)]
    assert is_due(NOON + SECOND, HALF_HOUR, 0.5, NOON)


def test_keeping_the_same_servers_again_changes_nothing_and_others_come_and_go() -> None:
    table = timetable(("web1", "web2"))
    wake = table.wake_at()
    table.keep({"web1": HALF_HOUR, "web2": HALF_HOUR}, {}, NOON + 3 * timedelta(hours=1))
    assert table.wake_at() == wake
    table.keep({"web2": MINUTE, "web3": HALF_HOUR}, {}, NOON)
    assert len(table) == 2
    rounds = run(table, NOON, NOON + HALF_HOUR - SECOND)
    assert Counter(name for _, names in rounds for name in names) == {"web2": 30, "web3": 1}
    table.keep({}, {}, NOON)
    assert table.wake_at() is None
    assert table.due(NOON + HALF_HOUR) == ()


def test_a_check_that_a_person_asked_for_takes_the_place_of_the_one_right_after() -> None:
    slot = next_check(NOON, HALF_HOUR, 0.0)
    asked = slot - MINUTE
    assert next_check(asked, HALF_HOUR, 0.0) == slot + HALF_HOUR
    assert not is_due(asked, HALF_HOUR, 0.0, slot)
    assert is_due(slot - 16 * MINUTE, HALF_HOUR, 0.0, slot)
    assert is_due(None, HALF_HOUR, 0.0, slot)


def test_what_is_late_twice_goes_at_once_and_the_most_overdue_first() -> None:
    names = ("web1", "web2", "web3", "web4")
    table = timetable(names)
    assert table.due(NOON + timedelta(hours=3)) == ()
    assert table.due(NOON + timedelta(hours=6)) == tuple(sorted(names, key=share))


def test_a_clock_set_back_between_two_revisions_is_noticed() -> None:
    table = timetable(("web1",))
    table.keep({"web1": HALF_HOUR, "web2": HALF_HOUR}, {}, NOON - timedelta(days=1))
    wake = table.wake_at()
    assert wake is not None
    assert wake <= NOON - timedelta(days=1) + HALF_HOUR
    rounds = run(table, NOON - timedelta(days=1), NOON - timedelta(days=1) + HALF_HOUR)
    assert {name for _, names in rounds for name in names} == {"web1", "web2"}


@given(last=TIMES, every=INTERVALS, jitter=SHARES, hours=st.integers(-12, 14))
def test_the_next_check_is_a_slot_about_an_interval_later(
    last: datetime, every: timedelta, jitter: float, hours: int
) -> None:
    at = next_check(last, every, jitter)
    # Half an interval of an odd number of microseconds is rounded.
    assert every / 2 - SECOND / 1000 <= at - last < every * 1.5 + SECOND / 1000
    assert next_check(at, every, jitter) == at + every
    assert next_check(at + every * 0.4, every, jitter) == at + every
    assert at.tzinfo is UTC
    assert next_check(last.astimezone(timezone(timedelta(hours=hours))), every, jitter) == at
    assert not is_due(last, every, jitter, at - timedelta(microseconds=1))
    assert is_due(last, every, jitter, at)


@pytest.mark.parametrize(
    ("every", "jitter"),
    [(timedelta(), 0.5), (timedelta(microseconds=999), 0.5), (-MINUTE, 0.5), (MINUTE, -0.1), (MINUTE, 1.1)],
)
def test_intervals_and_places_that_are_none_are_refused(every: timedelta, jitter: float) -> None:
    with pytest.raises(ValueError, match=r"apart|between 0 and 1"):
        next_check(NOON, every, jitter)


# In a history a clock runs beside the true time: `(seconds that pass, seconds that it jumps by then)`.
JUMPS = st.one_of(st.just(0), st.integers(-40 * 86400, 40 * 86400), st.integers(-3600, 3600))
HISTORIES = st.lists(st.tuples(st.integers(0, 5000), JUMPS), max_size=25)
FEW = NAMES[:40]


def live(table: Timetable, clock: datetime, seconds: float) -> tuple[datetime, list[tuple[float, str]]]:
    """Let the clock run for true `seconds`; the clock afterwards, and who was handed out after how many of them."""
    passed, seen = 0.0, []
    while (wake := table.wake_at()) is not None:
        step = max(0.0, (wake - clock).total_seconds())
        if passed + step > seconds:
            break
        passed += step
        clock += timedelta(seconds=step)
        seen += [(passed, name) for name in table.due(clock)]
    return clock + timedelta(seconds=seconds - passed), seen


@settings(max_examples=150, deadline=None)
@given(history=HISTORIES)
def test_no_jumps_of_the_clock_keep_a_server_from_its_turn_for_ever(history: list[tuple[int, int]]) -> None:
    table, clock = timetable(FEW), NOON
    for seconds, jump in history:
        clock, _ = live(table, clock, seconds)
        clock += timedelta(seconds=jump)
        table.due(clock)
    _, seen = live(table, clock, 1.5 * 1800 + 1)
    assert {name for _, name in seen} == set(FEW)


@settings(max_examples=100, deadline=None)
@given(history=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 40 * 86400)), max_size=25))
def test_a_clock_that_keeps_jumping_forward_starves_nobody(history: list[tuple[int, int]]) -> None:
    """A machine that is asleep most of the time still checks every server within two and a half waking intervals."""
    table, clock, passed = timetable(FEW), NOON, 0.0
    last = dict.fromkeys(FEW, 0.0)
    for seconds, jump in [*history, (3 * 1800, 0)]:
        clock, seen = live(table, clock, seconds)
        clock += timedelta(seconds=jump)
        seen += [(float(seconds), name) for name in table.due(clock)]
        for at, name in seen:
            assert passed + at - last[name] <= 2.5 * 1800 + 1, name
            last[name] = passed + at
        passed += seconds
    assert all(passed - at <= 2.5 * 1800 + 1 for at in last.values())


@settings(max_examples=60, deadline=None)
@given(jump=JUMPS, before=st.integers(0, 4000))
def test_no_jump_of_the_clock_lets_all_go_at_once(jump: int, before: int) -> None:
    table = timetable()
    clock, _ = live(table, NOON, before)
    clock += timedelta(seconds=jump)
    assert len(table.due(clock)) < 60  # a twentieth of them, 25, on the average
    _, seen = live(table, clock, 2 * 1800)
    minutes = Counter(int(at // 60) for at, _ in seen)
    assert max(minutes.values()) < 45


@settings(max_examples=60, deadline=None)
@given(history=st.lists(st.tuples(st.integers(1, 4000), st.integers(-5, 5)), max_size=20))
def test_a_clock_that_is_corrected_by_seconds_changes_nothing_to_speak_of(
    history: list[tuple[int, int]],
) -> None:
    table, clock, passed = timetable(FEW), NOON, 0.0
    turns: dict[str, list[float]] = {name: [] for name in FEW}
    for seconds, correction in history:
        clock, seen = live(table, clock, seconds)
        clock += timedelta(seconds=correction)
        for at, name in seen:
            turns[name].append(passed + at)
        passed += seconds
    for times in turns.values():
        for earlier, later in pairwise(times):
            assert abs(later - earlier - 1800) <= 5 * len(history)
