"""Waves: who belongs where, how many at one time, nothing after a failure, and always on when nothing fails."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.loop.waves import (
    APPLYING,
    FAILED,
    HEALTHY,
    REST,
    Amount,
    RolloutSpec,
    State,
    Wave,
    WaveSpec,
    may_start,
    plan_waves,
    soaking,
)

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SERVERS: dict[str, dict[str, str]] = {
    "canary1": {"ring": "canary"},
    "web1": {"ring": "web", "site": "north"},
    "web2": {"ring": "web", "site": "south"},
    "web3": {"ring": "web", "site": "north"},
    "old1": {},
    "lab1": {"env": "lab", "ring": "web"},
}
TWO = (
    Wave("canary", ("canary1",), 1, 10 * MINUTE),
    Wave("web", ("web1", "web2", "web3"), 2, timedelta()),
)


def test_servers_go_to_the_first_wave_that_selects_them_and_the_rest_to_a_last_one() -> None:
    rollout = RolloutSpec(
        waves=(
            WaveSpec("canary", {"ring": "canary"}, soak=10 * MINUTE),
            WaveSpec("north", {"ring": "web", "site": "north"}, Amount(2)),
            WaveSpec("web", {"ring": "web"}, Amount(50, percent=True)),
        ),
        max_unavailable=Amount(3),
        soak=MINUTE,
    )
    assert plan_waves(rollout, SERVERS) == (
        Wave("canary", ("canary1",), 3, 10 * MINUTE),
        Wave("north", ("web1", "web3"), 2, MINUTE),
        Wave("web", ("lab1", "web2"), 1, MINUTE),
        Wave(REST, ("old1",), 3, MINUTE),
    )


def test_a_rollout_takes_only_the_servers_it_selects() -> None:
    waves = plan_waves(RolloutSpec(selector={"ring": "web"}, max_unavailable=Amount(1)), SERVERS)
    assert waves == (Wave(REST, ("lab1", "web1", "web2", "web3"), 1, timedelta()),)


def test_waves_without_servers_are_left_out() -> None:
    rollout = RolloutSpec(waves=(WaveSpec("gone", {"ring": "gone"}, Amount(0)), WaveSpec("all")))
    assert [wave.name for wave in plan_waves(rollout, SERVERS)] == ["all"]
    assert plan_waves(rollout, {}) == ()


@pytest.mark.parametrize(
    ("text", "servers", "most"),
    [
        (1, 10, 1),
        (7, 3, 7),
        (0, 10, 0),
        ("10%", 100, 10),
        ("10%", 19, 1),
        ("25%", 11, 2),
        ("1%", 3, 1),
        ("100%", 3, 3),
        ("0%", 10, 0),
    ],
)
def test_percentages_round_down_to_one_at_least_and_zero_is_zero(
    text: int | str, servers: int, most: int
) -> None:
    assert Amount.parse(text).of(servers) == most
    assert str(Amount.parse(text)) == str(text)


@pytest.mark.parametrize("text", [-1, "101%", "-5%", "5", "five%", "%", "²%", ""])
def test_amounts_that_are_none_are_refused(text: int | str) -> None:
    with pytest.raises(ValueError, match="not an amount of servers"):
        Amount.parse(text)


def test_a_rollout_walks_through_its_waves() -> None:
    states: dict[str, State] = {}
    first = may_start(TWO, states, NOON)
    assert (first.start, first.wave, first.wake_at) == (("canary1",), "canary", None)
    assert first.waiting == dict.fromkeys(("web1", "web2", "web3"), "wave canary is not complete")

    states["canary1"] = APPLYING
    applying = may_start(TWO, states, NOON)
    assert (applying.start, applying.wake_at) == ((), None)

    states["canary1"] = soaking(NOON)
    watched = may_start(TWO, states, NOON + 9 * MINUTE)
    assert (watched.start, watched.wave, watched.wake_at) == ((), "canary", NOON + 10 * MINUTE)

    soaked = may_start(TWO, states, NOON + 10 * MINUTE)
    assert (soaked.start, soaked.wave, soaked.wake_at) == (("web1", "web2"), "web", None)
    assert soaked.waiting == {"web3": "waits for web1, web2"}

    states |= {"canary1": HEALTHY, "web1": HEALTHY, "web2": APPLYING}
    assert may_start(TWO, states, NOON).start == ("web3",)
    states |= {"web2": HEALTHY, "web3": HEALTHY}
    end = may_start(TWO, states, NOON)
    assert end.complete
    assert (end.start, end.waiting, end.wake_at) == ((), {}, None)


def test_a_failed_server_stops_everything_that_has_not_begun() -> None:
    states = {"canary1": HEALTHY, "web2": FAILED, "web1": APPLYING}
    decision = may_start(TWO, states, NOON)
    assert decision.start == ()
    assert decision.waiting == {"web3": "web2 failed"}
    assert not decision.complete


def test_a_soaking_server_is_unavailable() -> None:
    wave = (Wave("all", ("a", "b"), 1, MINUTE),)
    assert may_start(wave, {"a": soaking(NOON)}, NOON).waiting == {"b": "waits for a"}
    assert may_start(wave, {"a": soaking(NOON)}, NOON + MINUTE).start == ("b",)


def test_a_server_moved_to_a_later_wave_while_it_changes_still_counts() -> None:
    assert may_start(TWO, {"web1": APPLYING}, NOON).start == ()
    assert may_start(TWO, {"web1": APPLYING}, NOON).waiting["canary1"] == "waits for web1"


def test_a_gate_waits_until_it_is_released_and_then_goes_one_by_one() -> None:
    gate = (Wave("gate", ("a", "b"), 0, timedelta()), Wave("after", ("c",), 1, timedelta()))
    shut = may_start(gate, {}, NOON)
    assert shut.start == ()
    assert shut.waiting == {
        "a": "wave gate waits to be released",
        "b": "wave gate waits to be released",
        "c": "wave gate is not complete",
    }
    assert may_start(gate, {}, NOON, released={"gate"}).start == ("a",)
    assert may_start(gate, {"a": APPLYING}, NOON, released={"gate"}).start == ()
    assert may_start(gate, {"a": HEALTHY}, NOON, released={"gate"}).start == ("b",)
    assert may_start(gate, {"a": HEALTHY, "b": HEALTHY}, NOON).start == ("c",)


def test_states_of_servers_in_no_wave_do_not_count() -> None:
    assert may_start(TWO, {"gone": FAILED, "other": APPLYING}, NOON).start == ("canary1",)


def test_nothing_to_roll_out_is_complete() -> None:
    assert may_start((), {}, NOON).complete


def test_reasons_stay_short_in_large_fleets() -> None:
    names = tuple(f"web{number:03}" for number in range(200))
    decision = may_start((Wave("all", names, 100, MINUTE),), {}, NOON)
    assert len(decision.start) == 100
    assert decision.waiting["web100"] == "waits for web000, web001, web002 and 97 more"


@pytest.mark.parametrize(("phase", "since"), [("soaking", None), ("healthy", NOON), ("pending", NOON)])
def test_only_a_soaking_server_has_a_time(phase: str, since: datetime | None) -> None:
    with pytest.raises(ValueError, match="soaks"):
        State(phase, since)  # type: ignore[arg-type]


LABELS = st.dictionaries(st.sampled_from(("ring", "site")), st.sampled_from("abc"), max_size=2)
AMOUNTS = st.one_of(
    st.builds(Amount, st.integers(0, 4)), st.builds(Amount, st.integers(0, 100), st.just(True))
)
SOAKS = st.integers(0, 20).map(lambda minutes: minutes * MINUTE)
ROLLOUTS = st.builds(
    RolloutSpec,
    selector=st.one_of(st.just({}), LABELS),
    waves=st.lists(
        st.builds(WaveSpec, st.just(""), LABELS, st.none() | AMOUNTS, st.none() | SOAKS), max_size=4
    ).map(
        lambda waves: tuple(
            WaveSpec(f"w{n}", w.selector, w.max_unavailable, w.soak) for n, w in enumerate(waves)
        )
    ),
    max_unavailable=AMOUNTS,
    soak=SOAKS,
)
FLEETS = st.lists(LABELS, max_size=12).map(lambda all_: {f"s{n:02}": labels for n, labels in enumerate(all_)})


@given(rollout=ROLLOUTS, fleet=FLEETS)
def test_every_selected_server_is_in_exactly_one_wave(
    rollout: RolloutSpec, fleet: dict[str, dict[str, str]]
) -> None:
    waves = plan_waves(rollout, fleet)
    members = [server for wave in waves for server in wave.servers]
    assert sorted(members) == sorted(
        name for name, labels in fleet.items() if rollout.selector.items() <= labels.items()
    )
    specs: dict[str, WaveSpec] = {spec.name: spec for spec in rollout.waves}
    order = [*specs, REST]
    assert sorted(waves, key=lambda wave: order.index(wave.name)) == list(waves)
    for wave in waves:
        for server in wave.servers:
            first = next(
                (spec.name for spec in rollout.waves if spec.selector.items() <= fleet[server].items()), REST
            )
            assert wave.name == first


def unavailable(waves: tuple[Wave, ...], states: Mapping[str, State], now: datetime) -> set[str]:
    """Reckoned anew: applying, failed, or not yet soaked."""
    found = set()
    for wave in waves:
        for server in wave.servers:
            state = states.get(server, State("pending"))
            soaks = state.since is not None and now < state.since + wave.soak
            if soaks or state.phase in ("applying", "failed"):
                found.add(server)
    return found


def good(wave: Wave, server: str, states: Mapping[str, State], now: datetime) -> bool:
    state = states.get(server, State("pending"))
    return state.phase == "healthy" or (state.since is not None and state.since + wave.soak <= now)


@settings(max_examples=200, deadline=None)
@given(rollout=ROLLOUTS, fleet=FLEETS, data=st.data())
def test_a_rollout_without_failures_completes_within_its_limits(
    rollout: RolloutSpec, fleet: dict[str, dict[str, str]], data: st.DataObject
) -> None:
    waves = plan_waves(rollout, fleet)
    released = {wave.name for wave in waves}
    states: dict[str, State] = {}
    now = NOON
    for _ in range(6 * len(fleet) + 2):
        decision = may_start(waves, states, now, released=released)
        check(waves, states, now, released)
        for server in decision.start:
            states[server] = APPLYING
        applying = sorted(server for server, state in states.items() if state == APPLYING)
        if decision.complete:
            break
        if applying:
            ended = data.draw(st.sampled_from(applying))
            now += data.draw(st.integers(0, 5)) * MINUTE
            states[ended] = soaking(now)
        else:
            assert decision.wake_at is not None, "nothing runs, nothing starts, and nobody will ask again"
            assert decision.wake_at > now
            # Right before it nothing changes, at it something does.
            early = may_start(waves, states, decision.wake_at - timedelta(microseconds=1), released=released)
            assert early.start == ()
            now = decision.wake_at
    assert may_start(waves, states, now, released=released).complete
    assert all(good(wave, server, states, now) for wave in waves for server in wave.servers)


STATES = st.one_of(
    st.sampled_from([State("pending"), APPLYING, HEALTHY]),
    st.integers(-30, 30).map(lambda minutes: soaking(NOON + minutes * MINUTE)),
    st.just(FAILED),
)


@settings(max_examples=300, deadline=None)
@given(rollout=ROLLOUTS, fleet=FLEETS, data=st.data())
def test_what_may_start_in_any_state_breaks_no_rule(
    rollout: RolloutSpec, fleet: dict[str, dict[str, str]], data: st.DataObject
) -> None:
    waves = plan_waves(rollout, fleet)
    states = {server: data.draw(STATES) for server in fleet if data.draw(st.booleans())}
    released = set(data.draw(st.sets(st.sampled_from([wave.name for wave in waves])))) if waves else set()
    check(waves, states, NOON, released)


def check(waves: tuple[Wave, ...], states: Mapping[str, State], now: datetime, released: set[str]) -> None:
    """The rules, each by itself, of one decision."""
    decision = may_start(waves, states, now, released=released)
    down = unavailable(waves, states, now)
    members = [server for wave in waves for server in wave.servers]
    pending = {server for server in members if states.get(server, State("pending")).phase == "pending"}
    assert set(decision.start) | decision.waiting.keys() == pending
    assert not set(decision.start) & decision.waiting.keys()
    assert all(decision.waiting.values())
    soaks = [
        state.since + wave.soak
        for wave in waves
        for server in wave.servers
        if (state := states.get(server, State("pending"))).since is not None and now < state.since + wave.soak
    ]
    assert decision.wake_at == min(soaks, default=None)
    assert decision.complete == all(
        good(wave, server, states, now) for wave in waves for server in wave.servers
    )
    if not decision.start:
        return
    index = next(n for n, wave in enumerate(waves) if decision.start[0] in wave.servers)
    wave = waves[index]
    assert decision.wave == wave.name
    assert set(decision.start) <= set(wave.servers)
    assert not any(states.get(server) == FAILED for server in members)
    for earlier in waves[:index]:
        assert all(good(earlier, server, states, now) for server in earlier.servers)
    most = wave.max_unavailable or (1 if wave.name in released else 0)
    assert len(down | set(decision.start)) <= most
    # As many as may: nothing waits for its own wave while there is room.
    left = [server for server in wave.servers if server in decision.waiting]
    assert not left or len(down) + len(decision.start) == most
