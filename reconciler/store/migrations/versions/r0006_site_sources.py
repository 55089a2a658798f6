"""Adds what sites that are deployed from git need: where their repositories stand, and which commit a deployment was for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Creates the table of sources and widens the deployments."""
    op.create_table(
        "site_sources",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("site", sa.Text, nullable=False),
        sa.Column("wish", sa.Text, nullable=False),
        sa.Column("commit_hash", sa.Text, nullable=True),
        sa.Column("archive", sa.Text, nullable=True),
        sa.Column("size", sa.Integer, nullable=True),
        sa.Column("fault", sa.Text, server_default="", nullable=False),
        sa.Column("held", sa.JSON, nullable=True),
        sa.Column("checked_at", sa.Text, nullable=True),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("updated_at", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_site_sources"),
        sa.UniqueConstraint("site", name="uq_site_sources_site"),
    )
    with op.batch_alter_table("deployments", recreate="always") as batch:
        batch.add_column(sa.Column("source_branch", sa.Text, nullable=True), insert_after="commit_hash")
        batch.add_column(sa.Column("source_commit", sa.Text, nullable=True), insert_after="source_branch")
