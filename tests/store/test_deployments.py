"""The life of a deployment and its bounded output."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.errors import Conflict, StoreFault
from reconciler.kit import ids
from reconciler.store import Store, Tx, output
from reconciler.store.output import Output
from reconciler.store.queries import deployments
from reconciler.store.queries.deployments import Deployment, Filter, NewDeployment
from reconciler.store.words import DeploymentStatus

from .filled import Filled

STATES: tuple[DeploymentStatus, ...] = ("pending", "running", "success", "failed")
LEGAL = {("pending", "running"), ("pending", "failed"), ("running", "success"), ("running", "failed")}
NEW = NewDeployment("Site", "shop", "webhook", commit_hash="c" * 40)


def create(store: Store, new: NewDeployment = NEW) -> Deployment:
    return store.write(lambda tx: deployments.create(tx, new))


def test_a_deployment_runs_and_succeeds(store: Store) -> None:
    made = create(store)
    assert (made.status, made.branch, made.started_at, made.corrective) == ("pending", "main", None, False)
    started = store.write(lambda tx: deployments.start(tx, made.id))
    assert started.started_at is not None
    assert started.finished_at is None
    ended = store.write(lambda tx: deployments.finish(tx, made.id, "success"))
    assert ended.finished_at is not None
    assert started.started_at <= ended.finished_at
    assert ended.started_at == started.started_at
    assert ended.updated_at == ended.finished_at


def test_an_ended_deployment_says_so_and_stays(store: Store) -> None:
    made = create(store)
    store.write(lambda tx: deployments.finish(tx, made.id, "failed", reason="no connection"))
    with pytest.raises(StoreFault, match="is failed and cannot become running"):
        store.write(lambda tx: deployments.start(tx, made.id))
    assert store.read(lambda tx: deployments.get(tx, made.id)).reason == "no connection"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(moves=st.lists(st.tuples(st.sampled_from(STATES), st.sampled_from(STATES)), max_size=8))
def test_every_walk_stays_within_the_table(
    store: Store, moves: list[tuple[DeploymentStatus, DeploymentStatus]]
) -> None:
    def walk(tx: Tx) -> None:
        made = deployments.create(tx, NEW)
        state: DeploymentStatus = "pending"
        for old, new in moves:
            if (old, new) not in LEGAL:
                with pytest.raises(ValueError, match="cannot go from"):
                    deployments.advance(tx, made.id, old, new)
                continue
            moved = deployments.advance(tx, made.id, old, new)
            assert moved == (old == state)
            state = new if moved else state
            now = deployments.get(tx, made.id)
            assert now.status == state
            assert (now.finished_at is not None) == (state in ("success", "failed"))
            if state in ("running", "success"):
                assert now.started_at is not None

    store.write(walk)


def test_of_two_that_settle_a_deployment_one_wins(store: Store) -> None:
    made = create(store)
    store.write(lambda tx: deployments.start(tx, made.id))
    won = [store.write(lambda tx: deployments.advance(tx, made.id, "running", "success")) for _ in range(2)]
    assert won == [True, False]


def test_they_are_listed_newest_first_and_narrowed(store: Store, filled: Filled) -> None:
    one = create(store)
    two = create(store, NewDeployment("Server", "web1", "cli", server_id=filled.server, apply_id=ids.new()))
    found = store.read(lambda tx: [d.id for d in deployments.listed(tx)])
    assert found == sorted([filled.deployment, one.id, two.id], reverse=True)
    assert len(store.read(lambda tx: deployments.listed(tx, limit=2))) == 2

    def narrowed(wanted: Filter) -> list[str]:
        return [d.id for d in store.read(lambda tx: deployments.listed(tx, wanted))]

    assert narrowed(Filter(kind="Server", name="web1")) == [two.id]
    assert narrowed(Filter(apply_id=two.apply_id)) == [two.id]
    assert narrowed(Filter(site_id=filled.site)) == [filled.deployment]
    assert narrowed(Filter(commit_hash="c" * 40)) == [one.id]
    assert narrowed(Filter(status="running")) == []


def test_what_a_restart_has_to_settle(store: Store) -> None:
    pending, running, done = create(store), create(store), create(store)
    store.write(lambda tx: deployments.start(tx, running.id))
    store.write(lambda tx: deployments.finish(tx, done.id, "failed"))
    apply_id = ids.new()
    store.write(lambda tx: deployments.set_apply(tx, running.id, apply_id))
    left = store.read(deployments.unfinished)
    assert {(d.id, d.apply_id) for d in left} == {(pending.id, None), (running.id, apply_id)}


def test_one_is_found_by_the_beginning_of_its_id(store: Store) -> None:
    first = "01AAAAAAAAAAAAAAAAAAAAAAAA"
    second = "01AAAAAAAAAAAAAAAAAAAAAAAB"
    store.write(lambda tx: [deployments.create(tx, NEW, deployment_id=i) for i in (first, second)])
    assert store.read(lambda tx: deployments.find(tx, second.lower())).id == second

    def find(prefix: str) -> Deployment:
        return store.read(lambda tx: deployments.find(tx, prefix))

    for prefix, words in (("01AAA", "more than one"), ("7Z", "there is no"), ("%", "is not a deployment id")):
        with pytest.raises(StoreFault, match=words):
            find(prefix)
    with pytest.raises(Conflict):
        store.write(lambda tx: deployments.create(tx, NEW, deployment_id=first))


def test_history_survives_its_site_and_server(store: Store, filled: Filled) -> None:
    from reconciler.store.queries import servers

    store.write(lambda tx: servers.delete(tx, filled.server))
    left = store.read(lambda tx: deployments.get(tx, filled.deployment))
    assert (left.kind, left.name, left.site_id, left.server_id) == ("Site", "shop", None, None)


def test_output_is_bounded_per_stream_with_head_and_tail(store: Store) -> None:
    made = create(store)

    def flood(tx: Tx) -> None:
        for n in range(40):
            deployments.append_output(tx, made.id, "stdout", f"line {n:05d} " + "x" * 20_000 + "\n")
        deployments.append_output(tx, made.id, "stderr", "one warning")

    store.write(flood)
    out = store.read(lambda tx: deployments.output_of(tx, made.id, "stdout"))
    assert len(out.text.encode()) <= output.LIMIT == 256 * 1024
    assert out.text.startswith("line 00000 ")
    assert "line 00039 " in out.text
    assert out.omitted == 40 * 20_012 - len(out.text.encode())
    assert f"… {out.omitted} bytes left out …" in out.shown()
    error = store.read(lambda tx: deployments.output_of(tx, made.id, "stderr"))
    assert error == Output("one warning")
    assert error.shown() == "one warning"


def test_output_of_a_deployment_that_is_gone_is_a_fault(store: Store) -> None:
    with pytest.raises(StoreFault, match="deployments has no record"):
        store.write(lambda tx: deployments.append_output(tx, ids.new(), "stdout", "late"))


@given(
    pieces=st.lists(st.text(max_size=40), max_size=12),
    limit=st.integers(min_value=8, max_value=64),
)
def test_any_output_keeps_its_beginning_and_its_end(pieces: list[str], limit: int) -> None:
    kept = Output()
    for piece in pieces:
        kept = output.append(kept, piece, limit=limit)
    whole = "".join(pieces).replace("\0", "\ufffd")
    data = whole.encode()
    assert len(kept.text.encode()) <= limit
    assert len(kept.text.encode()) + kept.omitted == len(data)
    assert whole.startswith(kept.text[: kept.at])
    assert whole.endswith(kept.text[kept.at :])
    if len(data) <= limit:
        assert kept == Output(whole)
    else:
        # no more is missing than the rest of a character at either side of the gap
        assert len(kept.text.encode()) >= limit - 6


def test_output_that_is_not_text_is_made_text() -> None:
    assert output.append(Output(), "a\0b\ud800c").text.startswith("a\ufffdb\ufffd")
