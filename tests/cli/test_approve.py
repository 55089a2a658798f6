"""Approving what waits, and accepting what a rewritten branch shows."""

from __future__ import annotations

import pytest

from reconciler.store.queries import (
    audit,
    plans,
    sources,
)
from tests.cli.desk import LOSS, MASS, NEW, OLD, PROTECTED, Desk, look, waiting_plan

# -- approve


def test_plans_that_wait_are_listed_with_what_they_would_destroy(desk: Desk) -> None:
    assert "No plan waits" in desk.run("approve")
    plan = waiting_plan(desk, LOSS, MASS)
    said = desk.run("approve")
    for word in (plan, "data-loss, mass-deletion", "Database/shop", f"reconciler approve {plan}"):
        assert word in said
    (value,) = desk.json("approve")
    assert value["destroys"] == ["Database/shop"]
    assert value["forgets"] == ["Site/a"]
    assert value["waitsFor"] == ["data-loss", "mass-deletion"]


def test_a_plan_is_shown_before_it_is_approved(desk: Desk) -> None:
    plan = waiting_plan(desk, LOSS, MASS)
    said = desk.run("approve", plan, "--yes")
    for word in (
        "commit 9f9f9f9f9f9f by Grace",
        "1 to delete",
        "Would be destroyed",
        "Database/shop on web1 (data-loss)",
    ):
        assert word in said
    assert "Would no longer be managed:\n  - Site/a" in said
    assert "Approved by ada: data-loss, mass-deletion." in said
    stored = desk.read(lambda tx: plans.find(tx, plan))
    assert (stored.status, stored.approved, stored.approved_by) == (
        "approved", ["data-loss", "mass-deletion"], "ada",
    )  # fmt: skip
    (entry,) = desk.read(audit.listed)
    assert (entry.action, entry.subject, entry.detail["codes"]) == (
        "approve", f"Plan/{plan}", ["data-loss", "mass-deletion"],
    )  # fmt: skip
    assert "No plan waits" in desk.run("approve")


def test_one_finding_can_be_approved_by_its_code(desk: Desk) -> None:
    plan = waiting_plan(desk, LOSS, MASS)
    assert "did you mean 'data-loss'?" in desk.run("approve", plan, "--code", "dataloss", "--yes", code=1)
    assert "still waits for mass-deletion" in desk.run("approve", plan, "--code", "data-loss", "--yes")
    assert desk.json("approve")[0]["waitsFor"] == ["mass-deletion"]
    desk.run("approve", plan, "--yes")
    assert desk.json("approve") == []


def test_a_plan_is_found_by_the_beginning_of_its_identity(desk: Desk) -> None:
    plan = waiting_plan(desk, LOSS)
    stored = desk.read(lambda tx: plans.find(tx, plan))
    desk.run("approve", stored.identity[:12], "--yes")
    assert desk.read(lambda tx: plans.find(tx, plan)).approved == ["data-loss"]


def test_nobody_to_ask_is_said(desk: Desk) -> None:
    plan = waiting_plan(desk, LOSS)
    assert "give --yes" in desk.run("approve", plan, code=2)
    assert desk.json("approve", plan)["status"] == "waiting"
    assert desk.audited() == []


def test_a_question_takes_only_yes_for_yes(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = waiting_plan(desk, LOSS)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.prompt", lambda *_, **__: "y")
    assert "nothing was changed" in desk.run("approve", plan, code=6)
    assert desk.audited() == []
    monkeypatch.setattr("click.prompt", lambda *_, **__: "yes")
    assert "Approved by ada" in desk.run("approve", plan)


def test_what_no_approval_lets_pass_is_refused(desk: Desk) -> None:
    plan = waiting_plan(desk, PROTECTED)
    said = desk.run("approve", plan, "--yes", code=3)
    assert "no approval lets this pass: protected" in said
    assert "protect: false" in said
    both = waiting_plan(desk, PROTECTED, LOSS, commit=OLD)
    assert "no approval lets this pass" in desk.run("approve", both, "--code", "protected", "--yes", code=3)
    assert "No approval lets this pass" in desk.run("approve", both, "--yes")
    assert desk.read(lambda tx: plans.find(tx, both)).approved == ["data-loss"]


def test_a_plan_that_is_past_is_not_approved(desk: Desk) -> None:
    old = waiting_plan(desk, LOSS, status="superseded")
    newer = waiting_plan(desk, LOSS, MASS, commit=OLD)
    said = desk.run("approve", old, "--yes", code=1)
    assert "was superseded by a newer one" in said
    assert f"plan {newer} of the same fleet waits" in said
    assert "there is no plan" in desk.run("approve", "01ABC", "--yes", code=1)
    assert desk.audited() == []


# -- source


def test_sources_are_listed_with_what_was_seen_and_what_is_followed(desk: Desk) -> None:
    said = desk.run("source", code=1)
    for word in ("main", "ssh://git@git.example.test/infra.git", NEW[:12], OLD[:12], "rewritten", "s ago"):
        assert word in said
    (value,) = desk.json("source", code=1)
    assert (value["seen"], value["accepted"], value["state"]) == (NEW, OLD, "rewritten")
    desk.write(lambda tx: look(tx, "main", "ok", OLD))
    desk.run("source")


def test_a_login_in_a_remote_is_not_shown(desk: Desk) -> None:
    desk.write(
        lambda tx: sources.put(
            tx, "main", remote="https://bot:canary@git.example.test/x", branch="main", state="ok", message=""
        )
    )
    assert "canary" not in desk.run("source") + str(desk.json("source"))


def test_a_rewritten_branch_is_accepted_by_its_commit(desk: Desk) -> None:
    said = desk.run("source", "accept", NEW[:12].upper())
    assert f"Fleet main follows {NEW[:12]} instead of {OLD[:12]}; accepted by ada." in said
    assert desk.read(lambda tx: sources.get(tx, "main")).accept_commit == NEW
    (entry,) = desk.read(audit.listed)
    assert (entry.actor, entry.action, entry.detail) == ("ada", "accept", {"commit": NEW, "instead_of": OLD})


def test_only_what_the_branch_shows_can_be_accepted(desk: Desk) -> None:
    for wrong in ("main", "9f9f9", "HEAD~1", "zz" * 20, "-x"):
        assert "is no commit id" in desk.run("source", "accept", "--", wrong, code=1)
    assert f"shows {NEW[:12]}, not {OLD}" in desk.run("source", "accept", OLD, code=1)
    desk.write(lambda tx: look(tx, "main", "ok", OLD))
    assert "is accepted already" in desk.run("source", "accept", OLD, code=1)
    desk.write(lambda tx: look(tx, "main", "unsigned", NEW))
    assert "signature policy" in desk.run("source", "accept", NEW, code=1)
    assert desk.read(lambda tx: sources.get(tx, "main")).accept_commit is None
    assert desk.audited() == []


def test_of_several_fleets_one_must_be_named(desk: Desk) -> None:
    desk.write(lambda tx: look(tx, "lab"))
    assert "give --fleet-name: lab, main" in desk.run("source", "accept", NEW, code=1)
    assert "did you mean 'main'?" in desk.run("source", "accept", NEW, "--fleet-name", "mian", code=1)
    assert "Fleet lab follows" in desk.run("source", "accept", NEW, "--fleet-name", "lab")
    assert desk.read(lambda tx: sources.get(tx, "main")).accept_commit is None
