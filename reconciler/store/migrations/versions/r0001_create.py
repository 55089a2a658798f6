"""Creates the schema: the ten tables of hosting and the ledger of GitOps."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Creates every table, parents first."""
    _audit()
    _conditions()
    _inventory()
    _leases()
    _meta()
    _revisions()
    _ssh_keys()
    _users()
    _servers()
    _user_preferences()
    _server_logs()
    _sites()
    _software_installations()
    _tokens()
    _databases()
    _deployments()
    _selinux_audit_logs()
    _events()


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("at", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("detail", sa.JSON, nullable=True),
        sa.Column("prev_hash", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_audit"),
        sa.UniqueConstraint("hash", name="uq_audit_hash"),
        sa.UniqueConstraint("prev_hash", name="uq_audit_prev_hash"),
    )
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER audit_no_{verb.lower()} BEFORE {verb} ON audit "
            "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
        )


def _conditions() -> None:
    op.create_table(
        "conditions",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("observed_revision", sa.Text, nullable=True),
        sa.Column("last_transition_at", sa.Text, nullable=False),
        sa.CheckConstraint("status IN ('True', 'False', 'Unknown')", name="ck_conditions_status"),
        sa.PrimaryKeyConstraint("id", name="pk_conditions"),
        sa.UniqueConstraint("kind", "name", "type", name="uq_conditions_kind_name_type"),
    )


