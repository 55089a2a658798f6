"""Rollouts and other settings of the daemon: recorded by an apply, and no node learns of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reconciler.desired.fleet import Key
from reconciler.desired.kinds import Kind
from reconciler.record import inventory
from reconciler.store import open_state

from .played import SHOP, Place, build

ROLLOUT = """\
apiVersion: reconciler/v1
kind: Rollout
metadata:
  name: all
spec:
  waves:
    - {name: first, maxUnavailable: 50%}
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return build(tmp_path, monkeypatch)


def recorded(place: Place, name: str = "all") -> Any:
    with open_state(place.state) as store:
        found = store.read(inventory.recorded).resources.get(Key(Kind.ROLLOUT, name))
    return found and (found.server, found.manifest["spec"])


def test_a_rollout_is_recorded_changed_renamed_and_removed_without_a_node(place: Place) -> None:
    place.write("rollout.yaml", ROLLOUT)
    place.apply_record_only()
    server, spec = recorded(place)
    assert server is None
    assert spec["waves"] == [{"name": "first", "selector": {}, "maxUnavailable": "50%", "soak": None}]

    place.write("rollout.yaml", ROLLOUT + "  soak: 90s\n")
    place.apply_record_only()
    assert recorded(place)[1]["soak"] == "1m30s"

    renamed = ROLLOUT.replace("  name: all\n", "  name: every\n  annotations: {reconciler/moved-from: all}\n")
    place.write("rollout.yaml", renamed)
    place.apply_record_only()
    assert recorded(place) is None
    assert recorded(place, "every") is not None

    (place.fleet.folder / "rollout.yaml").unlink()
    place.apply_record_only()
    assert recorded(place, "every") is None


def test_a_rollout_stands_in_the_status_and_has_deployments(place: Place) -> None:
    place.write("rollout.yaml", ROLLOUT)
    place.apply()
    status = json.loads(place.run("status", "Rollout/all", "--output", "json").stdout)
    assert [(row["address"], row["server"], row["ready"]) for row in status] == [
        ("Rollout/all", None, "True")
    ]
    listed = json.loads(place.run("deployments", "--resource", "Rollout/all", "--output", "json").stdout)
    assert [(row["resource"], row["status"]) for row in listed] == [("Rollout/all", "success")]


def test_health_checks_and_signing_keys_are_recorded_only(place: Place) -> None:
    place.write("shop.yaml", SHOP + "  healthChecks:\n    - http: {path: /up}\n    - avc: {}\n")
    plan = json.loads(place.run("plan", "--worktree", "--output", "json").stdout)
    (change,) = [c for c in plan["resource_changes"] if c["change"]["actions"] != ["no-op"]]
    assert (change["address"], change["change"]["actions"]) == ("Site/shop", ["update"])
    place.apply_record_only()
    assert "No changes" in place.run("plan").stdout


def test_a_selector_that_selects_nothing_warns_and_stops_nothing(place: Place) -> None:
    place.write("rollout.yaml", ROLLOUT + "  selector: {stage: nowhere}\n")
    place.fleet.commit()
    said = place.run("validate", str(place.fleet.folder))
    assert "rollout.yaml:8:3: warning: the selector of this rollout selects no server" in said.output
    place.run("apply", "--yes", "--no-refresh")
    assert recorded(place) is not None
