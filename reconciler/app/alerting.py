"""What is wrong now, from the conditions: what notifications are about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from reconciler.loop.memory import open_breakers
from reconciler.notify.alerts import Alert
from reconciler.store import Tx
from reconciler.store.queries import (
    alerts,
    conditions,
    deployments,
    events,
    selinux_audit_logs,
    server_logs,
    sources,
    suspensions,
)
from reconciler.store.queries.conditions import Condition
from reconciler.store.words import AlertSeverity

_HELD = {"NeedsApproval": "NeedsApproval", "PlanDiverged": "NeedsApproval", "Quarantined": "Quarantined"}
_FLEET = "Fleet"
KEPT = timedelta(days=90)
"""How long events, server logs and denials are kept."""


def firing(tx: Tx) -> list[Alert]:
    """Every alert that stands at this moment."""
    found = [alert for condition in conditions.listed(tx) if (alert := _of(condition)) is not None]
    for kind, name, until in open_breakers(tx):
        said = f"it drifts again and again; repairs pause until {until:%Y-%m-%d %H:%M} UTC"
        found.append(Alert(kind, name, "BreakerOpen", "warning", "BreakerOpen", said))
    return found


@dataclass(frozen=True)
class Figures:
    """Numbers for the metrics: conditions by type and status, suspensions by kind, alerts by state."""

    conditions: Mapping[str, Mapping[str, int]]
    suspended: Mapping[str, int]
    alerts: Mapping[str, int]


def figures(tx: Tx) -> Figures:
    """How many of everything there are now."""
    by_type: dict[str, Counter[str]] = {}
    for condition in conditions.listed(tx):
        if condition.kind != _FLEET:
            by_type.setdefault(condition.type, Counter())[condition.status] += 1
    suspended = Counter(one.kind for one in suspensions.listed(tx))
    return Figures(by_type, suspended, Counter(one.state for one in alerts.current(tx, tx.now)))


def prune(tx: Tx, served: frozenset[str]) -> None:
    """Forget what nobody looks at any more: events, logs, alerts and output of long ago, and fleets that are not served."""
    before = tx.now - KEPT
    events.prune(tx, before)
    server_logs.prune(tx, before)
    selinux_audit_logs.prune(tx, before)
    alerts.prune(tx, before)
    deployments.drop_output(tx, before)
    for source in sources.listed(tx):
        if source.fleet not in served:
            conditions.forget(tx, _FLEET, source.fleet)
            sources.forget(tx, source.fleet)


def _of(condition: Condition) -> Alert | None:
    kind, name, message = condition.kind, condition.name, condition.message
    match condition.type, condition.status:
        case "Stalled", "True":
            # a resource that waits for the approval of its fleet's plan is told with the fleet
            if condition.reason in _HELD and kind != _FLEET:
                return None
            if condition.reason in ("NeedsApproval", "PlanDiverged"):
                return Alert(kind, name, "NeedsApproval", "warning", condition.reason, message)
            if condition.reason == "Quarantined":
                return Alert(kind, name, "Quarantined", "error", condition.reason, message)
            return Alert(kind, name, "Stalled", "error", condition.reason, message)
        case "SourceReady", "False":
            return Alert(kind, name, "SourceFailed", "error", condition.reason, message)
        case "Reachable", "False":
            return Alert(kind, name, "NotReady", "error", condition.reason, message)
        case "Ready", "False" if kind != _FLEET:
            return Alert(kind, name, "NotReady", "error", condition.reason, message)
        case "Drifted", "True":
            return Alert(kind, name, "Drifted", "warning", condition.reason, message)
        case "CertificateValid", "False":
            severity: AlertSeverity = "error" if condition.reason == "Expired" else "warning"
            return Alert(kind, name, "CertificateEnds", severity, condition.reason, message)
        case _:
            return None
