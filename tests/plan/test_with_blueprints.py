"""Planning with the real blueprints instead of the small renderer."""

from __future__ import annotations

from typing import Any

from reconciler.plan.model import Action, Plan, Risk
from reconciler.plan.offline import recorded_from
from reconciler.plan.recorded import Recorded

from .scene import fleet_of, only, plan_of, usual

REAL: dict[str, Any] = {"renderer": None}


def _base(**site: Any) -> Recorded:
    return recorded_from(fleet_of(*usual(**site)), "b" * 40)


def _against(base: Recorded, **site: Any) -> Plan:
    return plan_of(fleet_of(*usual(**site)), base, **REAL)


def test_nothing_changes_between_equal_commits() -> None:
    assert _against(_base()).effective == ()


def test_a_new_php_version_reloads_the_sites_own_unit() -> None:
    change = only(_against(_base(), phpVersion="8.4"), "Site/shop")
    assert change.action is Action.UPDATE
    assert change.risks == (Risk.RELOAD,)
    assert change.steps


def test_an_alias_reloads_the_web_server() -> None:
    assert only(_against(_base(), aliases=["www.shop.test"]), "Site/shop").risks == (Risk.RELOAD,)


CLEAN = {"name": "clean", "schedule": "@daily", "command": "php clean.php"}
QUEUE = {"name": "queue", "command": "php queue.php", "replicas": 2}


def test_cron_jobs_come_and_go_without_disturbing_anybody() -> None:
    added = only(_against(_base(), cron=[CLEAN]), "Site/shop")
    removed = only(_against(_base(cron=[CLEAN])), "Site/shop")
    assert (added.risks, removed.risks) == ((), ())
    assert {step.op for step in removed.steps} == {"delete"}
    assert "unit:panel-cron-shop_clean.timer" in {step.key for step in removed.steps}


def test_what_a_worker_reads_restarts_it() -> None:
    base = _base(workers=[QUEUE])
    command = only(_against(base, workers=[{**QUEUE, "command": "php other.php"}]), "Site/shop")
    env = only(_against(base, workers=[QUEUE], env={"WORD": "new"}), "Site/shop")
    fewer = only(_against(base, workers=[{**QUEUE, "replicas": 1}]), "Site/shop")
    assert command.risks[0] is env.risks[0] is fewer.risks[0] is Risk.RESTART
    assert [step.key for step in fewer.steps] == ["unit:panel-worker-shop_queue@2.service"]


def test_a_removed_site_leaves_by_its_own_steps() -> None:
    plan = plan_of(fleet_of(*usual()[:2]), _base(), **REAL)
    assert {s.op for s in only(plan, "Site/shop").steps} == {"delete"}


def test_every_step_has_words() -> None:
    created = plan_of(fleet_of(*usual()), **REAL)
    removed = plan_of(fleet_of(*usual()[:2]), _base(), **REAL)
    steps = [s for plan in (created, removed) for c in plan.changes for s in c.steps]
    assert {s.op for s in steps} == {"create", "delete"}
    assert all(s.summary for s in steps)
