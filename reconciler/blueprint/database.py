"""A Database's section: the database, its logins, and what they may do."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from typing import assert_never

from reconciler.blueprint.model import Body, Section, Step
from reconciler.desired.kinds import Database
from reconciler.kit.canonical import Json
from reconciler.kit.secret import Secret

LOCAL = "localhost"
"""Host of the MariaDB login of the sites, which are on the same node."""


def section(database: Database, password: Secret) -> Section:
    """The section of `database`; needs its server's."""
    spec = database.spec
    match spec.engine:
        case "mariadb":
            made = tuple(_mariadb(database, password))
        case "postgresql":
            made = tuple(_postgresql(database, password))
        case _:
            assert_never(spec.engine)
    return Section(database.address, made, (f"Server/{spec.server}",))


def mariadb_address(databases: Sequence[Database]) -> str:
    """Where a server's MariaDB listens: on the loopback only, unless one of its databases is reached from elsewhere."""
    networks = [n for one in databases if one.spec.engine == "mariadb" for n in one.spec.remote_access]
    if not networks:
        return "127.0.0.1"
    # "::" takes both kinds, but does not start where IPv6 is switched off
    return "::" if any(":" in network for network in networks) else "0.0.0.0"  # noqa: S104 - asked for


def _adopt(database: Database) -> Mapping[str, Json]:
    return {"adopt": True} if database.spec.adopt else {}


def _mariadb(database: Database, password: Secret) -> Iterator[Step]:
    spec, body = database.spec, Body.of(password)
    settings = {"charset": "utf8mb4", "collation": "utf8mb4_unicode_ci"}
    hosts = (LOCAL, *(_mariadb_host(network) for network in spec.remote_access))
    for host in hosts:
        yield Step(
            "mariadb_user",
            spec.username if host == LOCAL else f"{spec.username}@{host}",
            {"name": spec.username, "host": host, "password": body.sha256, **_adopt(database)},
            body,
        )
    # Steps are undone in the opposite order: a database that cannot be dumped must not have lost its logins by then.
    yield Step("mariadb_database", spec.name, {"name": spec.name, **settings, **_adopt(database)})
    for host in hosts:
        login = spec.username if host == LOCAL else f"{spec.username}@{host}"
        yield Step(
            "mariadb_grant",
            f"{spec.name}/{login}",
            {
                "database": spec.name,
                "user": spec.username,
                "host": host,
                "privileges": list(spec.privileges),
            },
        )


def _mariadb_host(text: str) -> str:
    """A network as the host of an account: an address, or an IPv4 network with its mask written out."""
    network = ipaddress.ip_network(text)
    if network.num_addresses == 1:
        return str(network.network_address)
    return f"{network.network_address}/{network.netmask}"


def _postgresql(database: Database, password: Secret) -> Iterator[Step]:
    spec, body = database.spec, Body.of(password)
    owned = spec.privileges == ("ALL",)
    adopt = _adopt(database)
    yield Step(
        "postgresql_role", spec.username, {"name": spec.username, "password": body.sha256, **adopt}, body
    )
    # From version 15 on only its owner may create in the schema public, so a login with all rights must own it.
    owner = spec.username if owned else "postgres"
    yield Step("postgresql_database", spec.name, {"name": spec.name, "owner": owner, **adopt})
    if not owned:
        yield Step(
            "postgresql_grant",
            f"{spec.name}/{spec.username}",
            {"database": spec.name, "role": spec.username, "privileges": list(spec.privileges)},
        )
