"""Two commits compared with no database."""

from __future__ import annotations

import pytest

from reconciler.desired.kinds import Kind
from reconciler.errors import StalePlan
from reconciler.plan.identity import check_fresh
from reconciler.plan.model import Action
from reconciler.plan.offline import recorded_from
from reconciler.plan.render import as_text

from .scene import fleet_of, manifest, only, plan_of, recorded_of, usual


def test_a_commit_compared_with_itself_changes_nothing() -> None:
    loaded = fleet_of(*usual(), manifest(Kind.SITE, "blog"))
    assert plan_of(loaded, recorded_from(loaded, "a" * 40)).effective == ()


def test_identities_are_known_after_apply() -> None:
    base = recorded_from(fleet_of(*usual()), "a" * 40)
    plan = plan_of(fleet_of(*usual(env={"A": "1"}), manifest(Kind.SITE, "blog")), base)
    assert only(plan, "Site/blog").identity == {
        "system_user": "(known after apply)",
        "mcs_id": "(known after apply)",
    }
    assert [s.key for s in only(plan, "Site/shop").steps] == ["file:/home/(known after apply)/.env"]
    text = as_text(plan, detail=True)
    assert "+ systemUser = (known after apply)" in text
    assert "unknown-" not in text


def test_it_says_what_the_database_would_say() -> None:
    before, after = fleet_of(*usual()), fleet_of(*usual(phpVersion="8.4"), manifest(Kind.SITE, "blog"))
    offline = plan_of(after, recorded_from(before, "a" * 40))
    online = plan_of(after, recorded_of(before))
    assert [(c.key, c.action, c.reason_code, c.diffs) for c in offline.changes] == [
        (c.key, c.action, c.reason_code, c.diffs) for c in online.changes
    ]


def test_what_was_suspended_in_the_base_counts_as_applied() -> None:
    base = recorded_from(fleet_of(*usual(suspend=True)), "a" * 40)
    plan = plan_of(fleet_of(*usual()), base)
    assert only(plan, "Site/shop").action is Action.UPDATE
    assert plan_of(fleet_of(*usual(suspend=True)), base).effective == ()


def test_such_a_plan_can_never_be_applied() -> None:
    base = recorded_from(fleet_of(*usual()), "a" * 40)
    with pytest.raises(StalePlan, match="does not match"):
        check_fresh(plan_of(fleet_of(*usual()), base), recorded_of(fleet_of(*usual())))
