"""Waits between attempts: growing, capped, spread, and never a nonsense number."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.loop.backoff import delay, jittered

SECONDS = st.floats(0, 1e9)
UNIT = st.floats(0, 1)


def no_jitter() -> float:
    return 0.0


def test_waits_double_from_the_first_to_the_longest() -> None:
    assert [delay(n, 5, 600, no_jitter) for n in range(10)] == [0, 5, 10, 20, 40, 80, 160, 320, 600, 600]


def test_jitter_takes_up_to_half_of_a_wait_away() -> None:
    assert [delay(3, 5, 600, lambda share=share: share) for share in (0.0, 0.5, 1.0)] == [20, 15, 10]  # type: ignore[misc]


def test_servers_that_failed_together_do_not_come_back_together() -> None:
    source = random.Random(1)
    waits = [delay(8, 5, 600, source.random) for _ in range(500)]
    assert len({round(wait) for wait in waits}) > 200
    assert 300 <= min(waits) < 330
    assert 570 < max(waits) <= 600


@given(failures=st.integers(1, 10_000), first=SECONDS, longest=SECONDS, share=UNIT)
def test_a_wait_is_finite_and_within_its_bounds(
    failures: int, first: float, longest: float, share: float
) -> None:
    full = delay(failures, first, longest, no_jitter)
    wait = delay(failures, first, longest, lambda: share)
    assert math.isfinite(wait)
    assert 0 <= full / 2 <= wait <= full <= longest


@given(failures=st.integers(1, 10_000), first=st.floats(1e-9, 1e9), longest=SECONDS)
def test_another_failure_never_shortens_the_wait(failures: int, first: float, longest: float) -> None:
    assert delay(failures, first, longest, no_jitter) <= delay(failures + 1, first, longest, no_jitter)


@given(failures=st.integers(1, 60), first=st.floats(0.001, 1000), longest=st.floats(0.001, 1e6))
def test_a_wait_is_the_doubled_first_one_unless_that_is_too_long(
    failures: int, first: float, longest: float
) -> None:
    assert delay(failures, first, longest, no_jitter) == min(longest, first * 2 ** (failures - 1))


@pytest.mark.parametrize("failures", [10_000, 10**9, 10**30])
def test_no_number_of_failures_overflows(failures: int) -> None:
    assert delay(failures, 5, 600, no_jitter) == 600
    assert delay(failures, 5e-324, 1.7e308, no_jitter) == 1.7e308


def test_no_failure_and_no_first_wait_mean_no_wait() -> None:
    assert delay(0, 5, 600, no_jitter) == 0
    assert delay(-3, 5, 600, no_jitter) == 0
    assert delay(10_000, 0, 600, no_jitter) == 0


def test_a_jitter_outside_its_range_is_brought_into_it() -> None:
    assert delay(1, 10, 600, lambda: -7.0) == 10
    assert delay(1, 10, 600, lambda: 7.0) == 5


@pytest.mark.parametrize("bad", [-1.0, math.inf, math.nan])
def test_waits_that_are_no_numbers_of_seconds_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="first must be"):
        delay(1, bad, 600, no_jitter)
    with pytest.raises(ValueError, match="longest must be"):
        delay(1, 5, bad, no_jitter)
    with pytest.raises(ValueError, match="every must be"):
        jittered(bad, 0.1, no_jitter)


@given(every=SECONDS, share=UNIT, drawn=UNIT)
def test_an_interval_stays_within_its_share(every: float, share: float, drawn: float) -> None:
    slack = 1e-9 * every
    assert every * (1 - share) - slack <= jittered(every, share, lambda: drawn) <= every * (1 + share) + slack


def test_an_interval_is_spread_to_both_sides() -> None:
    assert [jittered(60, 0.1, lambda drawn=drawn: drawn) for drawn in (0.0, 0.5, 1.0)] == [54, 60, 66]  # type: ignore[misc]


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share must lie"):
        jittered(60, share, no_jitter)
