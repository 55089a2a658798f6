"""`reconciler plan --review`: what is recorded, under whose name, and what is refused."""

from __future__ import annotations

from pathlib import Path

from reconciler.store import open_state
from reconciler.store.queries import audit, plans
from tests.e2e.harness import Stage


def test_a_review_is_recorded_for_the_tree_and_audited(stage: Stage) -> None:
    said = stage.run("plan", "--review")
    assert "Site/shop will be created" in said.out
    tree = stage.fleet.git("rev-parse", "HEAD^{tree}")
    with open_state(stage.state) as store:
        [found] = store.read(plans.listed)
        assert store.read(lambda tx: plans.reviewed_for(tx, "main", tree)) == found
        [entry] = [one for one in store.read(audit.listed) if one.action == "review"]
    assert f"plan {found.id}. This tree may do this or less." in said.out
    assert f"Reviewed by {found.reviewed_by}:" in said.out
    assert (found.status, found.commit) == ("reviewed", stage.fleet.git("rev-parse", "HEAD"))
    assert (entry.actor, entry.subject) == (found.reviewed_by, f"Plan/{found.id}")
    assert entry.detail == {
        "identity": found.identity,
        "commit": found.commit,
        "tree": tree,
        "fleet": "main",
    }


def test_a_review_leaves_the_json_of_the_plan_alone(stage: Stage) -> None:
    said = stage.run("plan", "--review", "--output", "json")
    assert said.json["format_version"] == "1.0"
    assert "Reviewed by" in said.err


def test_what_cannot_be_reviewed_records_nothing(stage: Stage, tmp_path: Path) -> None:
    assert "cannot be reviewed" in stage.run("plan", "--review", "--worktree", code=1).err
    assert "leave --refresh" in stage.run("plan", "--review", "--from", "HEAD", code=2).err
    stage.fleet.put("Site", "wrong", server="web1", domain="wrong.test", phpVersion="9.9")
    stage.fleet.commit("Declare what cannot be")
    told = stage.run("plan", "--review", code=1).err
    assert "wrong.yaml:" in told
    with open_state(stage.state) as store:
        assert store.read(plans.listed) == []
