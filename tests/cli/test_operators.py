"""The operators' verbs: what is recorded, what is said, how it ends; with and without a daemon."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reconciler.app import asking
from reconciler.store import Tx
from reconciler.store.queries import (
    audit,
    conditions,
    deployments,
    loop_state,
    requests,
    suspensions,
)
from reconciler.store.queries.requests import Request
from tests.cli.desk import NEW, Desk, daemon, done

# -- suspend and resume


def test_a_suspension_is_recorded_with_reason_owner_and_end(desk: Desk) -> None:
    said = desk.run("suspend", "Site/shop", "--reason", "migrating\nby hand", "--for", "1h30m")
    assert "Site/shop is suspended until " in said
    assert "reconciler resume Site/shop" in said
    (one,) = desk.read(suspensions.listed)
    assert (one.kind, one.name, one.reason, one.owner) == ("Site", "shop", "migrating by hand", "ada")
    assert timedelta(minutes=89) < one.expires_at - datetime.now(UTC) <= timedelta(minutes=90)
    assert desk.audited() == [("ada", "suspend", "Site/shop")]
    listed = desk.run("suspend")
    for word in ("Site/shop", "ada", "(in 1h", "migrating by hand"):
        assert word in listed
    (value,) = desk.json("suspend")
    assert value.keys() == {"resource", "reason", "by", "since", "until"}
    assert (value["resource"], value["by"]) == ("Site/shop", "ada")


def test_a_suspension_without_an_end_stays_until_it_is_resumed(desk: Desk) -> None:
    assert "until it is resumed" in desk.run("suspend", "--fleet", "main", "--reason", "freeze")
    assert desk.json("suspend")[0] | {"since": ""} == {
        "resource": "Fleet/main", "reason": "freeze", "by": "ada", "since": "", "until": None,
    }  # fmt: skip
    assert "Fleet/main is resumed." in desk.run("resume", "--fleet", "main")
    assert desk.read(suspensions.listed) == []
    assert desk.audited() == [("ada", "resume", "Fleet/main"), ("ada", "suspend", "Fleet/main")]


def test_what_is_misspelt_is_not_suspended(desk: Desk) -> None:
    assert "did you mean 'Site/shop'?" in desk.run("suspend", "Site/shpo", "--reason", "x", code=1)
    assert "did you mean 'Server'?" in desk.run("suspend", "Servr/web1", "--reason", "x", code=1)
    assert "such as Site/shop" in desk.run("suspend", "shop", "--reason", "x", code=1)
    assert "is no name" in desk.run("suspend", "Site/../x", "--reason", "x", code=1)
    assert "did you mean 'Fleet/main'?" in desk.run("suspend", "--fleet", "mian", "--reason", "x", code=1)
    assert "did you mean 'Site/shop'?" in desk.run("resume", "Site/shpo", code=1)
    assert desk.read(suspensions.listed) == []
    assert desk.audited() == []


def test_what_is_only_about_to_be_declared_can_be_suspended_ahead(desk: Desk) -> None:
    assert "--ahead" in desk.run("suspend", "User/zoe", "--reason", "x", code=1)
    desk.run("suspend", "User/zoe", "--reason", "x", "--ahead")
    assert desk.json("suspend")[0]["resource"] == "User/zoe"
    assert "User/zoe is resumed." in desk.run("resume", "User/zoe")


def test_wrong_words_of_a_suspension_are_told(desk: Desk) -> None:
    on = ("suspend", "Site/shop", "--reason", "x")
    assert "--reason is missing" in desk.run("suspend", "Site/shop", code=2)
    assert "the reason is empty" in desk.run("suspend", "Site/shop", "--reason", " ", code=1)
    assert "must be a duration" in desk.run(*on, "--for", "2 hours", code=1)
    assert "is over already" in desk.run(*on, "--until", "2020-01-01", code=1)
    assert "is no time" in desk.run(*on, "--until", "tomorrow", code=1)
    assert "not both" in desk.run(*on, "--until", "18:00", "--for", "1h", code=2)
    assert "not both" in desk.run(*on, "--fleet", "main", code=2)
    assert "name what to suspend" in desk.run("suspend", "--reason", "x", code=2)
    assert "name what to resume" in desk.run("resume", code=2)
    assert desk.read(suspensions.listed) == []


def test_resuming_what_is_not_suspended_changes_nothing(desk: Desk) -> None:
    assert "is not suspended by an operator" in desk.run("resume", "Site/shop")
    assert desk.audited() == []


# -- with and without a daemon


def test_without_a_daemon_that_is_said(desk: Desk) -> None:
    assert "Recorded; no daemon is running." in desk.run("suspend", "Site/shop", "--reason", "x")
    with daemon(desk) as _:
        assert "no daemon" not in desk.run("resume", "Site/shop")


def test_requests_reach_the_daemon_at_once(desk: Desk) -> None:
    with daemon(desk, looked) as heard:
        desk.run("reconcile", "Server/web1", "Site/shop", "Server/web1", "--wait", "--timeout", "30s")
    assert [(one.verb, one.subject, one.actor) for one in heard] == [
        ("reconcile", "Server/web1", "ada"),
        ("reconcile", "Site/shop", "ada"),
    ]
    assert [entry[1:] for entry in desk.audited()] == [
        ("reconcile", "Site/shop"),
        ("reconcile", "Server/web1"),
    ]


def looked(tx: Tx, one: Request) -> None:
    """The daemon's answer, and its look at the server."""
    done(tx, one)
    known = loop_state.get(tx, "Server", "web1")
    loop_state.put(tx, replace(known, checked_at=tx.now))


