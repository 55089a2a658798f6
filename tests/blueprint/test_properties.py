"""What holds for every fleet that manifests can declare."""

from __future__ import annotations

import copy
import json
from collections.abc import Collection

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler import blueprint
from reconciler.agent import vocabulary
from reconciler.blueprint.model import Bundle, Section, Step
from reconciler.desired.fleet import Fleet, Key
from reconciler.kit.secret import Secret

from .fleets import only_server, system_users
from .random_fleets import fleets

PROPERTY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def _secret(key: Key, field: str) -> Secret:
    return Secret(f"hunter2-{key.name}-{field}")


def _bundle(fleet: Fleet, source: blueprint.SecretSource, removals: Collection[Section] = ()) -> Bundle:
    return blueprint.bundle(only_server(fleet), fleet, system_users(fleet), source, removals=tuple(removals))


def _steps(bundle: Bundle) -> list[Step]:
    return [step for section in bundle.sections for step in section.steps]


@PROPERTY
@given(fleets())
def test_the_agent_takes_every_bundle(fleet: Fleet) -> None:
    vocabulary.check_bundle(json.loads(json.dumps(_bundle(fleet, _secret).to_json())))


@PROPERTY
@given(fleets())
def test_keys_are_unique_and_needs_name_earlier_sections(fleet: Fleet) -> None:
    bundle = _bundle(fleet, blueprint.masked)
    keys = [step.key for step in _steps(bundle)]
    assert len(keys) == len(set(keys))
    seen: set[str] = set()
    for section in bundle.sections:
        assert set(section.needs) <= seen
        seen.add(section.id)
    resources = {str(key) for key in fleet.entries}
    assert seen == resources


@PROPERTY
@given(fleets())
def test_parents_of_every_folder_and_file_are_made_before_it_or_come_with_a_package(fleet: Fleet) -> None:
    made = {
        "/etc/nginx/conf.d",
        "/etc/nginx/sites-available",
        "/etc/nginx/sites-enabled",
        "/etc/systemd/system",
    }
    made |= {
        "/etc/logrotate.d",
        "/etc/my.cnf.d",
        "/etc/mysql/mariadb.conf.d",
        "/var/lib/pgsql/data",
        "/etc",
        "/var/log",
    }
    made |= {"/etc/postgresql/15/main", "/etc/postgresql/17/main"}
    for step in _steps(_bundle(fleet, blueprint.masked)):
        if step.type == "user":
            made.add(str(step.params["home"]))
        if step.type in ("file", "directory", "symlink"):
            assert step.target.rpartition("/")[0] in made, step.target
        if step.type == "directory":
            made.add(step.target)


@PROPERTY
@given(fleets())
def test_the_plan_form_is_stable_and_holds_no_secret(fleet: Fleet) -> None:
    plan, real = _bundle(fleet, blueprint.masked), _bundle(fleet, _secret)
    assert plan.digest == _bundle(fleet, blueprint.masked).digest
    assert "hunter2" not in json.dumps(real.to_json())
    for planned, actual in zip(_steps(plan), _steps(real), strict=True):
        assert planned.key == actual.key
        assert "hunter2" not in repr(actual) + blueprint.describe(actual)
        assert planned.body is None or b"hunter2" not in (planned.body.content or b"")
        differing = {name for name in actual.params if actual.params[name] != planned.params[name]}
        if actual.body is not None and actual.body.secret:
            assert differing <= {"sha256", "size", "password"}
        else:
            assert not differing
            assert actual.body is None or b"hunter2" not in (actual.body.content or b"")


def _node_after(state: dict[str, Step], bundle: Bundle) -> dict[str, Step]:
    """What is on a node, by key, after a bundle was applied as docs/protocol.md says."""
    state = dict(state)
    for step in _steps(bundle):
        if step.params.get("state") != "absent":
            state[step.key] = step
            continue
        state.pop(step.key, None)
        if step.type == "user":
            home = f"{step.params['home']}/"
            state = {key: found for key, found in state.items() if not found.target.startswith(home)}
    return state


def _undo(fleet: Fleet, keep: Collection[str]) -> list[Section]:
    sections = blueprint.sections(only_server(fleet), fleet, system_users(fleet), blueprint.masked)
    undone = [Section(s.id, blueprint.removals(s.steps, keep)) for s in reversed(sections)]
    return [section for section in undone if section.steps]


@PROPERTY
@given(fleets())
def test_after_removing_everything_only_what_is_never_undone_is_left(fleet: Fleet) -> None:
    bundle = _bundle(fleet, blueprint.masked)
    gone = Bundle(bundle.server, bundle.package_manager, tuple(_undo(fleet, ())))
    left = _node_after(_node_after({}, bundle), gone).values()
    stays = {"repository", "module", "hostname", "postgresql_cluster", "selinux_booleans", "selinux_port"}
    for step in left:
        named = step.type == "package" and "software" in step.params
        kept = (
            step.type in stays
            or (step.type == "package" and not named)
            or step.key == "selinux_module:panel"
            or step.target.endswith("pg_hba.conf")
        )
        assert kept or step.params.get("active") is False


@PROPERTY
@given(st.sampled_from(["alma_9", "debian_12"]), st.data())
def test_going_from_one_fleet_to_another_leaves_only_the_other(os: str, data: st.DataObject) -> None:
    before, after = data.draw(fleets(os)), data.draw(fleets(os))
    wanted = _bundle(after, blueprint.masked)
    keep = {step.key for step in _steps(wanted)}
    change = _bundle(after, blueprint.masked, _undo(before, keep))
    vocabulary.check_bundle(json.loads(json.dumps(change.to_json())))
    state = _node_after(_node_after({}, _bundle(before, blueprint.masked)), change)
    packages = {"package", "repository", "hostname"}
    for step in state.values():
        if step.key in keep or step.type in packages or step.params.get("active") is False:
            continue
        # the folders and pages of a site that stays belong to its owner
        assert step.type == "directory" or step.params.get("once"), step.key
        assert step.target.startswith("/home/")
    assert keep - {s.key for s in _steps(wanted) if s.params.get("state") == "absent"} <= state.keys()


@PROPERTY
@given(fleets())
def test_rendering_changes_nothing_it_was_given(fleet: Fleet) -> None:
    before = copy.deepcopy(fleet.entries)
    _bundle(fleet, _secret)
    assert fleet.entries == before


@PROPERTY
@given(fleets())
def test_every_step_has_words_and_risks_are_known_ones(fleet: Fleet) -> None:
    steps = _steps(_bundle(fleet, blueprint.masked))
    undone = [step for section in _undo(fleet, ()) for step in section.steps]
    for step in steps + undone:
        words = blueprint.describe(step)
        assert words
        assert "\n" not in words
        assert words[0] not in "{'\""
    for risk in blueprint.risks(steps + undone):
        assert risk.split()[0] in {"reload", "restart", "downtime", "data-loss"}
