"""The simulated soak for half an hour: whatever went wrong, in the end nothing is stuck. `python -m bench.soak` goes on for longer."""

from __future__ import annotations

from bench.soak_simulated import Settings, soak


def test_half_an_hour_of_faults_leaves_nothing_stuck() -> None:
    pace = {"push": 60.0, "fault": 75.0, "drift": 90.0, "operator": 120.0, "restart": 400.0, "source": 500.0}
    report = soak(Settings(1800.0, seed=7, servers=3, sites=2, pace=pace))
    assert report.stuck == [], report.text()
    for what in ("push", "fault", "drift", "operator", "restart"):
        assert report.happened[what], report.text()
    assert report.happened["deployments corrective"], "drift was repaired by itself"
    assert report.ratio("tasks") < 1.5
    assert report.ratio("objects") < 1.25
