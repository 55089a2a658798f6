"""Metrics: what each call shows, names as Prometheus recommends them, and a bounded number of series."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from reconciler import errors
from reconciler.converge.session import WrongPlatform
from reconciler.loop.ports import Meter
from reconciler.nodes.observing import Observer
from reconciler.telemetry import labels
from reconciler.telemetry.metrics import Metrics


def shown(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    body, _ = metrics.render()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **wanted: str) -> float:
    return shown(metrics)[f"reconciler_{name}", frozenset(wanted.items())]


def busy(metrics: Metrics) -> None:
    """Call everything once."""
    metrics.reconciled("Site", "succeeded", 1.5)
    metrics.queue(3, 2)
    metrics.ssh_connected(0.2)
    metrics.ssh_failed("unreachable")
    metrics.node_answered("check", 0.01)
    metrics.provisioned(ok=True)
    metrics.suspended({"Site": 2})
    metrics.conditions({"Ready": {"True": 7, "False": 1}})
    metrics.source("main", True, 4.5)
    metrics.drift("Site", "heal")
    metrics.avc("file", 3)
    metrics.database(4096, 512)
    metrics.alerts({"ongoing": 1})
    metrics.deliveries("ops", "delivered")
    metrics.webhook("github", "accepted")
    metrics.loop_lag(0.002)
    metrics.lease(held=True)


def test_each_call_is_shown() -> None:
    metrics = Metrics("1.2.3")
    busy(metrics)
    assert value(metrics, "reconciles_total", kind="Site", result="succeeded") == 1
    assert value(metrics, "reconcile_duration_seconds_sum", kind="Site") == 1.5
    assert (value(metrics, "queue_depth"), value(metrics, "queue_running")) == (3, 2)
    assert value(metrics, "ssh_connect_duration_seconds_count") == 1
    assert value(metrics, "ssh_connect_failures_total", reason="unreachable") == 1
    assert value(metrics, "node_answer_duration_seconds_count", op="check") == 1
    assert value(metrics, "provisions_total", result="succeeded") == 1
    assert value(metrics, "suspended_resources", kind="Site") == 2
    assert value(metrics, "conditions", type="Ready", status="True") == 7
    assert value(metrics, "source_up", fleet="main") == 1
    assert value(metrics, "source_lag_seconds", fleet="main") == 4.5
    assert value(metrics, "source_reads_total", fleet="main", result="succeeded") == 1
    assert value(metrics, "drift_total", kind="Site", action="heal") == 1
    assert value(metrics, "avc_denials_total", **{"class": "file"}) == 3
    assert (value(metrics, "database_size_bytes"), value(metrics, "database_wal_bytes")) == (4096, 512)
    assert value(metrics, "alerts", state="ongoing") == 1
    assert value(metrics, "notification_deliveries_total", channel="ops", result="delivered") == 1
    assert value(metrics, "webhooks_total", forge="github", result="accepted") == 1
    assert value(metrics, "event_loop_lag_seconds_count") == 1
    assert value(metrics, "lease_held") == 1
    (build,) = [dict(key[1]) for key in shown(metrics) if key[0] == "reconciler_build_info"]
    assert build["version"] == "1.2.3"


def test_a_pool_and_the_loop_may_tell_it() -> None:
    metrics = Metrics()
    told: tuple[Observer, Meter] = (metrics, metrics)
    assert told
    metrics.connected("web1", 0.3)
    metrics.failed("web1", "host_key_mismatch")
    metrics.answered("apply", 20.0)
    assert value(metrics, "ssh_connect_duration_seconds_sum") == 0.3
    assert value(metrics, "ssh_connect_failures_total", reason="host_key_mismatch") == 1
    assert value(metrics, "node_answer_duration_seconds_sum", op="apply") == 20.0
    assert b"web1" not in metrics.render()[0]


def test_counts_that_are_no_longer_told_become_zero() -> None:
    metrics = Metrics()
    busy(metrics)
    metrics.suspended({"Server": 1})
    metrics.conditions({"Drifted": {"True": 1}})
    metrics.alerts({})
    assert value(metrics, "suspended_resources", kind="Site") == 0
    assert value(metrics, "conditions", type="Ready", status="True") == 0
    assert value(metrics, "alerts", state="ongoing") == 0


def test_words_that_nobody_foresaw_become_other_and_add_no_series() -> None:
    metrics = Metrics()

    def strange(number: int) -> None:
        word = f"word-{number}"
        metrics.reconciled(word, word, 1)
        metrics.ssh_failed(word)
        metrics.node_answered(word, 1)
        metrics.suspended({word: 1, f"{word}-2": 2})
        metrics.conditions({word: {word: 1}, f"{word}-2": {word: 1}})
        metrics.drift(word, word)
        metrics.avc(word)
        metrics.alerts({word: 1})
        metrics.webhook(word, word)
        for several in range(40):
            metrics.source(f"fleet-{several}-{number}", True, 1)
            metrics.deliveries(f"channel-{several}-{number}", word)

    busy(metrics)
    strange(1)
    before = len(shown(metrics))
    for number in range(2, 20):
        strange(number)
    assert len(shown(metrics)) == before
    assert before < 700
    assert value(metrics, "reconciles_total", kind="other", result="other") == 19
    assert value(metrics, "suspended_resources", kind="other") == 3
    assert value(metrics, "conditions", type="other", status="other") == 2


def test_names_that_are_no_names_are_no_labels() -> None:
    names = labels.Names()
    assert names("main") == "main"
    assert names('x"} 1\nfake') == "other"
    assert names("x" * 100) == "other"


def test_names_follow_the_recommendations() -> None:
    metrics = Metrics()
    busy(metrics)
    body, kind = metrics.render()
    assert kind == "text/plain; version=0.0.4; charset=utf-8"
    text = body.decode()
    for name, form in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE):
        assert name.startswith(("reconciler_", "process_", "python_gc_")), name
        assert name.endswith("_total") == (form == "counter"), name
        if form == "histogram":
            assert name.endswith("_seconds"), name
        assert not name.endswith("_created")
    helped = set(re.findall(r"^# HELP (\S+) \S", text, re.MULTILINE))
    assert helped == set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))


def test_every_metric_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs/observability.md").read_text()
    documented = set(re.findall(r"`([a-z_]+)`", page))
    names = re.findall(r"^# TYPE reconciler_(\S+)", Metrics().render()[0].decode(), re.MULTILINE)
    assert set(names) <= documented
    for words in (labels.RESULTS, labels.DRIFT, labels.HOOKS, labels.DELIVERIES):
        assert all(word in page for word in words), words


def test_two_sets_of_metrics_do_not_meet() -> None:
    first, second = Metrics(), Metrics()
    first.provisioned(ok=True)
    assert value(second, "provisions_total", result="succeeded") == 0


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("unreachable", "unreachable"),
        ("NodeUnreachable", "unreachable"),
        ("HostKeyMismatch", "host_key_mismatch"),
        ("host-key-mismatch", "host_key_mismatch"),
        ("AgentFault", "agent"),
        ("what is this", "other"),
        ("", "other"),
    ],
)
def test_a_failure_is_known_by_its_word_and_by_its_fault(reason: str, word: str) -> None:
    assert labels.failure(reason) == word


def test_every_fault_of_a_node_has_a_word() -> None:
    for fault in {*errors.NodeFault.__subclasses__(), WrongPlatform}:
        assert labels.failure(fault.__name__) != "other", fault.__name__
