"""What the daemon keeps: sources, plans, rollouts, history, suspensions, requests."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reconciler.errors import StoreFault
from reconciler.secrets import Box
from reconciler.store import Store, Tx
from reconciler.store.queries import (
    history,
    inventory,
    loop_state,
    plans,
    requests,
    revisions,
    rollouts,
    sources,
    suspensions,
)

START = datetime(2026, 1, 31, 12, tzinfo=UTC)


class Now:
    def __init__(self) -> None:
        self.at = START

    def __call__(self) -> datetime:
        return self.at


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def store(path: Path, box: Box, now: Now) -> Store:
    return Store.open(path, box, clock=now)


def plan(identity: str, **changed: object) -> plans.NewPlan:
    made = plans.NewPlan("main", identity, "c" * 40, "t" * 40, "", 1, "L", "e", {"a": 1}, {"create": 1}, [])
    return replace(made, **changed)  # type: ignore[arg-type]


def add(store: Store, outcome: history.Outcome) -> None:
    store.write(lambda tx: history.add(tx, "Site", "shop", outcome))


def find(store: Store, prefix: str) -> plans.StoredPlan:
    return store.read(lambda tx: plans.find(tx, prefix))


def put(store: Store, new: plans.NewPlan) -> plans.StoredPlan:
    return store.write(lambda tx: plans.put(tx, new))


def test_repeats_of_an_outcome_are_folded_with_a_count(store: Store, now: Now) -> None:
    ok = history.Outcome("r1", "d1", "success", "", 1.0)
    for seconds in (1.0, 2.0, 3.0):
        add(store, replace(ok, seconds=seconds))
        now.at += timedelta(minutes=1)
    store.write(lambda tx: history.add(tx, "Site", "shop", replace(ok, status="failed")))
    store.write(lambda tx: history.add(tx, "Site", "shop", ok))
    found = store.read(lambda tx: history.listed(tx, "Site", "shop"))
    assert [(e.status, e.times, e.seconds) for e in found] == [
        ("success", 1, 1.0),
        ("failed", 1, 1.0),
        ("success", 3, 3.0),
    ]
    assert (found[2].first_at, found[2].last_at) == (START, START + timedelta(minutes=2))


def test_history_keeps_the_newest_entries_only(store: Store) -> None:
    for number in range(history.KEPT + 5):
        add(store, history.Outcome(f"r{number}", "d", "success", "", 0.0))
    found = store.read(lambda tx: history.listed(tx, "Site", "shop", limit=100))
    assert [entry.revision for entry in found] == [f"r{n}" for n in range(history.KEPT + 4, 4, -1)]


def test_a_plan_that_is_made_again_keeps_its_approval(store: Store) -> None:
    first = store.write(lambda tx: plans.put(tx, plan("a" * 64), status="waiting"))
    store.write(lambda tx: plans.approve(tx, first.id, ["data-loss"], "ada"))
    again = store.write(lambda tx: plans.put(tx, plan("a" * 64), status="waiting"))
    assert (again.id, again.status, again.approved, again.approved_by) == (
        first.id, "approved", ["data-loss"], "ada",
    )  # fmt: skip
    assert store.read(lambda tx: [p.id for p in plans.approved_for(tx, "main", "c" * 40)]) == [first.id]
    assert store.read(lambda tx: plans.document(tx, first.id)) == {"a": 1}


def test_plans_are_found_by_the_beginning_of_id_or_identity(store: Store) -> None:
    one = store.write(lambda tx: plans.put(tx, plan("ab" * 32)))
    store.write(lambda tx: plans.put(tx, plan("ac" * 32)))
    assert store.read(lambda tx: plans.find(tx, "AB")).id == one.id
    assert store.read(lambda tx: plans.find(tx, one.id.lower())).id == one.id
    for prefix, said in (("a", "more than one"), ("ff", "there is no plan"), ("a%", "not a plan")):
        with pytest.raises(StoreFault, match=said):
            find(store, prefix)


def test_pruning_keeps_what_somebody_waits_for(store: Store) -> None:
    waiting = store.write(lambda tx: plans.put(tx, plan("0" * 64), status="waiting"))
    for number in range(1, 6):
        put(store, plan(f"{number:064x}"))
    assert store.write(lambda tx: plans.prune(tx, "main", 2)) == 3
    assert waiting.id in [p.id for p in store.read(plans.listed)]


def test_a_rollouts_state_tells_since_when(store: Store, now: Now) -> None:
    store.write(lambda tx: rollouts.put(tx, "main", "c1", "web1", "soaking"))
    now.at += timedelta(minutes=5)
    store.write(lambda tx: rollouts.put(tx, "main", "c1", "web1", "soaking", "1 minute left"))
    assert store.read(lambda tx: rollouts.get(tx, "main", "c1", "web1")) == rollouts.ServerRollout(
        "main", "c1", "web1", "soaking", "1 minute left", [], START, START
    )
    store.write(lambda tx: rollouts.put(tx, "main", "c1", "web1", "healthy"))
    (found,) = store.read(lambda tx: rollouts.listed(tx, "main", "c1"))
    assert (found.since, found.changed_at) == (now.at, START), "a state of its own is no new change"
    assert store.read(lambda tx: rollouts.newest_change(tx, "web1")) == START
    assert store.read(lambda tx: rollouts.newest_change(tx, "web2")) is None
    store.write(lambda tx: rollouts.keep_only(tx, "main", "c2"))
    assert store.read(lambda tx: rollouts.listed(tx, "main", "c1")) == []


def test_a_change_begins_when_its_turn_comes(store: Store, now: Now) -> None:
    store.write(lambda tx: rollouts.put(tx, "main", "c1", "web1", "pending"))
    now.at += timedelta(hours=2)
    store.write(lambda tx: rollouts.put(tx, "main", "c1", "web1", "applying"))
    found = store.read(lambda tx: rollouts.get(tx, "main", "c1", "web1"))
    assert found is not None
    assert found.changed_at == now.at
    now.at -= timedelta(hours=1)
    store.write(rollouts.not_ahead)
    found = store.read(lambda tx: rollouts.get(tx, "main", "c1", "web1"))
    assert found is not None
    assert (found.since, found.changed_at) == (now.at, now.at)


def test_suspensions_end_by_themselves(store: Store, now: Now) -> None:
    def put(tx: Tx) -> None:
        suspensions.put(tx, "Site", "a", reason="x", owner="ada", expires_at=START + timedelta(hours=1))
        suspensions.put(tx, "Site", "b", reason="y", owner="ada", expires_at=None)

    store.write(put)
    assert [s.name for s in store.read(suspensions.listed)] == ["a", "b"]
    now.at += timedelta(hours=1)
    assert [s.name for s in store.read(suspensions.listed)] == ["b"]
    assert [s.name for s in store.write(suspensions.expire)] == ["a"]
    assert store.write(lambda tx: suspensions.take_back(tx, "Site", "b"))
    assert not store.write(lambda tx: suspensions.take_back(tx, "Site", "b"))


def test_a_request_waits_until_it_is_answered(store: Store) -> None:
    made = store.write(lambda tx: requests.add(tx, "cancel", "Site/shop", actor="ada", args={"x": 1}))
    assert store.read(requests.waiting) == [made]
    store.write(lambda tx: requests.answer(tx, made.id, "refused", "nothing runs"))
    assert store.read(requests.waiting) == []
    assert store.read(lambda tx: requests.get(tx, made.id)).message == "nothing runs"
    store.write(lambda tx: requests.prune(tx, START + timedelta(days=1)))
    with pytest.raises(StoreFault):
        store.read(lambda tx: requests.get(tx, made.id))


def test_the_loops_memory_survives_and_is_blank_at_first(store: Store) -> None:
    assert store.read(lambda tx: loop_state.get(tx, "Server", "web1")).failures == 0
    state = loop_state.LoopState("Server", "web1", 3, START, START, ["t"], START, 2)
    store.write(lambda tx: loop_state.put(tx, state))
    assert store.read(loop_state.listed) == [state]


def test_a_source_remembers_what_it_saw_and_an_acceptance_is_used_once(store: Store) -> None:
    def unit(tx: Tx) -> None:
        sources.put(tx, "main", remote="r", branch="b", state="ok", message="", seen="c1")
        sources.put(tx, "main", remote="r", branch="b", state="unreachable", message="gone")
        sources.set_accept(tx, "main", "c9")

    store.write(unit)
    found = store.read(lambda tx: sources.get(tx, "main"))
    assert found is not None
    assert (found.seen_commit, found.state, found.accept_commit) == ("c1", "unreachable", "c9")
    store.write(lambda tx: sources.set_head(tx, "main", "c9"))
    found = store.read(lambda tx: sources.get(tx, "main"))
    assert found is not None
    assert (found.head_commit, found.accept_commit) == ("c9", None)


def test_fleets_keep_revisions_and_inventory_apart(store: Store) -> None:
    def unit(tx: Tx) -> None:
        for fleet in ("main", "other"):
            revisions.accept(tx, commit="c1", author_name="", author_email="", message="", fleet=fleet)
        revisions.found_healthy(tx, "c1", "other")
        inventory.put(tx, inventory.Applied("Site", "a", {}, "d", [], "c1", "", 1, fleet="other"))

    store.write(unit)
    assert store.read(lambda tx: revisions.last_good(tx, "main")) is None
    good = store.read(lambda tx: revisions.last_good(tx, "other"))
    assert good is not None
    assert good.commit == "c1"
    store.write(lambda tx: revisions.set_status(tx, "c1", "quarantined", fleet="other", reason="unit failed"))
    assert store.read(lambda tx: revisions.last_good(tx, "other")) is None
    assert store.read(lambda tx: inventory.all(tx, "main")) == []
    assert [e.fleet for e in store.read(lambda tx: inventory.all(tx, "other"))] == ["other"]
