"""A wall clock that jumps while an apply runs: only the stamps follow it. Every wait is measured by the other clock."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import pytest

from reconciler.agent import cancel, journal, lock, process, runner
from reconciler.agent.faults import StepFault
from reconciler.agent.process import Finished
from reconciler.agent.steps import packages

from .building import file, section
from .stopping import RELOAD, accepted, calls, conf, dress, made, service, states, vhost
from .talking import Here, ulid

DAY = 86400.0
_strftime = time.strftime


@pytest.fixture
def within(inside: Here) -> Iterator[Here]:
    yield dress(inside)
    cancel.watch("")


@pytest.fixture(params=["ahead", "back", "to and fro"])
def jumps(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Each look at the wall clock finds it years off; what it showed, in order."""
    sign = {
        "ahead": itertools.repeat(1),
        "back": itertools.repeat(-1),
        "to and fro": itertools.cycle((1, -1)),
    }
    signs, began = sign[request.param], 1_700_000_000.0
    shown: list[float] = []

    def now() -> float:
        shown.append(began + next(signs) * 400 * DAY * (len(shown) + 1))
        return shown[-1]

    monkeypatch.setattr(time, "time", now)
    monkeypatch.setattr(time, "gmtime", lambda: _gmtime(max(0.0, now())))
    return shown


_gmtime = time.gmtime


def test_an_apply_does_the_same_whatever_the_clock_does(within: Here, jumps: list[float]) -> None:
    wanted = made(
        section("Site/a", *service("a"), vhost("a", "1")),
        section("Site/b", vhost("b", "bad")),
        section("Site/c", file("/etc/panel/c", b"3")),
    )
    assert runner.main(accepted(within, 1, wanted)) == 0
    outcome = journal.outcome(ulid(1))
    assert outcome is not None
    assert {name: state for name, (state, _) in states(outcome).items()} == {
        "a": "succeeded",
        "b": "failed",
        "c": "succeeded",
    }
    assert conf(within) == {"a": "1"}
    assert RELOAD in calls(within)
    events = journal.events(ulid(1))
    assert [event["n"] for event in events] == list(range(1, len(events) + 1))
    stamps = [event["at"] for event in events]
    assert len(set(stamps)) > len(stamps) // 2
    assert len(jumps) > 10
    assert lock.running() is None


def test_a_claim_outlives_a_jump(within: Here, jumps: list[float]) -> None:
    lock.claim(ulid(1))
    time.time()
    assert lock.claimed() == ulid(1)
    assert lock.running() == ulid(1)


def test_a_program_gets_its_time_and_no_more(within: Here, jumps: list[float]) -> None:
    assert process.run(["sleep", "0.3"], timeout=20).ok()
    assert process.run(["sleep", "30"], timeout=0.2).timed_out


def test_a_locked_package_manager_is_given_up_by_the_steady_clock(
    within: Here, jumps: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0

    def locked() -> Finished:
        nonlocal tries
        tries += 1
        return Finished(200, "", "", timed_out=False)

    monkeypatch.setattr(packages, "_LOCK_WAIT_SECONDS", 0.5)
    monkeypatch.setattr(packages, "_TRY_AGAIN_SECONDS", 0.05)
    with pytest.raises(StepFault, match="the package manager is locked"):
        packages._unlocked(locked, "dnf")
    assert tries > 2
