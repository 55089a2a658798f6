"""A row in every table, each child with its parents: what migrations, cascades and backups are tried on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa

from reconciler.kit.secret import Secret
from reconciler.store import Tx, daemon_tables, rows
from reconciler.store.columns import metadata
from reconciler.store.queries import (
    audit,
    audit_cursors,
    conditions,
    databases,
    deployments,
    events,
    history,
    inventory,
    leases,
    loop_state,
    plans,
    preferences,
    requests,
    revisions,
    rollouts,
    selinux_audit_logs,
    server_logs,
    servers,
    site_sources,
    sites,
    software_installations,
    sources,
    ssh_keys,
    suspensions,
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
    audit_cursors.put(tx, server.id, {"inode": 7, "offset": 100}, log=True)
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
    _fill_daemon(tx)
    return Filled(user.id, key.id, server.id, site.id, database.id, deployment.id)


def _fill_daemon(tx: Tx) -> None:
    sources.put(
        tx, "main", remote="file:///srv/git/infra.git", branch="main", state="ok", message="", seen="a"
    )
    site_sources.found(tx, "shop", "wish", site_sources.Revision("c" * 40, "d" * 64, 1000))
    plans.put(
        tx,
        plans.NewPlan("main", "1" * 64, "a" * 40, "b" * 40, "", 1, "L", "reconciler", {}, {"create": 1}, []),
    )
    rollouts.put(tx, "main", "a" * 40, "web1", "soaking")
    loop_state.put(tx, loop_state.LoopState("Server", "web1", failures=2, heals=["2026-01-31T12:00:00Z"]))
    history.add(tx, "Site", "shop", history.Outcome("a" * 40, "d1", "success", "3 steps", 1.5))
    suspensions.put(tx, "Site", "shop", reason="hands off", owner="ada", expires_at=None)
    requests.add(tx, "reconcile", "Server/web1", actor="ada")
    alert = {
        "kind": "Site",
        "name": "shop",
        "type": "Stalled",
        "state": "new",
        "severity": "error",
        "reason": "NeedsAttention",
        "message": "it failed",
        "first_at": tx.now,
        "last_at": tx.now,
    }
    alert_id = rows.insert(tx, daemon_tables.alerts, alert)
    delivery = {"channel": "ops", "event": "firing", "payload": {}, "next_at": tx.now, "error": ""}
    rows.insert(tx, daemon_tables.deliveries, {"alert_id": alert_id, **delivery})


def counts(tx: Tx) -> dict[str, int]:
    """The number of rows of each table."""
    return {
        table.name: tx.connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0
        for table in metadata.sorted_tables
    }
