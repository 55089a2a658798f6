from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.errors import UsageFault
from reconciler.selinux import mcs

NUMBERS = st.integers(0, mcs.PAIRS - 1)
CATEGORY = st.integers(0, mcs.CATEGORIES - 1)


@given(NUMBERS)
def test_a_number_and_its_pair_are_one_to_one(number: int) -> None:
    lesser, greater = mcs.pair(number)
    assert 0 <= lesser < greater < mcs.CATEGORIES
    assert mcs.number_of({lesser, greater}) == number
    assert mcs.number_of_level(mcs.level(number)) == number


@given(st.sets(CATEGORY, min_size=2, max_size=2))
def test_every_pair_has_a_number(categories: set[int]) -> None:
    number = mcs.number_of(categories)
    assert number is not None
    assert set(mcs.pair(number)) == categories


def test_numbers_cover_the_whole_space_without_a_gap() -> None:
    assert [mcs.pair(n) for n in range(4)] == [(0, 1), (0, 2), (1, 2), (0, 3)]
    assert mcs.pair(mcs.PAIRS - 1) == (1022, 1023)
    assert mcs.PAIRS == 523_776


@given(NUMBERS, NUMBERS)
def test_no_site_reaches_another(one: int, other: int) -> None:
    assert mcs.dominates(mcs.level(one), mcs.level(other)) is (one == other)


@given(NUMBERS)
def test_every_site_reaches_what_has_fewer_categories(number: int) -> None:
    lesser, greater = mcs.pair(number)
    for fewer in ("s0", f"s0:c{lesser}", f"s0:c{greater}"):
        assert mcs.dominates(mcs.level(number), fewer)
        assert mcs.number_of_level(fewer) is None


def test_the_reserved_block_is_all_pairs_of_the_first_categories() -> None:
    assert mcs.level(mcs.FIRST) == "s0:c0,c100"
    assert mcs.level(mcs.FIRST - 1) == "s0:c98,c99"
    assert all(max(mcs.pair(n)) < 100 for n in range(mcs.FIRST))


@given(st.integers(1, mcs.PAIRS - mcs.FIRST))
def test_a_site_has_a_pair_of_its_own_that_is_never_a_reserved_one(ordinal: int) -> None:
    number = mcs.of_site(ordinal)
    assert mcs.FIRST <= number < mcs.PAIRS
    assert number - mcs.of_site(1) == ordinal - 1
    assert mcs.of_user(f"web{ordinal}") == number


def test_the_sites_of_a_server_use_every_pair_that_is_not_reserved() -> None:
    assert mcs.level(mcs.of_site(1)) == "s0:c0,c100"
    assert mcs.level(mcs.of_site(mcs.PAIRS - mcs.FIRST)) == "s0:c1022,c1023"


def test_past_the_last_pair_it_says_what_to_do() -> None:
    with pytest.raises(UsageFault) as fault:
        mcs.of_site(mcs.PAIRS - mcs.FIRST + 1)
    assert "categories" in fault.value.message
    assert "another server" in fault.value.hint
    with pytest.raises(ValueError, match="counted from 1"):
        mcs.of_site(0)


@pytest.mark.parametrize("name", ["web", "web0", "web01", "webmaster", "web1\n", "xweb1", "web1234567890"])
def test_a_user_that_was_not_allocated_has_no_pair(name: str) -> None:
    assert mcs.of_user(name) is None


@pytest.mark.parametrize(
    ("level", "categories"),
    [
        ("s0", set()),
        ("s0:c5", {5}),
        ("s0:c100,c101", {100, 101}),
        ("s0:c100.c101", {100, 101}),
        ("s0:c1,c4.c6", {1, 4, 5, 6}),
        ("s0-s0:c0.c1023", set(range(1024))),
        ("s0:c1,c2-s0:c1,c2", {1, 2}),
    ],
)
def test_levels_are_read_as_the_kernel_writes_them(level: str, categories: set[int]) -> None:
    assert mcs.categories(level) == frozenset(categories)


@pytest.mark.parametrize(
    "level", ["", "s1", "s0:", "s0:c1024", "s0:c2.c1", "s0:x", "s0:c1,", "SystemHigh", "s0:c1\n"]
)
def test_what_is_no_level_has_no_categories(level: str) -> None:
    assert mcs.categories(level) is None
    assert not mcs.dominates(level, "s0:c1,c2")


@given(st.text(max_size=40))
def test_any_text_may_be_asked_for_its_categories(text: str) -> None:
    found = mcs.categories(text)
    assert found is None or found <= set(range(mcs.CATEGORIES))


@pytest.mark.parametrize("number", [-1, mcs.PAIRS])
def test_numbers_outside_of_the_space_are_refused(number: int) -> None:
    with pytest.raises(ValueError, match="not the number of a pair"):
        mcs.level(number)