WAIT = ("--wait", "--timeout", "30s")


def test_reconciling_tells_how_it_went(desk: Desk) -> None:
    def fail(tx: Tx, one: Request) -> None:
        conditions.put(
            tx, "Site", "shop", "Stalled", conditions.State("True", "NeedsAttention", "nginx -t failed")
        )
        looked(tx, one)

    with daemon(desk, looked):
        assert "Site/shop is ready: applied" in desk.run("reconcile", "Site/shop", *WAIT)
    with daemon(desk, fail):
        assert "Site/shop is not ready: nginx -t failed" in desk.run("reconcile", "Site/shop", *WAIT, code=1)


def test_reconciling_is_done_when_the_daemon_has_looked_and_nothing_is_under_way(desk: Desk) -> None:
    begun(desk)
    with daemon(desk, done):
        said = desk.run("reconcile", "Site/shop", "--wait", "--timeout", "3s", code=7)
    assert "Site/shop: not done within 3s: it goes on" in said
    deployment = desk.read(deployments.unfinished)[0].id

    def work(tx: Tx, one: Request) -> None:
        looked(tx, one)
        deployments.finish(tx, deployment, "success")

    with daemon(desk, done):
        # the answer alone, without a look at the server, is not the end
        assert "it goes on" in desk.run("reconcile", "Server/web1", "--wait", "--timeout", "2s", code=7)
    with daemon(desk, work):
        assert "Server/web1 is ready" in desk.run("reconcile", "Server/web1", *WAIT)


@pytest.mark.parametrize(
    ("reason", "code", "said"),
    [
        ("WindowClosed", 1, "is not ready: opens at 02:00"),
        ("Queued", 7, "not done within 3s: opens at 02:00"),
    ],
)
def test_what_may_take_hours_is_not_waited_for(desk: Desk, reason: str, code: int, said: str) -> None:
    def wait(tx: Tx, one: Request) -> None:
        conditions.put(tx, "Site", "shop", "Reconciling", conditions.State("True", reason, "opens at 02:00"))
        looked(tx, one)

    with daemon(desk, wait):
        assert said in desk.run("reconcile", "Site/shop", "--wait", "--timeout", "3s", code=code)


@pytest.mark.parametrize("held", ["Site/shop", "Server/web1", "Fleet/main"])
def test_what_is_suspended_is_told_and_not_waited_for(desk: Desk, held: str) -> None:
    desk.run("suspend", held, "--reason", "freeze")
    subject = "Fleet/main" if held == "Fleet/main" else "Site/shop"
    with daemon(desk, done):
        assert "suspended by ada: freeze" in desk.run("reconcile", subject, *WAIT, code=1)


def test_a_refusal_and_a_silence_are_told_apart(desk: Desk) -> None:
    with daemon(desk, lambda tx, one: requests.answer(tx, one.id, "refused", "no such fleet")):
        assert "refused: no such fleet" in desk.run("reconcile", "Site/shop", *WAIT, code=1)
    with daemon(desk):
        said = desk.run("reconcile", "Site/shop", "--wait", "--timeout", "200ms", code=7)
    assert "the daemon has not answered within 200ms" in said


def test_healing_and_releasing_a_wave_are_asked_for_by_their_names(desk: Desk) -> None:
    assert "nothing was recorded" in desk.run("reconcile", "Fleet/main", "--release", "rest", code=1)
    with daemon(desk, looked) as heard:
        desk.run("reconcile", "Site/shop", "--heal")
        desk.run("reconcile", "Fleet/main", "--release", "rest", *WAIT)
    assert [(one.verb, one.args) for one in heard] == [("heal", {}), ("reconcile", {"release_wave": "rest"})]


