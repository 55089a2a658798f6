"""Windows: Argo's rules, wall-clock openings over changes of the clocks, and when it next changes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.loop.windows import EVERY_DAY, FAR, Mode, Standing, Window, next_change, standing, stop_at

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
BERLIN = ZoneInfo("Europe/Berlin")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")
ZONES = tuple(
    ZoneInfo(key)
    for key in ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu")
)
WEEKEND = frozenset({5, 6})
# Days around which the clocks of one of the zones change in 2026, and one where none does.
ANCHORS = tuple(
    datetime(2026, month, day, tzinfo=UTC)
    for month, day in ((3, 8), (3, 29), (4, 4), (10, 3), (10, 25), (11, 1), (6, 15))
)


def window(
    start: str,
    duration: timedelta,
    mode: Mode = "allow",
    zone: ZoneInfo = BERLIN,
    days: frozenset[int] = EVERY_DAY,
    *,
    name: str = "night",
    overrun: bool = True,
) -> Window:
    return Window(name, mode, time.fromisoformat(start), duration, zone, days, overrun)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_without_windows_it_is_always_open() -> None:
    assert standing((), at("2026-01-31T12:00")) == Standing(open=True, until=None, by="", overrun=True)


def test_an_allow_window_is_open_from_its_start_until_its_end() -> None:
    night = window("02:00", 3 * HOUR)
    for moment, expected in (
        ("2026-01-31T00:59:59", Standing(False, at("2026-01-31T01:00"), "night", True)),
        ("2026-01-31T01:00", Standing(True, at("2026-01-31T04:00"), "night", True)),
        ("2026-01-31T03:59:59", Standing(True, at("2026-01-31T04:00"), "night", True)),
        ("2026-01-31T04:00", Standing(False, at("2026-02-01T01:00"), "night", True)),
    ):
        assert standing([night], at(moment)) == expected


def test_a_deny_window_alone_leaves_the_rest_of_the_time_open() -> None:
    freeze = window("08:00", 10 * HOUR, "deny", name="shop hours", days=frozenset({0}))
    assert standing([freeze], at("2026-01-31T12:00")) == Standing(True, at("2026-02-02T07:00"), "", True)
    assert standing([freeze], at("2026-02-02T07:00")) == Standing(
        False, at("2026-02-02T17:00"), "shop hours", True
    )


def test_an_active_deny_beats_every_allow() -> None:
    night = window("02:00", 4 * HOUR)
    backup = window("03:00", HOUR, "deny", name="backup")
    assert standing([night, backup], at("2026-01-31T01:30")) == Standing(
        True, at("2026-01-31T02:00"), "night", True
    )
    assert standing([night, backup], at("2026-01-31T02:30")) == Standing(
        False, at("2026-01-31T03:00"), "backup", True
    )
    assert standing([night, backup], at("2026-01-31T03:30")) == Standing(
        True, at("2026-01-31T05:00"), "night", True
    )


def test_any_of_several_allow_windows_is_enough_and_the_next_one_is_named() -> None:
    windows = [window("02:00", HOUR), window("13:00", 2 * HOUR, name="noon")]
    assert standing(windows, at("2026-01-31T11:00")) == Standing(False, at("2026-01-31T12:00"), "noon", True)
    assert standing(windows, at("2026-01-31T12:30")).by == "noon"
    assert standing(windows, at("2026-01-31T15:00")).by == "night"


def test_windows_that_touch_are_one_stretch() -> None:
    windows = [window("02:00", HOUR), window("03:00", HOUR, name="later")]
    assert next_change(windows, at("2026-01-31T01:30")) == at("2026-01-31T03:00")


def test_a_window_over_midnight_belongs_to_the_day_it_opens_on() -> None:
    saturday = window("22:00", 6 * HOUR, days=frozenset({5}))
    assert standing([saturday], at("2026-02-01T02:00")).open  # Sunday, 03:00 in Berlin
    assert not standing([saturday], at("2026-02-02T02:00")).open
    assert next_change([saturday], at("2026-02-01T02:00")) == at("2026-02-01T03:00")


def test_a_window_may_last_for_days() -> None:
    holidays = window("18:00", 60 * HOUR, "deny", days=frozenset({4}), name="weekend")
    friday, monday = at("2026-01-30T17:00"), at("2026-02-02T05:00")
    assert standing([holidays], friday) == Standing(False, monday, "weekend", True)
    assert standing([holidays], monday - MINUTE) == Standing(False, monday, "weekend", True)
    assert standing([holidays], monday).open


def test_a_window_longer_than_its_week_never_closes() -> None:
    always = window("02:00", 20 * DAY, days=frozenset({2}))
    assert standing([always], at("2026-01-31T12:00")) == Standing(True, None, "night", True)


def test_days_are_those_of_the_windows_zone() -> None:
    # Saturday 00:30 on Lord Howe Island is Friday in UTC.
    saturday = window("00:30", HOUR, zone=LORD_HOWE, days=frozenset({5}))
    assert standing([saturday], at("2026-01-30T13:30")).open
    assert not standing([saturday], at("2026-01-31T13:30")).open


@pytest.mark.parametrize(
    ("zone", "start", "opens", "why"),
    [
        ("Europe/Berlin", "02:30", "2026-03-29T01:30", "the hour from 2 to 3 is skipped: 03:30 summer time"),
        ("Europe/Berlin", "03:30", "2026-03-29T01:30", "which is the same instant"),
        ("Europe/Berlin", "02:30", "2026-10-25T00:30", "the hour from 2 to 3 comes twice: the first"),
        ("America/New_York", "02:30", "2026-03-08T07:30", "skipped: 03:30 daylight time"),
        ("America/New_York", "01:30", "2026-11-01T05:30", "twice: the first"),
        ("Australia/Lord_Howe", "02:15", "2026-10-03T15:45", "half an hour is skipped: 02:45"),
        ("Australia/Lord_Howe", "01:45", "2026-04-04T14:45", "half an hour comes twice: the first"),
    ],
)
def test_openings_at_times_that_the_clocks_skip_or_repeat(
    zone: str, start: str, opens: str, why: str
) -> None:
    daily = window(start, 45 * MINUTE, zone=ZoneInfo(zone))
    assert standing([daily], at(opens)).open, why
    assert not standing([daily], at(opens) - MINUTE).open, why
    assert next_change([daily], at(opens) - MINUTE) == at(opens), why
    assert next_change([daily], at(opens)) == at(opens) + 45 * MINUTE, why
    # Once only: nothing more opens for the next 22 hours.
    after = next_change([daily], at(opens) + 45 * MINUTE)
    assert after is not None
    assert after > at(opens) + 22 * HOUR, why


def test_three_hours_are_three_hours_when_the_clocks_change() -> None:
    night = window("01:00", 3 * HOUR)
    assert next_change([night], at("2026-03-29T00:30")) == at("2026-03-29T03:00")  # 05:00 on the wall
    assert next_change([night], at("2026-10-24T23:30")) == at("2026-10-25T02:00")  # 03:00 on the wall


def test_the_hour_that_a_daily_window_of_a_day_leaves_out_in_autumn_is_found_from_far_away() -> None:
    """The day on which the clocks go back has 25 hours."""
    always = window("00:00", 24 * HOUR)
    assert next_change([always], at("2026-01-31T12:00")) == at("2026-10-25T22:00")
    assert standing([always], at("2026-10-25T22:00")) == Standing(
        False, at("2026-10-25T23:00"), "night", True
    )


@pytest.mark.parametrize(
    ("allow", "deny", "now", "may_finish"),
    [
        # (overrun of the allow window 02:00-06:00, of the deny window 05:00-09:00), Berlin in winter
        (True, False, "2026-01-31T02:00", True),  # 03:00: open
        (True, True, "2026-01-31T04:30", True),  # 05:30: allow and deny are both active
        (True, False, "2026-01-31T04:30", False),
        (False, True, "2026-01-31T04:30", True),  # only the deny holds it shut
        (False, False, "2026-01-31T04:30", False),
        (True, True, "2026-01-31T06:00", True),  # 07:00: the allow has ended as well
        (False, True, "2026-01-31T06:00", False),
        (True, False, "2026-01-31T06:00", False),
        (True, False, "2026-01-31T08:30", True),  # 09:30: both have ended
        (False, True, "2026-01-31T08:30", False),
    ],
)
def test_every_window_that_holds_it_shut_must_permit_an_overrun(
    allow: bool, deny: bool, now: str, may_finish: bool
) -> None:
    windows = [
        window("02:00", 4 * HOUR, overrun=allow),
        window("05:00", 4 * HOUR, "deny", name="day", overrun=deny),
    ]
    assert standing(windows, at(now)).overrun is may_finish


def test_what_runs_is_stopped_at_the_first_window_that_permits_no_overrun() -> None:
    night = window("02:00", 4 * HOUR)
    day = window("08:00", 4 * HOUR, "deny", name="day", overrun=False)
    running = at("2026-01-31T02:00")
    assert stop_at([night], running) is None
    assert stop_at([night, day], running) == at("2026-01-31T07:00")
    assert standing([night, day], running).until == at("2026-01-31T05:00")  # it may overrun this one
    assert stop_at([window("02:00", 4 * HOUR, overrun=False)], running) == at("2026-01-31T05:00")
    assert stop_at([day], at("2026-01-31T08:00")) == at("2026-01-31T08:00")
    assert stop_at((), running) is None
    with pytest.raises(ValueError, match="aware"):
        stop_at([night], datetime(2026, 1, 31))


def test_one_of_several_allow_windows_without_overrun_stops_what_runs() -> None:
    windows = [window("02:00", HOUR), window("13:00", HOUR, name="noon", overrun=False)]
    assert standing(windows, at("2026-01-31T18:00")).overrun is False
    assert standing(windows, at("2026-01-31T12:30")).overrun is True


def test_the_zone_of_the_asked_time_does_not_matter() -> None:
    night = window("02:00", 3 * HOUR)
    now = at("2026-10-25T00:30")
    for zone in ZONES:
        assert standing([night], now.astimezone(zone)) == standing([night], now)


def test_a_naive_time_is_refused() -> None:
    with pytest.raises(ValueError, match="aware"):
        standing([window("02:00", HOUR)], datetime(2026, 1, 31))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"days": frozenset()}, "at least one"),
        ({"days": frozenset({7})}, "from 0"),
        ({"duration": timedelta()}, "longer than nothing"),
        ({"start": time(2, tzinfo=UTC)}, "zone is a field"),
    ],
)
def test_windows_that_could_never_be_open_are_refused(change: dict[str, object], message: str) -> None:
    good: dict[str, object] = {"start": time(2), "duration": HOUR, "zone": BERLIN, "days": EVERY_DAY}
    with pytest.raises(ValueError, match=f"window night: .*{message}"):
        Window("night", "allow", **(good | change))  # type: ignore[arg-type]


def brute_open(windows: Sequence[Window], moment: datetime) -> bool:
    """Argo's rules, on the openings of every window, each reckoned from the offsets of its zone alone."""
    allows = [w for w in windows if w.mode == "allow"]
    if any(brute_active(w, moment) for w in windows if w.mode == "deny"):
        return False
    return not allows or any(brute_active(w, moment) for w in allows)


