"""Windows without a clock, selectors, and the forms of values in Rollouts."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from reconciler.desired import windows
from reconciler.desired.kinds.rollout import RolloutWindow, Share, TimeZone
from reconciler.desired.rollouts import selects

WEEK = 7 * 24 * 60
SHARE: TypeAdapter[int | str] = TypeAdapter(Share)
ZONE: TypeAdapter[str] = TypeAdapter(TimeZone)


def window(mode: str = "allow", start: str = "00:00", duration: str = "1h", **more: Any) -> RolloutWindow:
    value = {"name": "w", "mode": mode, "start": start, "duration": duration, **more}
    return RolloutWindow.model_validate_json(json.dumps(value))


def test_the_minutes_of_a_window_are_counted_from_monday() -> None:
    assert windows.minutes(window(days=["mon"], start="00:30", duration="2m")) == {30, 31}
    assert windows.minutes(window(days=["sun"], start="23:59", duration="3m")) == {WEEK - 1, 0, 1}
    assert len(windows.minutes(window(start="12:00", duration="24h"))) == WEEK
    assert windows.minutes(window(days=["tue"], start="00:00", duration="1m1s")) == {1440, 1441}


def test_a_window_is_never_open_only_when_denials_cover_all_of_it() -> None:
    night = window(start="01:00", duration="2h", timezone="Europe/Berlin")
    first = window("deny", start="00:00", duration="2h", timezone="Europe/Berlin")
    second = window("deny", start="02:00", duration="1h", timezone="Europe/Berlin")
    short = window("deny", start="02:00", duration="59m", timezone="Europe/Berlin")
    elsewhere = window("deny", start="02:00", duration="1h", timezone="Europe/London")
    freeze = window("deny", days=["fri"], start="09:00", duration="168h", timezone="Asia/Tokyo")
    assert list(windows.never_open([night, first, second])) == [0]
    assert list(windows.never_open([first, second, night])) == [2]
    assert list(windows.never_open([night, first])) == []
    assert list(windows.never_open([night, first, short])) == []
    assert list(windows.never_open([night, first, elsewhere])) == [], "zones are not compared"
    assert list(windows.never_open([night, freeze])) == [0], "but what denies always denies everywhere"
    assert list(windows.never_open([first, second, freeze])) == [], "denials alone may cover what they will"


def test_every_zone_of_the_database_is_known_and_has_the_form_of_a_zone() -> None:
    names = {n for n in available_timezones() if n not in ("localtime", "Factory") and "posix" not in n}
    assert len(names) > 100
    for name in names:
        assert windows.zone(name) is not None
        assert ZONE.validate_python(name) == name


@pytest.mark.parametrize(
    "name", ["Europe/Berln", "europe/berlin", "Europe", "localtime", "posixrules", "x" * 300]
)
def test_other_names_are_no_zone(name: str) -> None:
    assert windows.zone(name) is None


@pytest.mark.parametrize(
    "name", ["/etc/localtime", "../UTC", "Europe/../UTC", "Europe//Berlin", "", "A\0B", "-x"]
)
def test_a_path_has_not_the_form_of_a_zone(name: str) -> None:
    with pytest.raises(ValidationError):
        ZONE.validate_python(name)


def test_a_zone_observes_summer_time() -> None:
    berlin = windows.zone("Europe/Berlin")
    offsets = {datetime(2026, month, 1, tzinfo=UTC).astimezone(berlin).utcoffset() for month in (1, 7)}
    assert offsets == {timedelta(hours=1), timedelta(hours=2)}
    assert windows.zone("UTC") is UTC


@pytest.mark.parametrize("value", [0, 1, 10_000, "1%", "25%", "100%"])
def test_a_share_is_a_number_or_a_percentage(value: int | str) -> None:
    assert SHARE.validate_python(value) == value


@pytest.mark.parametrize(
    "value",
    [-1, 10_001, 1.0, True, None, "", "5", "0%", "05%", "101%", "1.5%", "-5%", "5 %", "5%\n", [1], {}],
)
def test_nothing_else_is_a_share(value: object) -> None:
    with pytest.raises(ValidationError, match="must be a whole number of servers"):
        SHARE.validate_python(value)


labels = st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy"))


@given(labels, labels, labels)
def test_a_selector_with_more_labels_selects_no_more(
    one: dict[str, str], two: dict[str, str], has: dict[str, str]
) -> None:
    assert selects({}, has)
    assert selects(has, has)
    if selects(one | two, has):
        assert selects(two, has), "every label of a selector counts"