def _inventory() -> None:
    op.create_table(
        "inventory",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("server", sa.Text, nullable=True),
        sa.Column("spec", sa.JSON, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("steps", sa.JSON, nullable=False),
        sa.Column("revision", sa.Text, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("line", sa.Integer, nullable=False),
        sa.Column("identity", sa.JSON, nullable=False),
        sa.Column("applied_at", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_inventory"),
        sa.UniqueConstraint("kind", "name", name="uq_inventory_kind_name"),
    )


def _leases() -> None:
    op.create_table(
        "leases",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("fence", sa.Integer, nullable=False),
        sa.Column("expires_at", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_leases"),
        sa.UniqueConstraint("name", name="uq_leases_name"),
    )


def _meta() -> None:
    op.create_table(
        "meta",
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_meta"),
    )


def _revisions() -> None:
    op.create_table(
        "revisions",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("commit", sa.Text, nullable=False),
        sa.Column("author_name", sa.Text, nullable=False),
        sa.Column("author_email", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("accepted_at", sa.Text, nullable=False),
        sa.Column("status", sa.Text, server_default="accepted", nullable=False),
        sa.CheckConstraint(
            "status IN ('accepted', 'applying', 'applied', 'failed', 'quarantined', 'superseded')",
            name="ck_revisions_status",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_revisions"),
        sa.UniqueConstraint("commit", name="uq_revisions_commit"),
    )


def _ssh_keys() -> None:
    op.create_table(
        "ssh_keys",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("public_key", sa.Text, nullable=False),
        sa.Column("private_key", sa.Text, nullable=True),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("updated_at", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_ssh_keys"),
        sa.UniqueConstraint("fingerprint", name="uq_ssh_keys_fingerprint"),
        sa.UniqueConstraint("name", name="uq_ssh_keys_name"),
    )


def _users() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("email", sa.Text, nullable=False),
        sa.Column("password", sa.Text, nullable=True),
        sa.Column("role", sa.Text, server_default="viewer", nullable=False),
        sa.Column("signing_keys", sa.JSON, nullable=True),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("updated_at", sa.Text, nullable=False),
        sa.CheckConstraint("role IN ('admin', 'operator', 'viewer')", name="ck_users_role"),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("email", name="uq_users_email"),
    )


def _servers() -> None:
    op.create_table(
        "servers",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("ip_address", sa.Text, nullable=False),
        sa.Column("port", sa.Integer, server_default="22", nullable=False),
        sa.Column("hostname", sa.Text, nullable=False),
        sa.Column("os_version", sa.Text, nullable=False),
        sa.Column("ssh_key_id", sa.Text, nullable=True),
        sa.Column("status", sa.Text, server_default="provisioning", nullable=False),
        sa.Column("setup_token", sa.Text, nullable=True),
        sa.Column("web_server", sa.Text, nullable=False),
        sa.Column("database_engines", sa.JSON, nullable=True),
        sa.Column("software", sa.JSON, nullable=True),
        sa.Column("host_keys", sa.JSON, nullable=True),
        sa.Column("agent_digest", sa.Text, nullable=True),
        sa.Column("fence", sa.Integer, server_default="0", nullable=False),
        sa.Column("next_site_number", sa.Integer, server_default="1", nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("updated_at", sa.Text, nullable=False),
        sa.CheckConstraint(
            "os_version IN ('alma_8', 'alma_9', 'alma_10', 'rocky_8', 'rocky_9', 'rocky_10', 'debian_12', 'debian_13')",
            name="ck_servers_os_version",
        ),
        sa.CheckConstraint("status IN ('provisioning', 'active', 'error')", name="ck_servers_status"),
        sa.CheckConstraint("web_server IN ('nginx', 'caddy')", name="ck_servers_web_server"),
        sa.CheckConstraint("port BETWEEN 1 AND 65535", name="ck_servers_port"),
        sa.ForeignKeyConstraint(
            ["ssh_key_id"], ["ssh_keys.id"], name="fk_servers_ssh_key_id", ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_servers"),
        sa.UniqueConstraint("ip_address", name="uq_servers_ip_address"),
        sa.UniqueConstraint("name", name="uq_servers_name"),
    )
    op.create_index("ix_servers_ssh_key_id", "servers", ["ssh_key_id"])


def _user_preferences() -> None:
    op.create_table(
        "user_preferences",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("value", sa.JSON, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("updated_at", sa.Text, nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_user_preferences_user_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_user_preferences"),
        sa.UniqueConstraint("user_id", "key", name="uq_user_preferences_user_id_key"),
    )
    op.create_index("ix_user_preferences_user_id", "user_preferences", ["user_id"])


def _server_logs() -> None:
    op.create_table(
        "server_logs",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("server_id", sa.Text, nullable=False),
        sa.Column("level", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("context", sa.JSON, nullable=True),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.CheckConstraint("level IN ('info', 'warning', 'error')", name="ck_server_logs_level"),
        sa.ForeignKeyConstraint(
            ["server_id"], ["servers.id"], name="fk_server_logs_server_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_server_logs"),
    )
    op.create_index("ix_server_logs_server_id", "server_logs", ["server_id"])


def _sites() -> None:
    op.create_table(
        "sites",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("server_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("domain", sa.Text, nullable=False),
        sa.Column("document_root", sa.Text, nullable=False),
        sa.Column("system_user", sa.Text, nullable=False),
        sa.Column("php_version", sa.Text, nullable=False),
        sa.Column("app_type", sa.Text, nullable=False),
        sa.Column("status", sa.Text, server_default="creating", nullable=False),
        sa.Column("mcs_id", sa.Integer, nullable=True),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("updated_at", sa.Text, nullable=False),
        sa.CheckConstraint("app_type IN ('wordpress', 'laravel', 'generic')", name="ck_sites_app_type"),
        sa.CheckConstraint("status IN ('creating', 'active', 'suspended', 'error')", name="ck_sites_status"),
        sa.ForeignKeyConstraint(["server_id"], ["servers.id"], name="fk_sites_server_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_sites"),
        sa.UniqueConstraint("domain", name="uq_sites_domain"),
        sa.UniqueConstraint("name", name="uq_sites_name"),
        sa.UniqueConstraint("server_id", "mcs_id", name="uq_sites_server_id_mcs_id"),
        sa.UniqueConstraint("server_id", "system_user", name="uq_sites_server_id_system_user"),
    )
    op.create_index("ix_sites_server_id", "sites", ["server_id"])


def _software_installations() -> None:
    op.create_table(
        "software_installations",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("server_id", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("status", sa.Text, server_default="pending", nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("updated_at", sa.Text, nullable=False),
        sa.CheckConstraint(
            "action IN ('install', 'uninstall', 'upgrade')", name="ck_software_installations_action"
        ),
        sa.CheckConstraint(
            "status IN ('pending', 'installing', 'installed', 'failed', 'removed')",
            name="ck_software_installations_status",
        ),
        sa.CheckConstraint(
            "type IN ('php', 'nginx', 'caddy', 'mariadb', 'postgresql', 'redis', 'valkey')",
            name="ck_software_installations_type",
        ),
        sa.ForeignKeyConstraint(
            ["server_id"], ["servers.id"], name="fk_software_installations_server_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_software_installations"),
    )
    op.create_index("ix_software_installations_server_id", "software_installations", ["server_id"])


def _tokens() -> None:
    op.create_table(
        "tokens",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text, nullable=True),
        sa.Column("server_id", sa.Text, nullable=True),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("expires_at", sa.Text, nullable=True),
        sa.Column("used_at", sa.Text, nullable=True),
        sa.Column("used_from", sa.Text, nullable=True),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("updated_at", sa.Text, nullable=False),
        sa.CheckConstraint("kind IN ('api', 'setup', 'callback', 'webhook')", name="ck_tokens_kind"),
        sa.ForeignKeyConstraint(
            ["server_id"], ["servers.id"], name="fk_tokens_server_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_tokens_user_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_tokens"),
        sa.UniqueConstraint("digest", name="uq_tokens_digest"),
    )
    op.create_index("ix_tokens_server_id", "tokens", ["server_id"])
    op.create_index("ix_tokens_user_id", "tokens", ["user_id"])


def _databases() -> None:
    op.create_table(
        "databases",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("site_id", sa.Text, nullable=True),
        sa.Column("server_id", sa.Text, nullable=False),
        sa.Column("manifest_name", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("username", sa.Text, nullable=False),
        sa.Column("password", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("status", sa.Text, server_default="creating", nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("updated_at", sa.Text, nullable=False),
        sa.CheckConstraint(
            "status IN ('creating', 'active', 'retained', 'error')", name="ck_databases_status"
        ),
        sa.CheckConstraint("type IN ('mariadb', 'postgresql')", name="ck_databases_type"),
        sa.ForeignKeyConstraint(
            ["server_id"], ["servers.id"], name="fk_databases_server_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name="fk_databases_site_id", ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id", name="pk_databases"),
        sa.UniqueConstraint("server_id", "type", "name", name="uq_databases_server_id_type_name"),
    )
    op.create_index("ix_databases_server_id", "databases", ["server_id"])
    op.create_index("ix_databases_site_id", "databases", ["site_id"])


def _deployments() -> None:
    op.create_table(
        "deployments",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("site_id", sa.Text, nullable=True),
        sa.Column("server_id", sa.Text, nullable=True),
        sa.Column("actor_id", sa.Text, nullable=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("plan_id", sa.Text, nullable=True),
        sa.Column("apply_id", sa.Text, nullable=True),
        sa.Column("triggered_via", sa.Text, nullable=False),
        sa.Column("status", sa.Text, server_default="pending", nullable=False),
        sa.Column("branch", sa.Text, server_default="main", nullable=False),
        sa.Column("commit_hash", sa.Text, nullable=True),
        sa.Column("stdout", sa.Text, nullable=True),
        sa.Column("stderr", sa.Text, nullable=True),
        sa.Column("stdout_gap", sa.JSON, nullable=True),
        sa.Column("stderr_gap", sa.JSON, nullable=True),
        sa.Column("corrective", sa.Boolean, server_default="0", nullable=False),
        sa.Column("reason", sa.Text, nullable=True),
        sa.Column("started_at", sa.Text, nullable=True),
        sa.Column("finished_at", sa.Text, nullable=True),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("updated_at", sa.Text, nullable=False),
        sa.CheckConstraint(
            "status IN ('pending', 'running', 'success', 'failed')", name="ck_deployments_status"
        ),
        sa.CheckConstraint(
            "triggered_via IN ('ui', 'webhook', 'cli', 'push', 'poll', 'schedule', 'callback', 'drift', 'retry')",
            name="ck_deployments_triggered_via",
        ),
        sa.ForeignKeyConstraint(
            ["actor_id"], ["users.id"], name="fk_deployments_actor_id", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["server_id"], ["servers.id"], name="fk_deployments_server_id", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["site_id"], ["sites.id"], name="fk_deployments_site_id", ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_deployments"),
    )
    op.create_index("ix_deployments_actor_id", "deployments", ["actor_id"])
    op.create_index("ix_deployments_apply_id", "deployments", ["apply_id"])
    op.create_index("ix_deployments_kind_name", "deployments", ["kind", "name"])
    op.create_index("ix_deployments_server_id", "deployments", ["server_id"])
    op.create_index("ix_deployments_site_id", "deployments", ["site_id"])
    op.create_index("ix_deployments_status", "deployments", ["status"])


def _selinux_audit_logs() -> None:
    op.create_table(
        "selinux_audit_logs",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("server_id", sa.Text, nullable=True),
        sa.Column("site_id", sa.Text, nullable=True),
        sa.Column("log_level", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("context", sa.JSON, nullable=True),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.ForeignKeyConstraint(
            ["server_id"], ["servers.id"], name="fk_selinux_audit_logs_server_id", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["site_id"], ["sites.id"], name="fk_selinux_audit_logs_site_id", ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_selinux_audit_logs"),
    )
    op.create_index("ix_selinux_audit_logs_server_id", "selinux_audit_logs", ["server_id"])
    op.create_index("ix_selinux_audit_logs_site_id", "selinux_audit_logs", ["site_id"])


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("at", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("deployment_id", sa.Text, nullable=True),
        sa.CheckConstraint("type IN ('Normal', 'Warning')", name="ck_events_type"),
        sa.ForeignKeyConstraint(
            ["deployment_id"], ["deployments.id"], name="fk_events_deployment_id", ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
    )
    op.create_index("ix_events_deployment_id", "events", ["deployment_id"])
    op.create_index("ix_events_kind_name", "events", ["kind", "name"])
