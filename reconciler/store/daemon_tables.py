"""The tables of the daemon: sources, plans, rollouts, what the loop remembers, what operators asked, alerts."""

from __future__ import annotations

import sqlalchemy as sa

from reconciler.store import words
from reconciler.store.columns import instant, json, key, metadata, number, one_of, ref, stamps, text

sources = sa.Table(
    "sources",
    metadata,
    key(),
    text("fleet", unique=True),
    text("remote"),
    text("branch"),
    text("seen_commit", null=True),
    text("head_commit", null=True),
    text("state"),
    text("message"),
    text("accept_commit", null=True),
    instant("checked_at", null=True),
    *stamps(),
    one_of("state", words.SourceState),
)

site_sources = sa.Table(
    "site_sources",
    metadata,
    key(),
    text("site", unique=True),
    text("wish"),
    text("commit_hash", null=True),
    text("archive", null=True),
    number("size", null=True),
    text("fault", default=""),
    json("held", null=True),
    instant("checked_at", null=True),
    *stamps(),
)
"""What the repository of a site's application stands at, by the manifest's name: the site may not be there yet."""

plans = sa.Table(
    "plans",
    metadata,
    key(),
    text("fleet"),
    text("identity"),
    text("commit"),
    text("tree"),
    text("base_commit"),
    number("serial"),
    text("lineage"),
    text("engine"),
    json("document"),
    json("summary"),
    json("findings"),
    text("status"),
    json("approved"),
    text("approved_by", null=True),
    instant("approved_at", null=True),
    text("reviewed_by", null=True),
    instant("reviewed_at", null=True),
    *stamps(),
    one_of("status", words.PlanStatus),
    sa.UniqueConstraint("fleet", "identity"),
)
sa.Index(None, plans.c.commit)
sa.Index(None, plans.c.tree)

rollouts = sa.Table(
    "rollouts",
    metadata,
    key(),
    text("fleet"),
    text("commit"),
    text("server"),
    text("state"),
    text("message"),
    json("failing_before"),
    instant("since"),
    instant("changed_at", null=True),
    one_of("state", words.RolloutState),
    sa.UniqueConstraint("fleet", "commit", "server"),
)

loop_state = sa.Table(
    "loop_state",
    metadata,
    key(),
    text("kind"),
    text("name"),
    number("failures", default=0),
    instant("retry_at", null=True),
    instant("checked_at", null=True),
    json("heals"),
    instant("breaker_until", null=True),
    number("breaker_opened", default=0),
    sa.UniqueConstraint("kind", "name"),
)

history = sa.Table(
    "history",
    metadata,
    key(),
    text("kind"),
    text("name"),
    text("revision"),
    text("digest"),
    text("status"),
    text("message"),
    instant("first_at"),
    instant("last_at"),
    sa.Column("seconds", sa.Float, nullable=False),
    number("times", default=1),
)
sa.Index(None, history.c.kind, history.c.name)

suspensions = sa.Table(
    "suspensions",
    metadata,
    key(),
    text("kind"),
    text("name"),
    text("reason"),
    text("owner"),
    instant("expires_at", null=True),
    *stamps(),
    sa.UniqueConstraint("kind", "name"),
)

requests = sa.Table(
    "requests",
    metadata,
    key(),
    text("verb"),
    text("subject"),
    json("args"),
    text("actor"),
    text("outcome", null=True),
    text("message"),
    instant("done_at", null=True),
    *stamps(),
    one_of("verb", words.RequestVerb),
    sa.CheckConstraint("outcome IN ('done', 'refused')", name="outcome"),
)
sa.Index(None, requests.c.done_at)

alerts = sa.Table(
    "alerts",
    metadata,
    key(),
    text("kind"),
    text("name"),
    text("type"),
    text("state"),
    text("severity"),
    text("reason"),
    text("message"),
    instant("first_at"),
    instant("last_at"),
    instant("notified_at", null=True),
    instant("resolved_at", null=True),
    one_of("state", words.AlertState),
    one_of("severity", words.AlertSeverity),
)
sa.Index(None, alerts.c.kind, alerts.c.name, alerts.c.type)
sa.Index(None, alerts.c.state)

deliveries = sa.Table(
    "deliveries",
    metadata,
    key(),
    ref("alert_id", "alerts", "CASCADE"),
    text("channel"),
    text("event"),
    json("payload"),
    number("attempts", default=0),
    instant("next_at"),
    instant("delivered_at", null=True),
    instant("given_up_at", null=True),
    text("error"),
    *stamps(),
    one_of("event", words.AlertEvent),
)
sa.Index(None, deliveries.c.next_at)

audit_cursors = sa.Table(
    "audit_cursors",
    metadata,
    key(),
    ref("server_id", "servers", "CASCADE"),
    json("cursor", null=True),
    number("log"),
    instant("read_at"),
    sa.UniqueConstraint("server_id"),
)
