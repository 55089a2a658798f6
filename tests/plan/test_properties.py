"""What holds for every fleet."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from reconciler.blueprint.model import Section
from reconciler.desired.fleet import Fleet, Key, Loaded
from reconciler.desired.kinds import Kind, Resource, Server
from reconciler.desired.tree import load
from reconciler.plan import serial
from reconciler.plan.identity import beyond, identity
from reconciler.plan.manifests import to_json
from reconciler.plan.model import Action, Plan
from reconciler.plan.offline import recorded_from
from reconciler.plan.recorded import Recorded, RecordedResource

from .fleets import fleets
from .scene import ENGINE, Renderer, apply, fleet_of, manifest, only, plan_of, recorded_of, usual

several = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
REMOVING = (Action.DELETE, Action.FORGET, Action.REPLACE)


@several
@given(fleets(), fleets(), fleets())
def test_after_an_apply_nothing_is_left_to_do(
    first: list[Resource], second: list[Resource], third: list[Resource]
) -> None:
    recorded = Recorded()
    for manifests in (first, second, third):
        loaded = fleet_of(*manifests)
        recorded = apply(plan_of(loaded, recorded), recorded)
        again = plan_of(loaded, recorded)
        assert [(c.address, c.action, c.reason) for c in again.effective] == []


@several
@given(fleets(), fleets(), st.randoms(use_true_random=False))
def test_the_same_inputs_in_any_order_give_the_same_plan(
    before: list[Resource], after: list[Resource], shuffled: random.Random
) -> None:
    recorded = recorded_of(fleet_of(*before))
    plan = plan_of(fleet_of(*after), recorded)
    mixed = list(after)
    shuffled.shuffle(mixed)
    resources = list(recorded.resources.items())
    shuffled.shuffle(resources)
    assert plan_of(fleet_of(*mixed), replace(recorded, resources=dict(resources))) == plan


@several
@given(fleets(), fleets(), st.data())
def test_what_is_broken_is_neither_changed_nor_removed(
    before: list[Resource], after: list[Resource], data: st.DataObject
) -> None:
    recorded = recorded_of(fleet_of(*before))
    known = sorted({*recorded.resources, *(Key(m.kind_name, m.name) for m in after)})
    broken = frozenset(data.draw(st.lists(st.sampled_from(known), unique=True)) if known else [])
    loaded = fleet_of(*(m for m in after if Key(m.kind_name, m.name) not in broken), broken=broken)
    for change in plan_of(loaded, recorded).effective:
        assert change.key not in broken
        assert change.previous not in broken


@several
@given(fleets(), fleets())
def test_a_source_that_is_not_whole_removes_nothing(before: list[Resource], after: list[Resource]) -> None:
    recorded = recorded_of(fleet_of(*before))
    plan = plan_of(fleet_of(*after, whole=False), recorded)
    declared = {Key(m.kind_name, m.name) for m in after}
    assert not [c.address for c in plan.effective if c.action in REMOVING and c.key not in declared]


@several
@given(fleets(), fleets())
def test_leaving_out_nodes_where_nothing_differs_changes_no_plan(
    before: list[Resource], after: list[Resource]
) -> None:
    recorded = recorded_of(fleet_of(*before))
    known = {key: replace(r, engine=ENGINE) for key, r in recorded.resources.items()}
    assert plan_of(fleet_of(*after), replace(recorded, resources=known)) == plan_of(
        fleet_of(*after), recorded
    )


def test_a_node_is_rendered_when_something_on_it_failed_or_its_key_changed() -> None:
    loaded = fleet_of(*usual())
    recorded = recorded_of(loaded)
    known = {key: replace(r, engine=ENGINE) for key, r in recorded.resources.items()}
    shop = Key(Kind.SITE, "shop")

    def rendered(resources: Mapping[Key, RecordedResource], after: Loaded = loaded) -> tuple[list[str], Plan]:
        renderer = Counting()
        plan = plan_of(after, replace(recorded, resources=resources), renderer=renderer)
        return renderer.rendered, plan

    assert rendered(known)[0] == []
    interrupted = replace(known[shop], failed=True, steps=known[shop].steps[:2])
    servers, plan = rendered({**known, shop: interrupted})
    assert servers == ["web1"]
    assert [s.op for s in only(plan, "Site/shop").steps] == ["create"] * 4 + ["none"] * 2
    rotated = fleet_of(manifest(Kind.SSH_KEY, "ops", protect=True), *usual()[1:])
    assert rendered(known, rotated)[0] == ["web1"]
    older = replace(known[shop], engine="older")
    assert rendered({**known, shop: older})[0] == ["web1"]


class Counting(Renderer):
    """Remembers which servers it rendered."""

    def __init__(self) -> None:
        super().__init__()
        self.rendered: list[str] = []

    def sections(
        self, server: Server, fleet: Fleet, identities: Mapping[Key, Mapping[str, str]]
    ) -> Sequence[Section]:
        self.rendered.append(server.name)
        return super().sections(server, fleet, identities)


def _documents(manifests: list[Resource]) -> dict[str, bytes]:
    """JSON is YAML; one file a manifest."""
    return {f"{m.kind}-{m.name}.yaml".lower(): json.dumps(to_json(m), indent=1).encode() for m in manifests}


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_damaged_file_deletes_nothing(data: st.DataObject) -> None:
    sound = [*usual(), manifest(Kind.SITE, "blog"), manifest(Kind.USER, "ada")]
    files = _documents(sound)
    recorded = recorded_of(load(files))
    assert len(recorded.resources) == len(sound)
    name = data.draw(st.sampled_from(sorted(files)))
    at = data.draw(st.integers(1, len(files[name]) - 1))
    junk = data.draw(st.sampled_from([b"", b"{", b"\x00", b"\xff", b"\t- :", b"'", b"!", b"]\n"]))
    damaged = files[name][:at] + junk + (b"" if data.draw(st.booleans()) else files[name][at:])
    loaded = load({**files, name: damaged})
    assume(loaded.errors)
    plan = plan_of(loaded, recorded)
    assert not [c.address for c in plan.effective if c.action in REMOVING]


@several
@given(fleets(), fleets())
def test_saving_loses_nothing_and_time_is_no_part_of_identity(
    before: list[Resource], after: list[Resource]
) -> None:
    plan = plan_of(fleet_of(*after), recorded_of(fleet_of(*before)))
    again = serial.loads(serial.dumps(plan))
    assert again == plan
    assert identity(again) == identity(replace(plan, created_at="2031-01-01T00:00:00Z"))
    assert beyond(plan, plan) == ()


@several
@given(fleets(), fleets())
def test_no_system_user_serves_two_sites_of_a_server(before: list[Resource], after: list[Resource]) -> None:
    recorded = recorded_of(fleet_of(*before))
    after_apply = apply(plan_of(fleet_of(*after), recorded), recorded)
    users = [
        (r.server, r.identity["system_user"])
        for key, r in after_apply.resources.items()
        if key.kind is Kind.SITE
    ]
    assert len(users) == len(set(users))


def test_ten_thousand_objects_are_planned() -> None:
    made: list[Resource] = [manifest(Kind.SSH_KEY, "ops")]
    made += [manifest(Kind.SERVER, f"n{n}", address=f"10.0.{n // 250}.{n % 250 + 1}") for n in range(99)]
    made += [manifest(Kind.SITE, f"s{n}", server=f"n{n % 99}") for n in range(6600)]
    made += [manifest(Kind.DATABASE, f"d{n}", server=f"n{n % 99}", site=f"s{n}") for n in range(3300)]
    loaded = fleet_of(*made)
    assert len(loaded.fleet.entries) == 10_000
    changed = manifest(Kind.SITE, "s7", server="n7", phpVersion="8.4")
    renderer = Counting()
    plan: Plan = plan_of(
        fleet_of(*(changed if m.name == "s7" else m for m in made)),
        recorded_from(loaded, "b" * 40),
        renderer=renderer,
    )
    assert [c.address for c in plan.effective] == ["Site/s7"]
    assert len(plan.changes) == 10_000
    assert renderer.rendered == ["n7", "n7"]  # as it was and as it will be
    assert len(plan_of(loaded).effective) == 10_000


def test_an_empty_fleet_of_broken_manifests_has_nothing_to_say_of_others() -> None:
    recorded = recorded_of(fleet_of(*usual()))
    plan = plan_of(Loaded(Fleet(broken=frozenset([Key(Kind.SITE, "shop")]))), recorded)
    assert plan.effective == ()
    assert [f.code for f in plan.findings] == ["empty-source"]
