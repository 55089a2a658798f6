"""Rollouts: servers in waves, few at a time, and nothing further once one of them fails.

A server is unavailable from the start of its change until it has soaked, and when it failed. At no time are more
servers of a rollout made unavailable than the wave that is under way allows, and no wave begins before every server
of the earlier ones is healthy and has soaked.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, assert_never

from reconciler.loop.windows import Window

REST = "(rest)"
"""Name of the wave of servers that no wave selects; no manifest can give it to a wave of its own."""


@dataclass(frozen=True)
class Amount:
    """A number of servers, or a percentage of them. Raises ValueError for a negative one or more than 100 %."""

    number: int
    percent: bool = False

    def __post_init__(self) -> None:
        if self.number < 0 or (self.percent and self.number > 100):
            raise ValueError(f"not an amount of servers: {self}")

    @classmethod
    def parse(cls, value: int | str) -> Amount:
        """`5` or `"25%"` as manifests have it. Raises ValueError for anything else."""
        if isinstance(value, int):
            return cls(value)
        digits = value.removesuffix("%")
        if digits == value or not (digits.isascii() and digits.isdigit()):
            raise ValueError(f"not an amount of servers: {value!r}")
        return cls(int(digits), percent=True)

    def of(self, servers: int) -> int:
        """How many of `servers`: a percentage is rounded down but is at least 1; zero, of either form, is zero."""
        if not self.percent or self.number == 0:
            return self.number
        return max(1, servers * self.number // 100)

    def __str__(self) -> str:
        return f"{self.number}%" if self.percent else str(self.number)


@dataclass(frozen=True)
class WaveSpec:
    """A wave as declared; None where the rollout's own value holds."""

    name: str
    selector: Mapping[str, str] = field(default_factory=dict)
    max_unavailable: Amount | None = None
    soak: timedelta | None = None


@dataclass(frozen=True)
class RolloutSpec:
    """A rollout as declared: whose, in which order, how many at one time, when, and what a failure does."""

    name: str = ""
    selector: Mapping[str, str] = field(default_factory=dict)
    waves: tuple[WaveSpec, ...] = ()
    max_unavailable: Amount = Amount(1)
    soak: timedelta = timedelta()
    health_timeout: timedelta = timedelta(minutes=2)
    on_failure: Literal["quarantine", "stop"] = "quarantine"
    windows: tuple[Window, ...] = ()


@dataclass(frozen=True)
class Wave:
    """Servers that change together. `max_unavailable` is a number of servers; 0 is a gate that waits for a person."""

    name: str
    servers: tuple[str, ...]
    max_unavailable: int
    soak: timedelta


Phase = Literal["pending", "applying", "soaking", "healthy", "failed"]


@dataclass(frozen=True)
class State:
    """How far a server is with the revision that is rolled out.

    `applying` lasts until the health checks after the apply have passed, `soaking` counts from then, at `since`, an
    aware time. Raises ValueError when exactly one of `soaking` and `since` is given.
    """

    phase: Phase
    since: datetime | None = None

    def __post_init__(self) -> None:
        if (self.phase == "soaking") != (self.since is not None):
            raise ValueError("a server that soaks, and no other, has the time since when it does")


PENDING = State("pending")
APPLYING = State("applying")
HEALTHY = State("healthy")
FAILED = State("failed")


def soaking(since: datetime) -> State:
    """The state of a server whose health checks passed at `since`, an aware time."""
    return State("soaking", since)


@dataclass(frozen=True)
class Decision:
    """What a rollout permits at one instant."""

    start: tuple[str, ...]
    """Servers that may start now, all of them together."""
    waiting: Mapping[str, str]
    """Every other pending server and why it waits."""
    wake_at: datetime | None
    """When to ask again although nothing happened: the end of the first soak under way. None: when a state changes."""
    wave: str
    """The wave under way; empty when every server is healthy and has soaked."""

    @property
    def complete(self) -> bool:
        """Whether every server is healthy and has soaked."""
        return not self.wave


