"""A Rollout as written in YAML, as values."""

from __future__ import annotations

import json
from datetime import time, timedelta
from zoneinfo import ZoneInfo

import pytest

from reconciler.desired.kinds.rollout import RolloutSpec as Manifest
from reconciler.errors import SettingsFault
from reconciler.loop.rollout_spec import from_manifest
from reconciler.loop.waves import Amount, RolloutSpec, WaveSpec
from reconciler.loop.windows import Window

FULL = {
    "selector": {"tier": "web"},
    "waves": [
        {"name": "canary", "selector": {"ring": "0"}, "maxUnavailable": "25%", "soak": "1h30m"},
        {"name": "gate", "maxUnavailable": 0},
    ],
    "maxUnavailable": "10%",
    "soak": "10m",
    "healthTimeout": "45s",
    "onFailure": "stop",
    "windows": [
        {
            "name": "night",
            "mode": "allow",
            "days": ["sat", "sun"],
            "start": "22:30",
            "duration": "6h",
            "timezone": "Europe/Berlin",
            "overrun": False,
        },
        {"name": "noon", "mode": "deny", "start": "12:00", "duration": "90m"},
    ],
}


def manifest(spec: object) -> Manifest:
    """Read as JSON is: arrays are tuples there."""
    return Manifest.model_validate_json(json.dumps(spec))


def test_every_field_of_a_manifest_arrives() -> None:
    spec = from_manifest(manifest(FULL), "web")
    assert spec == RolloutSpec(
        name="web",
        selector={"tier": "web"},
        waves=(
            WaveSpec("canary", {"ring": "0"}, Amount(25, percent=True), timedelta(minutes=90)),
            WaveSpec("gate", {}, Amount(0), None),
        ),
        max_unavailable=Amount(10, percent=True),
        soak=timedelta(minutes=10),
        health_timeout=timedelta(seconds=45),
        on_failure="stop",
        windows=(
            Window(
                "night",
                "allow",
                time(22, 30),
                timedelta(hours=6),
                ZoneInfo("Europe/Berlin"),
                frozenset({5, 6}),
                overrun=False,
            ),
            Window("noon", "deny", time(12), timedelta(minutes=90), ZoneInfo("UTC")),
        ),
    )


def test_the_defaults_of_the_manifest_are_those_of_the_values() -> None:
    assert from_manifest(manifest({})) == RolloutSpec()


@pytest.mark.parametrize("zone", ["Europe/Atlantis", "Europe", "localtime/x"])
def test_a_zone_that_this_machine_does_not_know_is_told_with_its_window(zone: str) -> None:
    window = {"name": "night", "mode": "allow", "start": "02:00", "duration": "1h", "timezone": zone}
    declared = manifest({"windows": [window]})
    with pytest.raises(SettingsFault, match=f"window night: this machine knows no time zone {zone}") as told:
        from_manifest(declared)
    assert "tzdata" in told.value.hint
