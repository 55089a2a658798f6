"""Adds what the daemon keeps: sources, plans, rollouts, alerts and what the loop remembers; several fleets in one database."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Widens the inventory and the revisions, then creates the new tables, parents first."""
    _inventory()
    _revisions()
    _sources()
    _plans()
    _rollouts()
    _loop_state()
    _history()
    _suspensions()
    _requests()
    _alerts()
    _deliveries()


def _inventory() -> None:
    with op.batch_alter_table("inventory", recreate="always") as batch:
        batch.add_column(sa.Column("fleet", sa.Text, server_default="main", nullable=False))
        batch.add_column(sa.Column("engine", sa.Text, server_default="", nullable=False))


def _revisions() -> None:
    with op.batch_alter_table("revisions", recreate="always") as batch:
        batch.add_column(sa.Column("fleet", sa.Text, server_default="main", nullable=False))
        batch.add_column(sa.Column("tree", sa.Text, server_default="", nullable=False))
        batch.add_column(sa.Column("reason", sa.Text, server_default="", nullable=False))
        batch.add_column(sa.Column("healthy_at", sa.Text, nullable=True))
        batch.drop_constraint("uq_revisions_commit", type_="unique")
        batch.create_unique_constraint("uq_revisions_fleet_commit", ["fleet", "commit"])


def _sources() -> None:
    op.create_table(
        "sources",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("fleet", sa.Text, nullable=False),
        sa.Column("remote", sa.Text, nullable=False),
        sa.Column("branch", sa.Text, nullable=False),
        sa.Column("seen_commit", sa.Text, nullable=True),
        sa.Column("head_commit", sa.Text, nullable=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("accept_commit", sa.Text, nullable=True),
        sa.Column("checked_at", sa.Text, nullable=True),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("updated_at", sa.Text, nullable=False),
        sa.CheckConstraint(
            "state IN ('ok', 'unreachable', 'empty', 'rewritten', 'unsigned', 'refused')",
            name="ck_sources_state",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_sources"),
        sa.UniqueConstraint("fleet", name="uq_sources_fleet"),
    )


def _plans() -> None:
    op.create_table(
        "plans",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("fleet", sa.Text, nullable=False),
        sa.Column("identity", sa.Text, nullable=False),
        sa.Column("commit", sa.Text, nullable=False),
        sa.Column("tree", sa.Text, nullable=False),
        sa.Column("base_commit", sa.Text, nullable=False),
        sa.Column("serial", sa.Integer, nullable=False),
        sa.Column("lineage", sa.Text, nullable=False),
        sa.Column("engine", sa.Text, nullable=False),
        sa.Column("document", sa.JSON, nullable=False),
        sa.Column("summary", sa.JSON, nullable=False),
        sa.Column("findings", sa.JSON, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("approved", sa.JSON, nullable=False),
        sa.Column("approved_by", sa.Text, nullable=True),
        sa.Column("approved_at", sa.Text, nullable=True),
        sa.Column("reviewed_by", sa.Text, nullable=True),
        sa.Column("reviewed_at", sa.Text, nullable=True),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("updated_at", sa.Text, nullable=False),
        sa.CheckConstraint(
            "status IN ('planned', 'reviewed', 'waiting', 'approved', 'applied', 'diverged', 'superseded')",
            name="ck_plans_status",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_plans"),
        sa.UniqueConstraint("fleet", "identity", name="uq_plans_fleet_identity"),
    )
    op.create_index("ix_plans_commit", "plans", ["commit"], unique=False)
    op.create_index("ix_plans_tree", "plans", ["tree"], unique=False)


def _rollouts() -> None:
    op.create_table(
        "rollouts",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("fleet", sa.Text, nullable=False),
        sa.Column("commit", sa.Text, nullable=False),
        sa.Column("server", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("failing_before", sa.JSON, nullable=False),
        sa.Column("since", sa.Text, nullable=False),
        sa.CheckConstraint(
            "state IN ('pending', 'applying', 'soaking', 'healthy', 'failed')", name="ck_rollouts_state"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_rollouts"),
        sa.UniqueConstraint("fleet", "commit", "server", name="uq_rollouts_fleet_commit_server"),
    )


def _loop_state() -> None:
    op.create_table(
        "loop_state",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("failures", sa.Integer, server_default="0", nullable=False),
        sa.Column("retry_at", sa.Text, nullable=True),
        sa.Column("checked_at", sa.Text, nullable=True),
        sa.Column("heals", sa.JSON, nullable=False),
        sa.Column("breaker_until", sa.Text, nullable=True),
        sa.Column("breaker_opened", sa.Integer, server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_loop_state"),
        sa.UniqueConstraint("kind", "name", name="uq_loop_state_kind_name"),
    )


def _history() -> None:
    op.create_table(
        "history",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("revision", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("first_at", sa.Text, nullable=False),
        sa.Column("last_at", sa.Text, nullable=False),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.Column("times", sa.Integer, server_default="1", nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_history"),
    )
    op.create_index("ix_history_kind_name", "history", ["kind", "name"], unique=False)


def _suspensions() -> None:
    op.create_table(
        "suspensions",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("expires_at", sa.Text, nullable=True),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("updated_at", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_suspensions"),
        sa.UniqueConstraint("kind", "name", name="uq_suspensions_kind_name"),
    )


def _requests() -> None:
    op.create_table(
        "requests",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("verb", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("args", sa.JSON, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=True),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("done_at", sa.Text, nullable=True),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("updated_at", sa.Text, nullable=False),
        sa.CheckConstraint("outcome IN ('done', 'refused')", name="ck_requests_outcome"),
        sa.CheckConstraint("verb IN ('reconcile', 'cancel', 'heal', 'reload')", name="ck_requests_verb"),
        sa.PrimaryKeyConstraint("id", name="pk_requests"),
    )
    op.create_index("ix_requests_done_at", "requests", ["done_at"], unique=False)


def _alerts() -> None:
    op.create_table(
        "alerts",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("severity", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("first_at", sa.Text, nullable=False),
        sa.Column("last_at", sa.Text, nullable=False),
        sa.Column("notified_at", sa.Text, nullable=True),
        sa.Column("resolved_at", sa.Text, nullable=True),
        sa.CheckConstraint("severity IN ('info', 'warning', 'error')", name="ck_alerts_severity"),
        sa.CheckConstraint("state IN ('new', 'ongoing', 'resolved')", name="ck_alerts_state"),
        sa.PrimaryKeyConstraint("id", name="pk_alerts"),
    )
    op.create_index("ix_alerts_kind_name_type", "alerts", ["kind", "name", "type"], unique=False)
    op.create_index("ix_alerts_state", "alerts", ["state"], unique=False)


def _deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("alert_id", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("payload", sa.JSON, nullable=False),
        sa.Column("attempts", sa.Integer, server_default="0", nullable=False),
        sa.Column("next_at", sa.Text, nullable=False),
        sa.Column("delivered_at", sa.Text, nullable=True),
        sa.Column("given_up_at", sa.Text, nullable=True),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("updated_at", sa.Text, nullable=False),
        sa.CheckConstraint("event IN ('firing', 'reminder', 'resolved')", name="ck_deliveries_event"),
        sa.ForeignKeyConstraint(
            ["alert_id"], ["alerts.id"], name="fk_deliveries_alert_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_deliveries"),
    )
    op.create_index("ix_deliveries_alert_id", "deliveries", ["alert_id"], unique=False)
    op.create_index("ix_deliveries_next_at", "deliveries", ["next_at"], unique=False)
