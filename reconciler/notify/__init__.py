"""Tells people what needs them: alerts kept as states, deliveries kept until they are through, four kinds of channels."""

from __future__ import annotations

from reconciler.notify.alerts import SETTLE, Alert, observe
from reconciler.notify.notifier import Notifier
from reconciler.notify.outbox import Timing
from reconciler.notify.settings import (
    ALERT_TYPES,
    AlertType,
    Channel,
    MailChannel,
    MatrixChannel,
    SlackChannel,
    WebhookChannel,
)

__all__ = [
    "ALERT_TYPES",
    "SETTLE",
    "Alert",
    "AlertType",
    "Channel",
    "MailChannel",
    "MatrixChannel",
    "Notifier",
    "SlackChannel",
    "Timing",
    "WebhookChannel",
    "observe",
]