def test_reconciling_without_a_daemon_is_recorded_and_not_waited_for(desk: Desk) -> None:
    assert "no daemon is running" in desk.run("reconcile", "--all")
    (one,) = desk.read(requests.waiting)
    assert (one.verb, one.subject, one.args) == ("reconcile", "Fleet/main", {})
    assert "no daemon is running" in desk.run("reconcile", "--all", "--wait", code=1)


def test_a_closed_window_is_passed_over_only_with_a_reason_and_on_record(desk: Desk) -> None:
    assert "--now needs --reason" in desk.run("reconcile", "Site/shop", "--now", code=2)
    assert "--reason goes with --now" in desk.run("reconcile", "Site/shop", "--reason", "x", code=2)
    assert "nothing was recorded" in desk.run("reconcile", "Site/shop", "--now", "--reason", "x", code=1)
    assert desk.read(requests.waiting) == []
    with daemon(desk, looked) as heard:
        desk.run("reconcile", "Site/shop", "--now", "--reason", "zero day", *WAIT)
    assert heard[0].args == {"override_window": True, "reason": "zero day"}
    assert desk.read(audit.listed)[0].detail == {"override_window": True, "reason": "zero day"}


def test_what_to_reconcile_must_be_said(desk: Desk) -> None:
    assert "or --all" in desk.run("reconcile", code=2)
    assert "or --all" in desk.run("reconcile", "Site/shop", "--all", code=2)
    assert "did you mean 'Site/shop'?" in desk.run("reconcile", "Site/shpo", code=1)
    assert "--timeout must be a duration" in desk.run("reconcile", "--all", "--timeout", "soon", code=2)


# -- cancel


def begun(desk: Desk) -> str:
    new = deployments.NewDeployment("Site", "shop", "push", commit_hash=NEW)
    started: str = desk.write(lambda tx: deployments.start(tx, deployments.create(tx, new).id)).id
    return started


def test_a_cancellation_is_asked_for_and_its_answer_told(desk: Desk) -> None:
    deployment = begun(desk)
    assert deployment in desk.run("cancel")
    with daemon(desk, done) as heard:
        assert f"cancel of {deployment}" in desk.run("cancel", deployment[:20].lower())
        assert "cancel of Site/shop" in desk.run("cancel", "Site/shop")
    assert [one.subject for one in heard] == [deployment, "Site/shop"]
    assert desk.audited()[-1] == ("ada", "cancel", deployment)


def test_a_cancellation_that_is_refused_fails(desk: Desk) -> None:
    with daemon(desk, lambda tx, one: requests.answer(tx, one.id, "refused", "nothing runs there")):
        assert "nothing runs there" in desk.run("cancel", "Site/shop", code=1)


def test_a_daemon_that_does_not_answer_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "ANSWER_WITHIN", 0.2)
    with daemon(desk):
        assert "has not answered within" in desk.run("cancel", "Site/shop", code=7)


def test_a_cancellation_never_waits_for_the_next_daemon(desk: Desk) -> None:
    assert "nothing was recorded" in desk.run("cancel", "Site/shop", code=1)
    assert desk.read(requests.waiting) == []
    assert desk.audited() == []


def test_what_has_ended_or_is_unknown_cannot_be_cancelled(desk: Desk) -> None:
    deployment = begun(desk)
    desk.write(lambda tx: deployments.finish(tx, deployment, "success"))
    assert "Nothing is under way." in desk.run("cancel")
    with daemon(desk, done) as heard:
        assert "ended at " in desk.run("cancel", deployment, code=1)
        assert "there is no deployment" in desk.run("cancel", "01ABC", code=1)
        assert "did you mean 'Site/shop'?" in desk.run("cancel", "Site/shpo", code=1)
    assert heard == []


# -- a state that nobody has used


def test_a_new_state_has_nothing_to_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(tmp_path / "new", capsys, monkeypatch)
    assert "No fleet was looked at yet" in desk.run("source")
    assert "Nothing is suspended" in desk.run("suspend")
    assert "No plan waits" in desk.run("approve")
    assert "Nothing is under way" in desk.run("cancel")
    assert "no fleet is known yet" in desk.run("reconcile", "--all", code=1)
    assert "no fleet was looked at yet" in desk.run("source", "accept", NEW, code=1)
    for words in (("source",), ("suspend",), ("approve",)):
        assert desk.json(*words) == []
