"""The tables of GitOps: what was applied, from which revision, how it stands, and who did what."""

from __future__ import annotations

import sqlalchemy as sa

from reconciler.store import words
from reconciler.store.columns import instant, json, key, metadata, number, one_of, ref, stamps, text

inventory = sa.Table(
    "inventory",
    metadata,
    key(),
    text("kind"),
    text("name"),
    text("server", null=True),
    json("spec"),
    text("digest"),
    json("steps"),
    text("revision"),
    text("path"),
    number("line"),
    json("identity"),
    instant("applied_at"),
    text("fleet", default="main"),
    text("engine", default=""),
    sa.UniqueConstraint("kind", "name"),
)

conditions = sa.Table(
    "conditions",
    metadata,
    key(),
    text("kind"),
    text("name"),
    text("type"),
    text("status"),
    text("reason"),
    text("message"),
    text("observed_revision", null=True),
    instant("last_transition_at"),
    one_of("status", words.ConditionStatus),
    sa.UniqueConstraint("kind", "name", "type"),
)

revisions = sa.Table(
    "revisions",
    metadata,
    key(),
    text("commit"),
    text("author_name"),
    text("author_email"),
    text("message"),
    instant("accepted_at"),
    text("status", default="accepted"),
    text("fleet", default="main"),
    text("tree", default=""),
    text("reason", default=""),
    instant("healthy_at", null=True),
    one_of("status", words.RevisionStatus),
    sa.UniqueConstraint("fleet", "commit"),
)

meta = sa.Table("meta", metadata, sa.Column("key", sa.Text, primary_key=True), text("value"))

leases = sa.Table(
    "leases",
    metadata,
    key(),
    text("name", unique=True),
    text("owner"),
    number("fence"),
    instant("expires_at"),
)

events = sa.Table(
    "events",
    metadata,
    key(),
    instant("at"),
    text("kind"),
    text("name"),
    text("type"),
    text("reason"),
    text("message"),
    ref("deployment_id", "deployments", "SET NULL", null=True),
    one_of("type", words.EventType),
)
sa.Index(None, events.c.kind, events.c.name)

tokens = sa.Table(
    "tokens",
    metadata,
    key(),
    text("kind"),
    text("name"),
    ref("user_id", "users", "CASCADE", null=True),
    ref("server_id", "servers", "CASCADE", null=True),
    text("digest", unique=True),  # sha256 of the token, which is not kept
    instant("expires_at", null=True),
    instant("used_at", null=True),
    text("used_from", null=True),
    *stamps(),
    one_of("kind", words.TokenKind),
)

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("seq", sa.Integer, primary_key=True),
    instant("at"),
    text("actor"),
    text("action"),
    text("subject"),
    json("detail", null=True),
    text("prev_hash", unique=True),  # two entries cannot follow the same one
    text("hash", unique=True),
)

AUDIT_TRIGGERS = tuple(
    f"CREATE TRIGGER audit_no_{verb.lower()} BEFORE {verb} ON audit "
    "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
    for verb in ("UPDATE", "DELETE")
)
for _trigger in AUDIT_TRIGGERS:
    sa.event.listen(audit, "after_create", sa.DDL(_trigger))  # type: ignore[no-untyped-call]
