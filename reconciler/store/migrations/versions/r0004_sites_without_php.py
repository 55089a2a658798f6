"""Lets sites be static, or a proxy to an application: kinds that need no PHP."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Widens the vocabulary of `app_type`, and lets `php_version` be absent."""
    with op.batch_alter_table("sites", recreate="always") as batch:
        batch.alter_column("php_version", existing_type=sa.Text, nullable=True)
        batch.drop_constraint("ck_sites_app_type", type_="check")
        words = "'wordpress', 'laravel', 'generic', 'static', 'proxy'"
        batch.create_check_constraint("ck_sites_app_type", f"app_type IN ({words})")
