"""Saved plans: nothing is lost, nothing foreign is read, nothing stale is applied."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest

from reconciler.desired.kinds import Kind
from reconciler.desired.problems import Problem, Source
from reconciler.errors import StalePlan, UsageFault
from reconciler.kit import canonical
from reconciler.plan import serial
from reconciler.plan.identity import beyond, check_fresh, identity
from reconciler.plan.model import DriftItem, Finding, Plan
from reconciler.plan.recorded import Recorded

from .scene import fleet_of, manifest, plan_of, recorded_of, site_key, usual


def full_plan() -> Plan:
    recorded = recorded_of(fleet_of(*usual(env={"TOKEN": "t0ken"}), manifest(Kind.SITE, "old")))
    drift = DriftItem(site_key("shop"), "web1", "file:/x", "update", (("mode", "0644", "0666"),), "by hand")
    after = fleet_of(*usual(phpVersion="8.4", env={"TOKEN": "other"}), manifest(Kind.SITE, "new"))
    plan = plan_of(after, recorded, drift=[drift], refreshed=True, unreachable={"web9": "time-out"})
    return replace(
        plan,
        findings=(Finding("protected", "no", True, ("Site/a",), "hint", approvable=False),),
        problems=(Problem(Source("a.yaml", 3, 4), "code", "message", "hint", "warning"),),
        author_name="A",
        author_email="a@fleet.test",
    )


def test_a_saved_plan_is_read_back_whole() -> None:
    plan = full_plan()
    assert serial.loads(serial.dumps(plan)) == plan


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(lambda e: e | {"version": 2}, "format version 2", id="newer"),
        pytest.param(lambda e: e | {"format": "other"}, "not a saved plan", id="foreign"),
        pytest.param(lambda e: e | {"plan": e["plan"] | {"serial": 99}}, "altered", id="altered"),
        pytest.param(lambda e: [e], "not a saved plan", id="a list"),
    ],
)
def test_what_is_no_saved_plan_of_this_version_is_refused(change: Any, says: str) -> None:
    envelope = json.loads(serial.dumps(full_plan()))
    with pytest.raises(UsageFault, match=says):
        serial.loads(json.dumps(change(envelope)))


def test_a_truncated_file_is_refused() -> None:
    with pytest.raises(UsageFault, match="not JSON"):
        serial.loads(serial.dumps(full_plan())[:-100])


def test_a_well_signed_plan_of_another_shape_is_refused_without_a_traceback() -> None:
    envelope = json.loads(serial.dumps(full_plan()))
    del envelope["plan"]["changes"]
    envelope["sha256"] = canonical.digest(envelope["plan"])
    with pytest.raises(UsageFault, match="cannot be read"):
        serial.loads(json.dumps(envelope))


def test_identity_is_the_digest_of_everything_but_the_time() -> None:
    plan = full_plan()
    others: dict[str, Any] = {
        "base_commit": "x",
        "head_commit": "x",
        "serial": 99,
        "lineage": "x",
        "engine": "x",
        "changes": plan.changes[1:],
        "drift": (),
        "findings": (),
        "problems": (),
        "author_name": "x",
        "author_email": "x",
        "refreshed": False,
        "unreachable": {},
    }
    assert set(others) | {"created_at"} == {f.name for f in fields(Plan)}
    assert identity(replace(plan, created_at="2030-01-01T00:00:00Z")) == identity(plan)
    for name, value in others.items():
        assert identity(replace(plan, **{name: value})) != identity(plan), name


def test_a_plan_fits_the_state_it_was_made_from() -> None:
    recorded = recorded_of(fleet_of(*usual()))
    check_fresh(plan_of(fleet_of(*usual()), recorded), recorded)


def test_a_plan_is_stale_once_the_state_moved() -> None:
    recorded = recorded_of(fleet_of(*usual()))
    plan = plan_of(fleet_of(*usual()), recorded)
    with pytest.raises(
        StalePlan, match=r"^Saved plan is stale.*can no longer be applied because the state was changed"
    ):
        check_fresh(plan, replace(recorded, serial=recorded.serial + 1))


def test_a_plan_of_another_database_does_not_match() -> None:
    recorded = recorded_of(fleet_of(*usual()))
    plan = plan_of(fleet_of(*usual()), recorded)
    with pytest.raises(StalePlan, match=r"^Saved plan does not match the given state"):
        check_fresh(plan, replace(recorded, lineage="another"))
    with pytest.raises(StalePlan):
        check_fresh(plan, Recorded())


def test_a_later_plan_may_do_less_than_the_reviewed_one_but_nothing_else() -> None:
    recorded = recorded_of(fleet_of(*usual()))
    reviewed = plan_of(fleet_of(*usual(phpVersion="8.4"), manifest(Kind.SITE, "new")), recorded)
    less = plan_of(fleet_of(*usual(phpVersion="8.4")), recorded)
    other = plan_of(fleet_of(*usual(domain="other.test"), manifest(Kind.SITE, "new")), recorded)
    assert beyond(less, reviewed) == ()
    assert beyond(other, reviewed) == ("Site/shop",)
    assert beyond(reviewed, less) == ("Site/new",)