def brute_active(w: Window, moment: datetime) -> bool:
    openings = brute_openings(w)
    # Only those of the last eight days can still be open; a year of them for each minute takes long.
    near = bisect_right(openings, moment)
    return any(opening <= moment < opening + w.duration for opening in openings[max(0, near - 9) : near])


_OPENINGS: dict[Window, tuple[datetime, ...]] = {}


def brute_openings(w: Window) -> tuple[datetime, ...]:
    """Every opening of 2026, found without asking `datetime` to resolve a wall-clock time.

    Of the instants that could be meant, one for each offset that the zone has in a year, the first counts at which the
    clock on the wall shows the opening time. When none does, the clock is read as it went the day before.
    """
    if w not in _OPENINGS:
        year = [datetime(2026, 1, 1, tzinfo=UTC) + number * DAY for number in range(365)]
        offsets = sorted({offset(moment, w.zone) for moment in year}, reverse=True)
        found = []
        for day in (date(2025, 12, 10) + number * DAY for number in range(400)):
            if day.weekday() in w.days:
                wall = datetime.combine(day, w.start, UTC)
                meant = [wall - ahead for ahead in offsets]
                shown = (moment for moment in meant if moment + offset(moment, w.zone) == wall)
                found.append(next(shown, wall - offset(wall - DAY, w.zone)))
        _OPENINGS[w] = tuple(found)
    return _OPENINGS[w]


def offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    """How far the clocks of `zone` are ahead of UTC at an instant."""
    ahead = moment.astimezone(zone).utcoffset()
    assert ahead is not None
    return ahead


WINDOWS = st.builds(
    Window,
    name=st.sampled_from(("one", "two")),
    mode=st.sampled_from(("allow", "deny")),
    start=st.builds(time, st.integers(0, 23), st.sampled_from((0, 15, 30, 45, 59))),
    duration=st.one_of(
        st.integers(1, 600).map(lambda minutes: minutes * MINUTE),
        st.sampled_from((23 * HOUR, 24 * HOUR, 25 * HOUR, 60 * HOUR, 7 * DAY)),
    ),
    zone=st.sampled_from(ZONES),
    days=st.frozensets(st.integers(0, 6), min_size=1),
    overrun=st.booleans(),
)
MOMENTS = st.builds(
    lambda anchor, minutes: anchor + minutes * MINUTE, st.sampled_from(ANCHORS), st.integers(-4000, 4000)
)


@settings(max_examples=120, deadline=None)
@given(windows=st.lists(WINDOWS, max_size=3), now=MOMENTS)
def test_it_agrees_with_a_walk_through_the_minutes(windows: list[Window], now: datetime) -> None:
    shown = standing(windows, now)
    assert shown.open is brute_open(windows, now)
    moment = now
    for _ in range(36 * 60):
        if shown.until is not None and moment >= shown.until:
            break
        assert brute_open(windows, moment) is shown.open, moment
        moment += MINUTE
    if shown.until is not None:
        assert now < shown.until <= now + FAR
        if shown.until < datetime(2026, 12, 31, tzinfo=UTC):
            assert brute_open(windows, shown.until) is not shown.open
            assert brute_open(windows, shown.until - timedelta(microseconds=1)) is shown.open


