"""The closed vocabularies of the database; each is a CHECK constraint and a type."""

from __future__ import annotations

from typing import Literal

OsVersion = Literal[
    "alma_8", "alma_9", "alma_10", "rocky_8", "rocky_9", "rocky_10", "debian_12", "debian_13"
]  # fmt: skip
ServerStatus = Literal["provisioning", "active", "error"]
WebServer = Literal["nginx", "caddy"]
AppType = Literal["wordpress", "laravel", "generic", "static", "proxy"]
SiteStatus = Literal["creating", "active", "suspended", "error"]
DatabaseType = Literal["mariadb", "postgresql"]
DatabaseStatus = Literal["creating", "active", "retained", "error"]
TriggeredVia = Literal["ui", "webhook", "cli", "push", "poll", "schedule", "callback", "drift", "retry"]
DeploymentStatus = Literal["pending", "running", "success", "failed"]
SoftwareType = Literal["php", "nginx", "caddy", "mariadb", "postgresql", "redis", "valkey"]
SoftwareAction = Literal["install", "uninstall", "upgrade"]
SoftwareStatus = Literal["pending", "installing", "installed", "failed", "removed"]
LogLevel = Literal["info", "warning", "error"]
Role = Literal["admin", "operator", "viewer"]
ConditionStatus = Literal["True", "False", "Unknown"]
RevisionStatus = Literal["accepted", "applying", "applied", "failed", "quarantined", "superseded"]
SourceState = Literal["ok", "unreachable", "empty", "rewritten", "unsigned", "refused"]
PlanStatus = Literal["planned", "reviewed", "waiting", "approved", "applied", "diverged", "superseded"]
RolloutState = Literal["pending", "applying", "soaking", "healthy", "failed"]
RequestVerb = Literal["reconcile", "cancel", "heal", "reload"]
AlertState = Literal["new", "ongoing", "resolved"]
AlertSeverity = Literal["info", "warning", "error"]
AlertEvent = Literal["firing", "reminder", "resolved"]
EventType = Literal["Normal", "Warning"]
TokenKind = Literal["api", "setup", "callback", "webhook"]
