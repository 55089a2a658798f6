"""Adds what following audit logs needs: how often and when SELinux refused something, how far each log was read, and since when it counts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Widens the denials, each of which was one until now, and the rollouts, and creates the table of cursors."""
    with op.batch_alter_table("selinux_audit_logs", recreate="always") as batch:
        batch.add_column(sa.Column("identity", sa.Text, server_default="", nullable=False))
        batch.add_column(sa.Column("count", sa.Integer, server_default="1", nullable=False))
        batch.add_column(sa.Column("first_at", sa.Text, nullable=True))
        batch.add_column(sa.Column("last_at", sa.Text, nullable=True))
    op.execute("UPDATE selinux_audit_logs SET first_at = created_at, last_at = created_at")
    columns = ["server_id", "identity"]
    op.create_index("ix_selinux_audit_logs_server_id_identity", "selinux_audit_logs", columns, unique=False)
    op.create_index("ix_selinux_audit_logs_last_at", "selinux_audit_logs", ["last_at"], unique=False)
    with op.batch_alter_table("rollouts", recreate="always") as batch:
        batch.add_column(sa.Column("changed_at", sa.Text, nullable=True))
    op.execute("UPDATE rollouts SET changed_at = since")
    op.create_table(
        "audit_cursors",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("server_id", sa.Text, nullable=False),
        sa.Column("cursor", sa.JSON, nullable=True),
        sa.Column("log", sa.Integer, nullable=False),
        sa.Column("read_at", sa.Text, nullable=False),
        sa.ForeignKeyConstraint(
            ["server_id"], ["servers.id"], name="fk_audit_cursors_server_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_audit_cursors"),
        sa.UniqueConstraint("server_id", name="uq_audit_cursors_server_id"),
    )
    op.create_index("ix_audit_cursors_server_id", "audit_cursors", ["server_id"], unique=False)
