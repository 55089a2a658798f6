"""What stops a plan that takes software off a server."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from reconciler.desired.kinds import Kind, Resource
from reconciler.plan.guards import blocking
from reconciler.plan.model import Plan

from .scene import fleet_of, manifest, plan_of, recorded_of, site_key, usual


def with_server(*others: Resource, **spec: Any) -> list[Resource]:
    """A key and a server that declares `spec`, with `others` on it."""
    return [manifest(Kind.SSH_KEY, "ops"), manifest(Kind.SERVER, "web1", **spec), *others]


def said(plan: Plan) -> dict[str, str]:
    return {finding.code: finding.message for finding in plan.findings}


def test_a_version_that_nobody_uses_goes_without_a_question() -> None:
    _, _, site, database = usual()
    plan = plan_of(
        fleet_of(*with_server(site, database, software={"php": ["8.2"]})), recorded_of(fleet_of(*usual()))
    )
    assert said(plan) == {}


def test_a_version_that_a_held_site_runs_stays_whatever_is_approved() -> None:
    recorded = recorded_of(fleet_of(*usual()))
    site, database = manifest(Kind.SITE, "shop", phpVersion="8.4"), usual()[3]
    wanted = fleet_of(*with_server(site, database, software={"php": ["8.4"]}))
    assert said(plan_of(wanted, recorded)) == {}, "the site moves in the same plan"
    plan = plan_of(wanted, recorded, hold={site_key("shop"): "it was cancelled"})
    assert said(plan) == {
        "software-in-use": "php-8.2 of Server/web1 would be removed, and 1 resource still needs it."
    }
    assert blocking(plan, {"software-in-use"}) == plan.findings


def test_an_engine_waits_for_an_approval_that_names_what_is_kept_there() -> None:
    _, _, site, _ = usual()
    recorded = replace(
        recorded_of(fleet_of(*usual())), retained={"web1": {"mariadb": ["old_shop"], "postgresql": ["x"]}}
    )
    plan = plan_of(fleet_of(*with_server(site, databaseEngines=["postgresql"])), recorded)
    message = said(plan)["engine-removal"]
    # the database of this plan is retained as well
    assert "mariadb of Server/web1, with 2 retained databases (old_shop, shop_db)" in message
    assert "postgresql" not in message
    assert blocking(plan)
    assert blocking(plan, {"engine-removal"}) == ()
