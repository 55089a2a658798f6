"""What stops an apply until a person has looked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.desired.fleet import Fleet, Key, Loaded
from reconciler.desired.kinds import Kind
from reconciler.desired.problems import Problem, Source
from reconciler.plan.exits import ExitCode, exit_code
from reconciler.plan.guards import blocking
from reconciler.plan.model import Action, DriftItem, Plan

from .scene import fleet_of, manifest, only, plan_of, recorded_of, site_key, usual


def codes(plan: Plan) -> list[str]:
    return [f.code for f in plan.findings]


@pytest.mark.parametrize(
    ("total", "removed", "stopped"),
    [
        pytest.param(4, 3, False, id="three of a few"),
        pytest.param(4, 4, True, id="four of a few"),
        pytest.param(96, 10, False, id="a tenth of many"),
        pytest.param(96, 11, True, id="more than a tenth of many"),
    ],
)
def test_more_than_three_and_a_tenth_wait_for_approval(total: int, removed: int, stopped: bool) -> None:
    sites = [manifest(Kind.SITE, f"s{n}") for n in range(total)]
    recorded = recorded_of(fleet_of(*usual(), *sites))  # 100 resources when total is 96
    plan = plan_of(fleet_of(*usual(), *sites[removed:]), recorded)
    assert ("mass-deletion" in codes(plan)) is stopped
    assert bool(blocking(plan)) is stopped
    assert blocking(plan, {"mass-deletion"}) == ()


def test_forgetting_much_counts_as_deleting_much() -> None:
    databases = [manifest(Kind.DATABASE, f"d{n}") for n in range(4)]
    plan = plan_of(fleet_of(*usual()), recorded_of(fleet_of(*usual(), *databases)))
    assert {c.action for c in plan.effective} == {Action.FORGET}
    assert codes(plan) == ["mass-deletion"]


def test_a_protected_resource_cannot_be_removed_by_any_approval() -> None:
    recorded = recorded_of(fleet_of(*usual(protect=True)))
    plan = plan_of(fleet_of(*usual()[:2], usual()[3]), recorded)
    assert codes(plan) == ["protected"]
    assert blocking(plan, {"protected"}) == plan.findings


def test_protection_that_is_only_declared_stops_a_replacement_too() -> None:
    other = manifest(Kind.SERVER, "web2", address="203.0.113.2")
    recorded = recorded_of(fleet_of(*usual(), other))
    plan = plan_of(fleet_of(*usual(server="web2", protect=True)[:3], other), recorded)
    assert only(plan, "Site/shop").action is Action.REPLACE
    assert "protected" in codes(plan)


def test_dropping_a_database_waits_for_approval_and_deleting_a_site_does_not() -> None:
    database = manifest(Kind.DATABASE, "data", deletionPolicy="delete")
    recorded = recorded_of(fleet_of(*usual(), database))
    assert codes(plan_of(fleet_of(*usual()), recorded)) == ["data-loss"]
    assert codes(plan_of(fleet_of(*usual()[:2], usual()[3], database), recorded)) == []


def test_a_server_and_its_sites_may_not_go_unseen() -> None:
    other = manifest(Kind.SERVER, "web2", address="203.0.113.2")
    blog = manifest(Kind.SITE, "blog", server="web2")
    plan = plan_of(fleet_of(*usual()), recorded_of(fleet_of(*usual(), other, blog)))
    assert only(plan, "Server/web2").action is Action.FORGET
    assert codes(plan) == ["server-with-sites"]
    assert plan.findings[0].addresses == ("Server/web2", "Site/blog")


def test_a_server_whose_sites_are_still_declared_stays() -> None:
    recorded = recorded_of(fleet_of(*usual()))
    after = [m for m in usual() if m.kind != "Server"]
    plan = plan_of(fleet_of(*after), recorded)
    assert only(plan, "Server/web1").reason_code == "in-use"
    assert plan.effective == ()
    assert codes(plan) == ["server-with-sites"]
    assert plan.findings[0].blocking


def test_a_server_that_its_sites_leave_in_the_same_commit_is_still_asked_about() -> None:
    other = manifest(Kind.SERVER, "web2", address="203.0.113.2")
    recorded = recorded_of(fleet_of(*usual()))
    plan = plan_of(
        fleet_of(manifest(Kind.SSH_KEY, "ops"), other, manifest(Kind.SITE, "shop", server="web2")), recorded
    )
    assert only(plan, "Server/web1").action is Action.FORGET
    assert "server-with-sites" in codes(plan)


def test_an_empty_source_is_an_error_that_nobody_can_approve_and_deletes_nothing() -> None:
    plan = plan_of(fleet_of(), recorded_of(fleet_of(*usual())))
    assert plan.effective == ()
    assert codes(plan) == ["empty-source"]
    assert blocking(plan, {"empty-source"}) == plan.findings
    assert exit_code(plan, detailed=True) is ExitCode.ERROR


def test_of_a_source_that_is_not_whole_everything_is_applied_but_removals() -> None:
    recorded = recorded_of(fleet_of(*usual()))
    plan = plan_of(fleet_of(*usual(phpVersion="8.4")[:3], whole=False), recorded)
    assert [c.address for c in plan.effective] == ["Site/shop"]
    assert only(plan, "Database/shop-db").reason_code == "kept"
    assert codes(plan) == ["incomplete-source"]
    assert blocking(plan) == ()


def test_a_broken_manifest_under_an_unknown_name_may_be_a_rename_so_its_kind_is_not_removed() -> None:
    recorded = recorded_of(fleet_of(*usual(), manifest(Kind.SITE, "blog")))
    plan = plan_of(fleet_of(*usual(), broken=[site_key("journal")]), recorded)
    assert only(plan, "Site/blog").reason_code == "kept"
    assert plan.effective == ()


@pytest.mark.parametrize("detailed", [False, True])
def test_exit_codes_are_terraforms(detailed: bool) -> None:
    loaded = fleet_of(*usual())
    recorded = recorded_of(loaded)
    changed = ExitCode.CHANGES if detailed else ExitCode.OK
    assert exit_code(plan_of(loaded, recorded), detailed) == 0
    assert exit_code(plan_of(loaded), detailed) == changed
    drift = DriftItem(site_key("shop"), "web1", "file:/x", "update")
    assert exit_code(plan_of(loaded, recorded, drift=[drift], refreshed=True), detailed) == changed
    problem = Problem(Source("a.yaml"), "unknown-field", "no")
    assert exit_code(plan_of(Loaded(loaded.fleet, (problem,)), recorded), detailed) == 1
    warning = replace(problem, severity="warning")
    assert exit_code(plan_of(Loaded(loaded.fleet, (warning,)), recorded), detailed) == 0


def test_the_reserved_exit_codes_stay_what_they_are() -> None:
    assert {code.name: code.value for code in ExitCode} == {
        "OK": 0,
        "ERROR": 1,
        "CHANGES": 2,
        "DENIED": 3,
        "STALE": 4,
        "LOCKED": 5,
        "CANCELLED": 6,
        "TIMEOUT": 7,
    }


def test_all_manifests_broken_is_no_empty_source_and_changes_nothing() -> None:
    recorded = recorded_of(fleet_of(*usual()))
    plan = plan_of(Loaded(Fleet({}, frozenset(recorded.resources))), recorded)
    assert plan.effective == ()
    assert codes(plan) == []
    assert {c.reason_code for c in plan.changes} == {"invalid"}


def test_a_broken_key_is_never_treated_as_declared() -> None:
    loaded = fleet_of(*usual(phpVersion="8.4"), broken=[Key(Kind.SITE, "shop")])
    assert plan_of(loaded, recorded_of(fleet_of(*usual()))).effective == ()
