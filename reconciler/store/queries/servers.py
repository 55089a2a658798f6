"""Servers: what the manifest says, what the node told, and the counters given out for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from reconciler.store import rows
from reconciler.store.tables import servers
from reconciler.store.transaction import Tx
from reconciler.store.words import OsVersion, ServerStatus, WebServer


@dataclass(frozen=True)
class Server:
    """`host_keys` are public keys in OpenSSH's form; `agent_digest` is a sha256; `fence` the last one given out."""

    id: str
    name: str
    ip_address: str
    port: int
    hostname: str
    os_version: OsVersion
    ssh_key_id: str | None
    status: ServerStatus
    web_server: WebServer
    database_engines: list[str] | None
    software: dict[str, Any] | None
    host_keys: list[str] | None
    agent_digest: str | None
    fence: int
    next_site_number: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class ServerFields:
    """What a manifest says about a server; `ssh_key_id` is the id of a recorded key, `hostname` empty if left alone."""

    ip_address: str
    os_version: OsVersion
    hostname: str = ""
    web_server: WebServer = "nginx"
    port: int = 22
    ssh_key_id: str | None = None
    database_engines: Sequence[str] = ()
    software: Mapping[str, Any] | None = None


def upsert(tx: Tx, name: str, fields: ServerFields) -> Server:
    """Records the server `name`; a new one is `provisioning`. Conflict."""
    values = {
        "ip_address": fields.ip_address,
        "port": fields.port,
        "hostname": fields.hostname,
        "os_version": fields.os_version,
        "ssh_key_id": fields.ssh_key_id,
        "web_server": fields.web_server,
        "database_engines": list(fields.database_engines),
        "software": None if fields.software is None else dict(fields.software),
    }
    return get_by_id(tx, rows.upsert(tx, servers, {"name": name}, values))


def get(tx: Tx, name: str) -> Server | None:
    """The server of this name."""
    return rows.first(tx, rows.select(servers, Server).where(servers.c.name == name), Server)


def get_by_id(tx: Tx, server_id: str) -> Server:
    """The server with this id. StoreFault when it is gone."""
    return rows.by_id(tx, servers, Server, server_id)


def all(tx: Tx) -> list[Server]:  # noqa: A001 - read as `servers.all(tx)`
    """All servers, by name."""
    return rows.every(tx, rows.select(servers, Server).order_by(servers.c.name), Server)


def set_status(tx: Tx, server_id: str, status: ServerStatus) -> None:
    """Sets the state of its provisioning."""
    rows.update(tx, servers, server_id, {"status": status})


def set_host_keys(tx: Tx, server_id: str, host_keys: Sequence[str]) -> None:
    """Pins the node's host keys."""
    rows.update(tx, servers, server_id, {"host_keys": list(host_keys)})


def set_agent_digest(tx: Tx, server_id: str, digest: str) -> None:
    """Records which agent runs on the node, by the sha256 of its zipapp."""
    rows.update(tx, servers, server_id, {"agent_digest": digest})


def set_setup_token(tx: Tx, server_id: str, digest: str | None) -> None:
    """Records the sha256 of the setup token given out for the server; None when it was used."""
    rows.update(tx, servers, server_id, {"setup_token": digest})


def by_setup_token(tx: Tx, digest: str) -> Server | None:
    """The server for which the setup token with this sha256 was given out."""
    return rows.first(tx, rows.select(servers, Server).where(servers.c.setup_token == digest), Server)


def bump_fence(tx: Tx, server_id: str, *, seen: int = 0) -> int:
    """A fence greater than any before. `seen` is the greatest that the node reports, should a restore have lost it."""
    fence = max(get_by_id(tx, server_id).fence, seen) + 1
    rows.update(tx, servers, server_id, {"fence": fence})
    return fence


def allocate_site_number(tx: Tx, server_id: str) -> int:
    """The next number for a site's system user on this server, from 1; a number is never given twice."""
    number = get_by_id(tx, server_id).next_site_number
    rows.update(tx, servers, server_id, {"next_site_number": number + 1})
    return number


def rename(tx: Tx, server_id: str, name: str) -> None:
    """Gives the server another name. Conflict."""
    rows.update(tx, servers, server_id, {"name": name})


def delete(tx: Tx, server_id: str) -> bool:
    """Removes the server with its sites, databases, logs and software records. Whether it was there."""
    return rows.delete(tx, servers, server_id)


def ids_by_name(tx: Tx) -> dict[str, str]:
    """The ids of all servers by name."""
    return {name: row_id for name, row_id in tx.connection.execute(sa.select(servers.c.name, servers.c.id))}  # noqa: C416 - rows are not pairs to dict()