@settings(max_examples=120, deadline=None)
@given(windows=st.lists(WINDOWS, max_size=3), now=MOMENTS)
def test_who_decides_is_one_that_has_a_say(windows: list[Window], now: datetime) -> None:
    shown = standing(windows, now)
    active = [w for w in windows if brute_active(w, now)]
    allows = {w.name for w in windows if w.mode == "allow"}
    denying = {w.name for w in active if w.mode == "deny"}
    if denying:
        assert shown.by in denying
    elif allows:
        assert shown.by in ({w.name for w in active} & allows if shown.open else allows)
    else:
        assert shown.by == ""


@settings(max_examples=60, deadline=None)
@given(windows=st.lists(WINDOWS, min_size=1, max_size=3), now=MOMENTS)
def test_following_the_changes_alternates_and_moves_on(windows: list[Window], now: datetime) -> None:
    """A loop that sleeps until the next change never sleeps past one and never spins."""
    expected = standing(windows, now).open
    for _ in range(8):
        shown = standing(windows, now)
        assert shown.open is expected
        if shown.until is None:
            return
        assert shown.until > now
        now, expected = shown.until, not expected


@settings(max_examples=60, deadline=None)
@given(windows=st.lists(WINDOWS, max_size=3), now=MOMENTS)
def test_work_may_go_on_up_to_its_stop_and_not_at_it(windows: list[Window], now: datetime) -> None:
    stop = stop_at(windows, now)
    if stop is not None:
        assert now <= stop
        assert not standing(windows, stop).overrun
    end = now + 2 * DAY if stop is None else min(stop, now + 2 * DAY)
    moment = now
    while moment < end:
        assert standing(windows, moment).overrun
        moment += 47 * MINUTE
