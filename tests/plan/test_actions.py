"""What becomes of each resource, and why the plan says so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.desired.fleet import Key
from reconciler.desired.kinds import Kind
from reconciler.plan.model import Action, Risk
from reconciler.plan.recorded import Recorded

from .scene import Renderer, apply, fleet_of, manifest, only, plan_of, recorded_of, site_key, usual


def test_a_first_plan_creates_everything_with_what_others_need_first() -> None:
    plan = plan_of(fleet_of(*reversed(usual())))
    assert [c.address for c in plan.changes] == ["SSHKey/ops", "Server/web1", "Database/shop-db", "Site/shop"]
    assert {c.action for c in plan.changes} == {Action.CREATE}
    assert only(plan, "Site/shop").identity == {"system_user": "web1", "mcs_id": "4950"}
    assert [s.op for s in only(plan, "Site/shop").steps] == ["create"] * 6


def test_the_same_again_changes_nothing() -> None:
    loaded = fleet_of(*usual())
    assert plan_of(loaded, recorded_of(loaded)).effective == ()


def test_a_changed_field_updates_its_resource_alone_and_says_what_it_costs() -> None:
    plan = plan_of(fleet_of(*usual(phpVersion="8.4")), recorded_of(fleet_of(*usual())))
    (change,) = plan.effective
    assert (change.action, change.reason_code, change.address) == (Action.UPDATE, "changed", "Site/shop")
    assert [(d.path, d.before, d.after) for d in change.diffs] == [(("spec", "phpVersion"), "8.2", "8.4")]
    assert change.risks == (Risk.RESTART, Risk.RELOAD)
    assert [(s.op, s.key) for s in change.steps] == [
        ("update", "file:/etc/systemd/system/panel-fpm-shop.service")
    ]


def test_an_alias_only_reloads_the_web_server() -> None:
    plan = plan_of(fleet_of(*usual(aliases=["www.shop.test"])), recorded_of(fleet_of(*usual())))
    assert only(plan, "Site/shop").risks == (Risk.RELOAD,)


def test_a_label_changes_the_record_and_no_node() -> None:
    before, after = fleet_of(*usual()), usual()
    labelled = after[2].model_copy(
        update={"metadata": after[2].metadata.model_copy(update={"labels": {"tier": "gold"}})}
    )
    plan = plan_of(fleet_of(after[0], after[1], labelled, after[3]), recorded_of(before))
    (change,) = plan.effective
    assert (change.action, change.steps, change.risks) == (Action.UPDATE, (), ())


def test_a_site_that_moves_to_another_server_is_replaced_and_gets_a_user_there() -> None:
    other = manifest(Kind.SERVER, "web2", address="203.0.113.2")
    settled = manifest(Kind.SITE, "first", server="web2")
    recorded = recorded_of(fleet_of(*usual(), other, settled))
    plan = plan_of(fleet_of(*usual(server="web2")[:3], other, settled), recorded)
    change = only(plan, "Site/shop")
    assert (change.action, change.server, change.previous_server) == (Action.REPLACE, "web2", "web1")
    assert change.identity == {"system_user": "web2", "mcs_id": "4951"}
    assert [d.path for d in change.diffs if d.forces_replacement] == [("spec", "server")]
    assert [s.op for s in change.steps] == ["delete"] * 6 + ["create"] * 6
    assert change.destroys


def test_a_replaced_database_keeps_its_data_unless_its_recorded_policy_says_delete() -> None:
    def replaced(before: str, after: str) -> tuple[bool, set[str], tuple[Risk, ...]]:
        old = manifest(Kind.DATABASE, "data", deletionPolicy=before)
        new = manifest(Kind.DATABASE, "data", name="other", deletionPolicy=after)
        change = only(plan_of(fleet_of(*usual(), new), recorded_of(fleet_of(*usual(), old))), "Database/data")
        assert change.action is Action.REPLACE
        return change.destroys, {s.op for s in change.steps}, change.risks

    assert replaced("retain", "delete") == (False, {"create"}, (Risk.DOWNTIME,))
    assert replaced("delete", "retain") == (True, {"delete", "create"}, (Risk.DATA_LOSS, Risk.DOWNTIME))


@pytest.mark.parametrize(
    ("policy", "action", "steps"),
    [
        pytest.param("retain", Action.FORGET, 0, id="retained"),
        pytest.param("delete", Action.DELETE, 2, id="dropped"),
    ],
)
def test_a_removed_database_follows_its_recorded_policy(policy: str, action: Action, steps: int) -> None:
    database = manifest(Kind.DATABASE, "data", deletionPolicy=policy)
    plan = plan_of(fleet_of(*usual()), recorded_of(fleet_of(*usual(), database)))
    change = only(plan, "Database/data")
    assert (change.action, change.reason_code, len(change.steps)) == (action, "removed", steps)


def test_a_removed_site_is_deleted_and_a_retained_one_forgotten() -> None:
    recorded = recorded_of(fleet_of(*usual(), manifest(Kind.SITE, "kept", deletionPolicy="retain")))
    plan = plan_of(fleet_of(*usual()[:2]), recorded)
    assert only(plan, "Site/shop").action is Action.DELETE
    assert only(plan, "Site/kept").action is Action.FORGET
    assert only(plan, "Site/kept").steps == ()


def test_a_removed_server_is_forgotten_and_its_node_left_alone() -> None:
    bare = manifest(Kind.SERVER, "spare", address="203.0.113.9")
    plan = plan_of(fleet_of(*usual()), recorded_of(fleet_of(*usual(), bare)))
    change = only(plan, "Server/spare")
    assert (change.action, change.steps) == (Action.FORGET, ())


def test_removals_come_last_and_the_other_way_round() -> None:
    extra = [
        manifest(Kind.SSH_KEY, "old"),
        manifest(Kind.SERVER, "spare", address="203.0.113.9", sshKey="old"),
        manifest(Kind.SITE, "blog", server="spare"),
        manifest(Kind.DATABASE, "blog", server="spare", site="blog", deletionPolicy="delete"),
    ]
    plan = plan_of(fleet_of(*usual(), manifest(Kind.SITE, "new")), recorded_of(fleet_of(*usual(), *extra)))
    assert [c.address for c in plan.effective] == [
        "Site/new",
        "Site/blog",
        "Database/blog",
        "Server/spare",
        "SSHKey/old",
    ]


def test_a_rename_keeps_the_system_user_and_destroys_nothing() -> None:
    recorded = recorded_of(fleet_of(*usual()))
    renamed = manifest(Kind.SITE, "store", {"reconciler/moved-from": "shop"}, domain="shop.test")
    database = manifest(Kind.DATABASE, "shop-db", site="store")
    after = fleet_of(*usual()[:2], renamed, database)
    plan = plan_of(after, recorded)
    change = only(plan, "Site/store")
    assert (change.action, change.previous, change.reason_code) == (
        Action.UPDATE,
        site_key("shop"),
        "renamed",
    )
    assert change.identity == {"system_user": "web1", "mcs_id": "4950"}
    assert "user:web1" not in {s.key for s in change.steps}
    assert not any(c.destroys for c in plan.changes)
    assert all(c.address != "Site/shop" for c in plan.changes)
    assert plan_of(after, apply(plan, recorded)).effective == ()


def test_renaming_a_server_moves_no_site() -> None:
    recorded = recorded_of(fleet_of(*usual()))
    after = fleet_of(
        manifest(Kind.SSH_KEY, "ops"),
        manifest(Kind.SERVER, "front", {"reconciler/moved-from": "web1"}),
        manifest(Kind.SITE, "shop", server="front"),
        manifest(Kind.DATABASE, "shop-db", server="front", site="shop"),
        manifest(Kind.SITE, "new", server="front"),
    )
    plan = plan_of(after, recorded)
    assert {c.address: c.action for c in plan.effective} == {
        "Server/front": Action.UPDATE,
        "Database/shop-db": Action.UPDATE,
        "Site/shop": Action.UPDATE,
        "Site/new": Action.CREATE,
    }
    assert only(plan, "Site/shop").previous_server is None
    assert only(plan, "Site/new").identity == {"system_user": "web2", "mcs_id": "4951"}
    assert plan_of(after, apply(plan, recorded)).effective == ()


def test_two_names_that_claim_one_old_name_stop_the_plan_and_delete_nothing() -> None:
    recorded = recorded_of(fleet_of(*usual()))
    claim = {"reconciler/moved-from": "shop"}
    plan = plan_of(
        fleet_of(*usual()[:2], usual()[3], manifest(Kind.SITE, "a", claim), manifest(Kind.SITE, "b", claim)),
        recorded,
    )
    assert only(plan, "Site/shop").reason_code == "ambiguous"
    (finding,) = plan.findings
    assert (finding.code, finding.blocking, finding.approvable) == ("ambiguous-move", True, False)


def test_an_annotation_left_behind_after_a_rename_means_nothing() -> None:
    recorded = recorded_of(fleet_of(*usual()))
    shop = manifest(Kind.SITE, "shop", {"reconciler/moved-from": "long-ago"})
    plan = plan_of(fleet_of(*usual()[:2], shop, usual()[3]), recorded)
    assert (plan.effective, plan.findings) == ((), ())


def test_what_is_suspended_is_recorded_as_such_once_and_then_left_alone() -> None:
    recorded = recorded_of(fleet_of(*usual()))
    suspended = fleet_of(*usual(suspend=True, phpVersion="8.4"))
    first = plan_of(suspended, recorded)
    (change,) = first.effective
    assert (change.reason_code, change.steps) == ("suspended", ())
    assert [d.path for d in change.diffs] == [("spec", "suspend")]
    after = apply(first, recorded)
    second = plan_of(suspended, after)
    assert second.effective == ()
    assert only(second, "Site/shop").reason_code == "suspended"
    assert "1 changed field waits" in only(second, "Site/shop").reason
    removed = plan_of(fleet_of(*usual()[:2]), after)
    assert only(removed, "Site/shop").action is Action.NO_OP


def test_what_is_new_and_suspended_is_not_created() -> None:
    plan = plan_of(fleet_of(*usual(suspend=True)[:3]))
    change = only(plan, "Site/shop")
    assert (change.action, change.reason_code, change.after) == (Action.NO_OP, "suspended", None)


def test_a_failed_resource_is_tried_again_with_all_its_steps() -> None:
    loaded = fleet_of(*usual())
    recorded = recorded_of(loaded)
    key = site_key("shop")
    failed = replace(
        recorded, resources={**recorded.resources, key: replace(recorded.resources[key], failed=True)}
    )
    (change,) = plan_of(loaded, failed).effective
    assert (change.action, change.reason_code) == (Action.UPDATE, "retry")
    assert [s.op for s in change.steps] == ["none"] * 6
    assert change.risks == ()


def test_a_databases_new_login_updates_the_site_whose_env_holds_it() -> None:
    after = [*usual()[:3], manifest(Kind.DATABASE, "shop-db", site="shop", username="other")]
    plan = plan_of(fleet_of(*after), recorded_of(fleet_of(*usual())))
    change = only(plan, "Site/shop")
    assert (change.action, change.reason_code, change.diffs) == (Action.UPDATE, "dependency", ())
    assert "Database/shop-db" in change.reason
    assert [s.key for s in change.steps] == ["file:/home/web1/.env"]


def test_new_templates_are_told_from_changed_manifests() -> None:
    loaded = fleet_of(*usual())
    plan = plan_of(loaded, recorded_of(loaded), renderer=Renderer("2"))
    (change,) = plan.effective
    assert (change.address, change.reason_code) == ("Site/shop", "engine")
    assert change.risks == (Risk.RELOAD,)


def test_a_field_that_is_newer_than_the_record_changes_nothing_by_its_default() -> None:
    loaded = fleet_of(*usual())
    recorded = recorded_of(loaded)
    key = site_key("shop")
    old = dict(recorded.resources[key].manifest)
    spec = old["spec"]
    assert isinstance(spec, dict)
    old["spec"] = {k: v for k, v in spec.items() if k not in ("php", "state")}
    older = replace(
        recorded, resources={**recorded.resources, key: replace(recorded.resources[key], manifest=old)}
    )
    assert plan_of(loaded, older).effective == ()


def test_system_users_are_never_given_twice() -> None:
    recorded = recorded_of(fleet_of(*usual()))
    emptied = apply(plan_of(fleet_of(*usual()[:2]), recorded), recorded)
    assert site_key("shop") not in emptied.resources
    plan = plan_of(fleet_of(*usual()[:2], manifest(Kind.SITE, "next")), emptied)
    assert only(plan, "Site/next").identity == {"system_user": "web2", "mcs_id": "4951"}
    lost_counter = replace(recorded, next_site_number={})
    plan = plan_of(fleet_of(*usual(), manifest(Kind.SITE, "next")), lost_counter)
    assert only(plan, "Site/next").identity == {"system_user": "web2", "mcs_id": "4951"}


def test_a_broken_resource_stays_and_so_does_what_its_neighbours_see_of_it() -> None:
    recorded = recorded_of(fleet_of(*usual()))
    broken = Key(Kind.DATABASE, "shop-db")
    plan = plan_of(fleet_of(*usual()[:3], broken=[broken]), recorded)
    assert plan.effective == ()
    assert only(plan, "Database/shop-db").reason_code == "invalid"
    assert only(plan, "Database/shop-db").after == recorded.resources[broken].manifest


def test_a_broken_server_that_is_recorded_does_not_stop_its_sites() -> None:
    recorded = recorded_of(fleet_of(*usual()))
    after = [m for m in usual(phpVersion="8.4") if m.kind != "Server"]
    plan = plan_of(fleet_of(*after, broken=[Key(Kind.SERVER, "web1")]), recorded)
    assert [c.address for c in plan.effective] == ["Site/shop"]


def test_a_site_on_a_server_that_does_not_exist_yet_waits() -> None:
    after = [m for m in usual() if m.kind != "Server"]
    plan = plan_of(fleet_of(*after, broken=[Key(Kind.SERVER, "web1")]))
    change = only(plan, "Site/shop")
    assert (change.action, change.reason_code) == (Action.NO_OP, "invalid")
    assert "Server/web1" in change.reason


def test_a_key_that_a_kept_server_needs_is_not_deleted() -> None:
    recorded = recorded_of(fleet_of(*usual()))
    after = [m for m in usual() if m.kind not in ("Server", "SSHKey")]
    plan = plan_of(fleet_of(*after, broken=[Key(Kind.SERVER, "web1")]), recorded)
    assert only(plan, "SSHKey/ops").reason_code == "in-use"


def test_a_plan_against_nothing_recorded_and_nothing_declared_is_empty() -> None:
    plan = plan_of(fleet_of(), Recorded())
    assert (plan.changes, plan.findings) == ((), ())


def test_a_login_that_a_held_database_needs_outlives_its_neighbour() -> None:
    dropped = manifest(Kind.DATABASE, "one", username="app", deletionPolicy="delete")
    held = Key(Kind.DATABASE, "two")
    recorded = recorded_of(fleet_of(*usual(), dropped, manifest(Kind.DATABASE, "two", username="app")))
    # Written by another version: its manifest cannot be read, so only its recorded steps tell what it needs.
    foreign = replace(recorded.resources[held], manifest={"kind": "Database", "spec": {"shape": "other"}})
    recorded = replace(recorded, resources={**recorded.resources, held: foreign})
    plan = plan_of(fleet_of(*usual(), broken=[held]), recorded)
    assert [s.key for s in only(plan, "Database/one").steps] == ["mariadb_database:one"]
