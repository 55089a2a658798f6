"""The ten tables of hosting: people, keys, servers, sites, databases and their records. docs/database.md explains them."""

from __future__ import annotations

import sqlalchemy as sa

from reconciler.store import words
from reconciler.store.columns import instant, json, key, metadata, number, one_of, ref, stamps, text

users = sa.Table(
    "users",
    metadata,
    key(),
    text("name"),
    text("email", unique=True),
    text("password", null=True),  # an argon2id hash
    text("role", default="viewer"),
    json("signing_keys", null=True),
    *stamps(),
    one_of("role", words.Role),
)

ssh_keys = sa.Table(
    "ssh_keys",
    metadata,
    key(),
    text("name", unique=True),
    text("public_key"),
    text("private_key", null=True),  # sealed
    text("fingerprint", unique=True),
    *stamps(),
)

servers = sa.Table(
    "servers",
    metadata,
    key(),
    text("name", unique=True),
    text("ip_address", unique=True),
    number("port", default=22),
    text("hostname"),
    text("os_version"),
    ref("ssh_key_id", "ssh_keys", "SET NULL", null=True),
    text("status", default="provisioning"),
    text("setup_token", null=True),  # the sha256 of it
    text("web_server"),
    json("database_engines", null=True),
    json("software", null=True),
    json("host_keys", null=True),
    text("agent_digest", null=True),
    number("fence", default=0),
    number("next_site_number", default=1),
    *stamps(),
    one_of("os_version", words.OsVersion),
    one_of("status", words.ServerStatus),
    one_of("web_server", words.WebServer),
    sa.CheckConstraint("port BETWEEN 1 AND 65535", name="port"),
)

sites = sa.Table(
    "sites",
    metadata,
    key(),
    ref("server_id", "servers", "CASCADE"),
    text("name", unique=True),
    text("domain", unique=True),
    text("document_root"),
    text("system_user"),
    text("php_version", null=True),
    text("app_type"),
    text("status", default="creating"),
    number("mcs_id", null=True),
    *stamps(),
    one_of("app_type", words.AppType),
    one_of("status", words.SiteStatus),
    sa.UniqueConstraint("server_id", "system_user"),
    sa.UniqueConstraint("server_id", "mcs_id"),
)

databases = sa.Table(
    "databases",
    metadata,
    key(),
    ref("site_id", "sites", "SET NULL", null=True),
    ref("server_id", "servers", "CASCADE"),
    text("manifest_name"),
    text("name"),
    text("username"),
    text("password"),  # sealed
    text("type"),
    text("status", default="creating"),
    *stamps(),
    text("pending_password", null=True),  # sealed
    one_of("type", words.DatabaseType),
    one_of("status", words.DatabaseStatus),
    sa.UniqueConstraint("server_id", "type", "name"),
)

deployments = sa.Table(
    "deployments",
    metadata,
    key(),
    ref("site_id", "sites", "SET NULL", null=True),
    ref("server_id", "servers", "SET NULL", null=True),
    ref("actor_id", "users", "SET NULL", null=True),
    text("kind"),
    text("name"),
    text("plan_id", null=True),
    text("apply_id", null=True),
    text("triggered_via"),
    text("status", default="pending"),
    text("branch", default="main"),
    text("commit_hash", null=True),
    text("source_branch", null=True),  # of the application, where `branch` and `commit_hash` are the fleet's
    text("source_commit", null=True),
    text("stdout", null=True),
    text("stderr", null=True),
    json("stdout_gap", null=True),
    json("stderr_gap", null=True),
    sa.Column("corrective", sa.Boolean, nullable=False, server_default="0"),
    text("reason", null=True),
    instant("started_at", null=True),
    instant("finished_at", null=True),
    *stamps(),
    one_of("triggered_via", words.TriggeredVia),
    one_of("status", words.DeploymentStatus),
)
sa.Index(None, deployments.c.status)
sa.Index(None, deployments.c.kind, deployments.c.name)
sa.Index(None, deployments.c.apply_id)

software_installations = sa.Table(
    "software_installations",
    metadata,
    key(),
    ref("server_id", "servers", "CASCADE"),
    text("type"),
    text("version"),
    text("action"),
    text("status", default="pending"),
    text("installed_version", null=True),
    text("reason", null=True),
    json("packages", null=True),
    *stamps(),
    one_of("type", words.SoftwareType),
    one_of("action", words.SoftwareAction),
    one_of("status", words.SoftwareStatus),
)

server_logs = sa.Table(
    "server_logs",
    metadata,
    key(),
    ref("server_id", "servers", "CASCADE"),
    text("level"),
    text("message"),
    json("context", null=True),
    instant("created_at"),
    one_of("level", words.LogLevel),
)

selinux_audit_logs = sa.Table(
    "selinux_audit_logs",
    metadata,
    key(),
    ref("server_id", "servers", "SET NULL", null=True),
    ref("site_id", "sites", "SET NULL", null=True),
    text("log_level"),
    text("message"),
    json("context", null=True),
    text("identity", default=""),
    number("count", default=1),
    instant("first_at", null=True),
    instant("last_at", null=True),
    instant("created_at"),
)
sa.Index(None, selinux_audit_logs.c.server_id, selinux_audit_logs.c.identity)
sa.Index(None, selinux_audit_logs.c.last_at)

user_preferences = sa.Table(
    "user_preferences",
    metadata,
    key(),
    ref("user_id", "users", "CASCADE"),
    text("key"),
    sa.Column("value", sa.JSON, nullable=False),  # JSON's own null is a value here
    *stamps(),
    sa.UniqueConstraint("user_id", "key"),
)
