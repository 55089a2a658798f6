"""The breaker: objects that flap are left alone for a while, longer each time, and not for ever."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.loop.breaker import Breaker, Limits

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
MOVES = st.lists(
    st.tuples(st.integers(-3 * 86400, 3 * 86400), st.booleans()), max_size=60
)  # seconds that the clock moves, and whether a repair follows
LIMITS = st.builds(
    lambda repairs, within, first, more: Limits(
        repairs, timedelta(seconds=within), timedelta(seconds=first), timedelta(seconds=first + more)
    ),
    st.integers(1, 6),
    st.integers(1, 7200),
    st.integers(1, 7200),
    st.integers(0, 86400),
)


def repair(breaker: Breaker, at: datetime, times: int = 5, apart: timedelta = MINUTE) -> Breaker:
    for number in range(times):
        breaker = breaker.repaired(at + number * apart)
    return breaker


def flap(breaker: Breaker, at: datetime) -> tuple[Breaker, timedelta]:
    """Five repairs as soon as it may; how long it is open then."""
    breaker = repair(breaker, at)
    assert breaker.opened is not None
    assert breaker.until is not None
    return breaker, breaker.until - breaker.opened


def test_the_fifth_repair_in_an_hour_opens_it_for_an_hour() -> None:
    breaker = repair(Breaker(), NOON, times=4)
    assert breaker.until is None
    breaker = breaker.repaired(NOON + 59 * MINUTE)
    assert breaker.until == NOON + 59 * MINUTE + HOUR
    assert breaker.at(NOON + 118 * MINUTE).until is not None
    assert breaker.at(NOON + 119 * MINUTE).until is None


def test_repairs_that_are_an_hour_old_no_longer_count() -> None:
    breaker = repair(Breaker(), NOON, times=40, apart=15 * MINUTE)
    assert breaker.until is None
    assert len(breaker.repairs) == 4


def test_each_further_time_lasts_twice_as_long_up_to_a_day() -> None:
    breaker, now, lengths = Breaker(), NOON, []
    for _ in range(7):
        breaker, length = flap(breaker, now)
        lengths.append(length)
        assert breaker.until is not None
        now = breaker.until
    assert lengths == [HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR, 16 * HOUR, 24 * HOUR, 24 * HOUR]


def test_a_quiet_day_starts_it_from_the_beginning() -> None:
    breaker, _ = flap(Breaker(), NOON)
    assert breaker.until is not None
    busy, length = flap(breaker, breaker.until + 23 * HOUR)
    assert length == 2 * HOUR
    assert busy.until is not None
    _, length = flap(busy, busy.until + 24 * HOUR)
    assert length == HOUR


def test_a_repair_while_it_is_open_changes_nothing() -> None:
    breaker, _ = flap(Breaker(), NOON)
    assert repair(breaker, NOON + 10 * MINUTE, times=20) == breaker


def test_a_clock_set_back_keeps_it_open_for_no_more_than_its_time() -> None:
    breaker, length = flap(Breaker(), NOON)
    year_before = NOON - timedelta(days=365)
    breaker = breaker.at(year_before)
    assert breaker.until == year_before + length
    assert breaker.at(year_before + length).until is None


def test_repairs_of_a_future_that_was_taken_back_age_like_others() -> None:
    breaker = repair(Breaker(), NOON + timedelta(days=365), times=4)
    breaker = breaker.at(NOON)
    assert len(breaker.repairs) == 4
    assert breaker.at(NOON + HOUR).repairs == ()


@given(moves=MOVES, limits=LIMITS)
def test_it_is_never_open_for_longer_than_the_longest_and_keeps_no_heap_of_repairs(
    moves: list[tuple[int, bool]], limits: Limits
) -> None:
    breaker, now = Breaker(), NOON
    for seconds, repaired in moves:
        now += timedelta(seconds=seconds)
        breaker = breaker.repaired(now, limits) if repaired else breaker.at(now, limits)
        assert len(breaker.repairs) < max(limits.repairs, 2)
        if breaker.until is not None:
            assert now < breaker.until <= now + limits.longest
            assert breaker.at(breaker.until, limits).until is None
        assert Breaker.from_json(json.loads(json.dumps(breaker.to_json()))) == breaker
        assert breaker.at(now, limits) == breaker


@given(gaps=st.lists(st.integers(0, 4000), max_size=80), limits=LIMITS)
def test_repairs_that_it_let_through_never_exceed_the_limit(gaps: list[int], limits: Limits) -> None:
    """In any stretch of `within` at most `repairs` automatic repairs happen."""
    breaker, now, done = Breaker(), NOON, []
    for gap in gaps:
        now += timedelta(seconds=gap)
        breaker = breaker.at(now, limits)
        if breaker.until is None:
            breaker = breaker.repaired(now, limits)
            done.append(now)
    # An opening shorter than the stretch begins a new count; otherwise no stretch holds more.
    if limits.first >= limits.within:
        for first in done:
            assert sum(first <= at < first + limits.within for at in done) <= limits.repairs


@given(number=st.integers(1, 10_000), limits=LIMITS)
def test_the_length_of_an_opening_is_doubled_and_capped(number: int, limits: Limits) -> None:
    assert limits.length(number) == min(limits.longest, limits.first * 2 ** min(number - 1, 30))


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"repairs": [], "times": "1"},
        {"repairs": ["yesterday"], "times": 0},
        {"repairs": ["2026-01-31T12:00:00"], "times": 0},
        {"repairs": [5], "times": 0},
    ],
)
def test_what_is_no_breaker_is_refused(value: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Breaker.from_json(value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"repairs": 0},
        {"within": timedelta()},
        {"first": timedelta()},
        {"first": 2 * HOUR, "longest": HOUR},
    ],
)
def test_limits_that_cannot_work_are_refused(arguments: dict[str, timedelta]) -> None:
    with pytest.raises(ValueError, match="no breaker can keep"):
        Limits(**arguments)  # type: ignore[arg-type]
