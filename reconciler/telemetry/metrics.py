"""The daemon's metrics for Prometheus, in a registry of their own: one method for each thing the daemon tells.

Names follow https://prometheus.io/docs/practices/naming/: base units, `_total` for counters. Label values come from
closed lists (`labels`); no label names a server, a site or a database, so a fleet of any size has the same few hundred
series. docs/observability.md lists them.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from reconciler.telemetry import labels

_QUICK = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_LONG = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
_LAG = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)


class Metrics:
    """What the daemon counts and measures. Every method may be called from any thread and never raises."""

    def __init__(self, version: str = "") -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # they would double the series
        self.registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._fleets = labels.Names()
        self._channels = labels.Names()
        self._work()
        self._nodes()
        self._state()
        build = self._gauge("build_info", "Always 1; the labels say what runs.", "version", "python")
        build.labels(version, platform.python_version()).set(1)

    def render(self) -> tuple[bytes, str]:
        """All metrics in Prometheus' text form 0.0.4, and the content type of that."""
        return generate_latest(self.registry), CONTENT_TYPE_PLAIN_0_0_4

    def reconciled(self, kind: str, result: str, seconds: float) -> None:
        """A reconcile of one resource has ended with `result` (`labels.RESULTS`) after `seconds`."""
        kind = labels.word(kind, labels.KINDS)
        self._reconciles.labels(kind, labels.word(result, labels.RESULTS)).inc()
        self._reconcile_seconds.labels(kind).observe(seconds)

    def queue(self, depth: int, running: int) -> None:
        """Servers that wait for a worker, and servers that are worked on."""
        self._queue_depth.set(depth)
        self._queue_running.set(running)

    def ssh_connected(self, seconds: float) -> None:
        """A connection to a node stands, `seconds` after it was asked for."""
        self._connect_seconds.observe(seconds)

    def ssh_failed(self, reason: str) -> None:
        """A connection failed; `reason` is one of `labels.FAILURES` or the name of a fault."""
        self._connect_failures.labels(labels.failure(reason)).inc()

    def node_answered(self, op: str, seconds: float) -> None:
        """A node has answered a request (`labels.OPERATIONS`)."""
        self._answer_seconds.labels(labels.word(op, labels.OPERATIONS)).observe(seconds)

    def connected(self, server: str, seconds: float) -> None:
        """As `ssh_connected`, for a pool of nodes. The server is no label."""
        self.ssh_connected(seconds)

    def failed(self, server: str, reason_word: str) -> None:
        """As `ssh_failed`, for a pool of nodes. The server is no label."""
        self.ssh_failed(reason_word)

    def answered(self, op: str, seconds: float) -> None:
        """As `node_answered`, for a pool of nodes."""
        self.node_answered(op, seconds)

    def provisioned(self, ok: bool) -> None:  # noqa: FBT001 - the only thing to say
        """A node was enrolled, or could not be."""
        self._provisions.labels("succeeded" if ok else "failed").inc()

    def suspended(self, counts: Mapping[str, int]) -> None:
        """Suspended resources by kind; a kind that is missing has none."""
        _fill(self._suspended, labels.KINDS, counts)

    def conditions(self, counts: Mapping[str, Mapping[str, int]]) -> None:
        """Resources by condition type and status: `{"Ready": {"True": 7, "False": 1}}`; what is missing has none."""
        sums: dict[tuple[str, str], int] = {(t, s): 0 for t in labels.CONDITIONS for s in labels.STATUSES}
        for kind, by_status in counts.items():
            for status, number in by_status.items():
                key = (labels.word(kind, labels.CONDITIONS), labels.word(status, labels.STATUSES))
                sums[key] = sums.get(key, 0) + number
        for key, number in sums.items():
            self._conditions.labels(*key).set(number)

    def source(self, fleet: str, ok: bool, lag_seconds: float) -> None:  # noqa: FBT001 - reads well by name
        """A fleet's repository was asked: whether it answered, and the seconds since it last did."""
        fleet = self._fleets(fleet)
        self._source_reads.labels(fleet, "succeeded" if ok else "failed").inc()
        self._source_up.labels(fleet).set(ok)
        self._source_lag.labels(fleet).set(lag_seconds)

    def drift(self, kind: str, action: str) -> None:
        """Drift of one resource was seen, and this is done about it (`labels.DRIFT`)."""
        self._drift.labels(labels.word(kind, labels.KINDS), labels.word(action, labels.DRIFT)).inc()

    def avc(self, tclass: str, number: int = 1) -> None:
        """SELinux denials that nodes told of, by the class of the object (file, tcp_socket …)."""
        if number > 0:
            self._avc.labels(labels.word(tclass, labels.AVC)).inc(number)

    def database(self, size_bytes: int, wal_bytes: int) -> None:
        """The size of the database file and of its write-ahead log."""
        self._database_size.set(size_bytes)
        self._database_wal.set(wal_bytes)

    def alerts(self, counts: Mapping[str, int]) -> None:
        """Alerts by state; a state that is missing has none."""
        _fill(self._alerts, labels.ALERTS, counts)

    def deliveries(self, channel: str, result: str) -> None:
        """An attempt to deliver a notification has ended (`labels.DELIVERIES`)."""
        self._deliveries.labels(self._channels(channel), labels.word(result, labels.DELIVERIES)).inc()

    def webhook(self, forge: str, result: str) -> None:
        """A webhook was received (`labels.FORGES`, `labels.HOOKS`)."""
        self._webhooks.labels(labels.word(forge, labels.FORGES), labels.word(result, labels.HOOKS)).inc()

    def loop_lag(self, seconds: float) -> None:
        """How much later than asked the event loop came back to a sleeper."""
        self._loop_lag.observe(max(0.0, seconds))

    def lease(self, held: bool) -> None:  # noqa: FBT001 - the only thing to say
        """Whether this daemon holds the database's lease."""
        self._lease.set(held)

    def _work(self) -> None:
        self._reconciles = self._counter("reconciles_total", "Reconciles that ended.", "kind", "result")
        _begin(self._reconciles, labels.KINDS - {"Rollout", "Fleet"}, ("succeeded", "failed"))
        self._reconcile_seconds = self._histogram(
            "reconcile_duration_seconds", "How long reconciles of one resource took.", _LONG, "kind"
        )
        self._queue_depth = self._gauge("queue_depth", "Servers that wait for a worker.")
        self._queue_running = self._gauge("queue_running", "Servers that are worked on.")
        self._drift = self._counter("drift_total", "Drift seen, by what is done about it.", "kind", "action")
        self._suspended = self._gauge("suspended_resources", "Resources that are suspended.", "kind")
        self._conditions = self._gauge(
            "conditions", "Resources by condition and its status.", "type", "status"
        )

    def _nodes(self) -> None:
        self._connect_seconds = self._histogram(
            "ssh_connect_duration_seconds", "How long connections to nodes took to stand.", _QUICK
        )
        self._connect_failures = self._counter(
            "ssh_connect_failures_total", "Connections to nodes that failed.", "reason"
        )
        _begin(self._connect_failures, labels.FAILURES)
        self._answer_seconds = self._histogram(
            "node_answer_duration_seconds", "How long nodes took to answer a request.", _LONG, "op"
        )
        self._provisions = self._counter("provisions_total", "Nodes enrolled.", "result")
        _begin(self._provisions, ("succeeded", "failed"))
        self._avc = self._counter("avc_denials_total", "SELinux denials that nodes told of.", "class")

    def _state(self) -> None:
        self._source_up = self._gauge(
            "source_up", "Whether the fleet's repository answered when last asked.", "fleet"
        )
        self._source_lag = self._gauge(
            "source_lag_seconds", "Seconds since the fleet's repository last answered.", "fleet"
        )
        self._source_reads = self._counter(
            "source_reads_total", "Looks at the fleet's repository.", "fleet", "result"
        )
        self._database_size = self._gauge("database_size_bytes", "Size of the database file.")
        self._database_wal = self._gauge("database_wal_bytes", "Size of the database's write-ahead log.")
        self._alerts = self._gauge("alerts", "Alerts by state.", "state")
        self._deliveries = self._counter(
            "notification_deliveries_total", "Attempts to deliver a notification.", "channel", "result"
        )
        self._webhooks = self._counter("webhooks_total", "Webhooks received.", "forge", "result")
        self._loop_lag = self._histogram(
            "event_loop_lag_seconds", "How much later than asked the event loop came back.", _LAG
        )
        self._lease = self._gauge("lease_held", "Whether this daemon holds the lease of the database.")

    def _counter(self, name: str, text: str, *label_names: str) -> Counter:
        return Counter(name, text, label_names, namespace="reconciler", registry=self.registry)

    def _gauge(self, name: str, text: str, *label_names: str) -> Gauge:
        return Gauge(name, text, label_names, namespace="reconciler", registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *label_names: str) -> Histogram:
        return Histogram(
            name, text, label_names, namespace="reconciler", registry=self.registry, buckets=buckets
        )


def _fill(gauge: Gauge, known: frozenset[str], counts: Mapping[str, int]) -> None:
    sums = dict.fromkeys(known, 0)
    for given, number in counts.items():
        value = labels.word(given, known)
        sums[value] = sums.get(value, 0) + number
    for value, number in sums.items():
        gauge.labels(value).set(number)


def _begin(counter: Counter, *values: Iterable[str]) -> None:
    """Shows the series that alerts are written for from the beginning, at 0: rate() misses a first increase."""
    combined: list[tuple[str, ...]] = [()]
    for several in values:
        combined = [(*before, value) for before in combined for value in sorted(several)]
    for combination in combined:
        counter.labels(*combination)
