"""Adds to software records which version the node has and why the last attempt failed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Both are unknown of what was installed before."""
    with op.batch_alter_table("software_installations", recreate="always") as batch:
        batch.add_column(sa.Column("installed_version", sa.Text, nullable=True))
        batch.add_column(sa.Column("reason", sa.Text, nullable=True))