def plan_waves(rollout: RolloutSpec, servers: Mapping[str, Mapping[str, str]]) -> tuple[Wave, ...]:
    """The waves of `rollout` over `servers` (their labels by name), each server in the first wave that selects it.

    Servers that the rollout does not select are in none, those that no wave selects in a last one (`REST`); waves
    without servers are left out. Percentages count the servers of their wave. Servers are in the order of their names.
    """
    left = [name for name in sorted(servers) if selects(rollout.selector, servers[name])]
    waves = []
    for spec in (*rollout.waves, WaveSpec(REST)):
        chosen = tuple(name for name in left if selects(spec.selector, servers[name]))
        left = [name for name in left if not selects(spec.selector, servers[name])]
        if chosen:
            most = rollout.max_unavailable if spec.max_unavailable is None else spec.max_unavailable
            soak = rollout.soak if spec.soak is None else spec.soak
            waves.append(Wave(spec.name, chosen, most.of(len(chosen)), soak))
    return tuple(waves)


def selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether `labels` have every label of `selector`; an empty selector selects everything."""
    return all(labels.get(key) == value for key, value in selector.items())


def may_start(
    waves: Sequence[Wave],
    states: Mapping[str, State],
    now: datetime,
    *,
    released: Collection[str] = frozenset(),
) -> Decision:
    """Which servers may start at `now`, an aware time, given the states of all.

    A server without a state is pending; states of servers in no wave do not count. A wave whose `max_unavailable` is
    0 starts nothing by itself: its servers wait for somebody to apply them, or for its name to be in `released`, when
    they start one at a time. Nothing starts while any server is failed.
    """
    standing = {
        server: _settled(states.get(server, PENDING), wave.soak, now)
        for wave in waves
        for server in wave.servers
    }
    pending = [server for server, state in standing.items() if state.phase == "pending"]
    under_way = next(
        (wave for wave in waves if any(standing[server].phase != "healthy" for server in wave.servers)), None
    )
    if under_way is None:
        return Decision((), {}, None, "")
    wake_at = _first_soaked(waves, standing)
    failed = sorted(server for server, state in standing.items() if state.phase == "failed")
    if failed:
        return Decision((), dict.fromkeys(pending, f"{_some(failed)} failed"), wake_at, under_way.name)
    gated = under_way.max_unavailable == 0 and under_way.name not in released
    # Those of later waves count too: a manifest that moves a server between waves is no licence to take more down.
    busy = [server for server, state in standing.items() if state.phase in ("applying", "soaking")]
    free = 0 if gated else max(0, max(1, under_way.max_unavailable) - len(busy))
    own = [server for server in under_way.servers if standing[server].phase == "pending"]
    start = tuple(own[:free])
    if gated:
        why = f"wave {under_way.name} waits to be released"
    else:
        why = f"waits for {_some(sorted((*busy, *start)))}"
    waiting = dict.fromkeys(pending, f"wave {under_way.name} is not complete") | dict.fromkeys(own, why)
    for server in start:
        del waiting[server]
    return Decision(start, waiting, wake_at, under_way.name)


def _settled(state: State, soak: timedelta, now: datetime) -> State:
    """`state`, healthy if it has soaked for long enough by now."""
    match state.phase:
        case "pending" | "applying" | "healthy" | "failed":
            return state
        case "soaking":
            return HEALTHY if state.since is not None and state.since + soak <= now else state
        case _:
            assert_never(state.phase)


def _first_soaked(waves: Sequence[Wave], standing: Mapping[str, State]) -> datetime | None:
    return min(
        (
            since + wave.soak
            for wave in waves
            for server in wave.servers
            if (since := standing[server].since) is not None
        ),
        default=None,
    )


def _some(servers: Sequence[str]) -> str:
    """`a, b, c and 4 more`: a reason is a line, also in a fleet of thousands."""
    most = 3
    named = ", ".join(servers[:most])
    return named if len(servers) <= most else f"{named} and {len(servers) - most} more"
