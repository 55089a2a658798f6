"""A row in every table, each child with its parents: what migrations, cascades and backups are tried on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa

from reconciler.kit.secret import Secret
from reconciler.store import Tx
from reconciler.store.columns import metadata
from reconciler.store.queries import (
    audit,
    conditions,
    databases,
    deployments,
    events,
    inventory,
    leases,
    preferences,
    revisions,
    selinux_audit_logs,
    server_logs,
    servers,
    sites,
    software_installations,
    ssh_keys,
    tokens,
    users,
)

PRIVATE_KEY = (
    "-----BEGIN OPENSSH PRIVATE KEY-----\ncanary-private-key-body-1\n-----END OPENSSH PRIVATE KEY-----\n"
)
PASSWORD = "canary-Password-42-of-the-shop"


@dataclass(frozen=True)
class Filled:
    """The ids of the rows."""

    user: str
    key: str
    server: str
    site: str
    database: str
    deployment: str


def fill(tx: Tx) -> Filled:
    """Fills every table."""
    user = users.upsert(tx, email="Ada@Example.test", name="Ada", role="admin")
    key = ssh_keys.upsert(tx, name="fleet", public_key="ssh-ed25519 AAAA fleet", fingerprint="SHA256:abc")
    ssh_keys.set_private_key(tx, key.id, Secret(PRIVATE_KEY))
    server = servers.upsert(
        tx, "web1", servers.ServerFields("192.0.2.1", "alma_9", "web1.example.test", ssh_key_id=key.id)
    )
    site = sites.upsert(
        tx,
        "shop",
        sites.SiteFields(server.id, "shop.example.test", "public", "web1", "8.3", "wordpress", 7),
    )
    database = databases.upsert(
        tx,
        "shop-db",
        databases.DatabaseFields(server.id, "shop", "shop", "mariadb", site.id),
        Secret(PASSWORD),
    )
    deployment = deployments.create(
        tx,
        deployments.NewDeployment(
            "Site", "shop", "cli", server_id=server.id, site_id=site.id, actor_id=user.id
        ),
    )
    software_installations.put(tx, server_id=server.id, type="php", version="8.3", action="install")
    server_logs.add(tx, server_id=server.id, level="info", message="enrolled", context={"port": 22})
    selinux_audit_logs.add(
        tx, log_level="warning", message="avc: denied { read }", server_id=server.id, site_id=site.id
    )
    preferences.put(tx, user.id, "theme", "dark")
    inventory.put(
        tx,
        inventory.Applied(
            "Site", "shop", {"domain": "shop.example.test"}, "d1", [], "c1", "shop.yaml", 3, "web1"
        ),
    )
    conditions.put(tx, "Site", "shop", "Ready", conditions.State("True", "Applied", "in sync"))
    revisions.accept(
        tx, commit="a" * 40, author_name="Ada", author_email="ada@example.test", message="Add shop"
    )
    leases.acquire(tx, "daemon", "one", timedelta(minutes=1))
    events.add(tx, "Site", "shop", reason="Applied", message="3 steps", deployment_id=deployment.id)
    tokens.issue(tx, "api", "ci", user_id=user.id, server_id=server.id)
    audit.append(tx, actor="ada@example.test", action="approve", subject="Site/shop", detail={"plan": "p1"})
    return Filled(user.id, key.id, server.id, site.id, database.id, deployment.id)


def counts(tx: Tx) -> dict[str, int]:
    """The number of rows of each table."""
    return {
        table.name: tx.connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0
        for table in metadata.sorted_tables
    }
