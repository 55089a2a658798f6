"""Lets a database have a new password beside the one that its node has, until the node has the new one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Adds `pending_password`, sealed like `password`; none is pending at first."""
    with op.batch_alter_table("databases", recreate="always") as batch:
        batch.add_column(sa.Column("pending_password", sa.Text, nullable=True))
