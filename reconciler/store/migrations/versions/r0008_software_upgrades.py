"""Lets a record of an upgrade say which packages it is of, and from which versions to which."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Adds `packages`, which installations and removals have none of."""
    with op.batch_alter_table("software_installations", recreate="always") as batch:
        batch.add_column(sa.Column("packages", sa.JSON, nullable=True))
