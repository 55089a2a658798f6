"""Database: a database with its own user on a server."""

from __future__ import annotations

import ipaddress
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, StringConstraints

from reconciler.desired.kinds.common import Distinct, Kind, Manifest, Means, Name, Spec
from reconciler.desired.kinds.drift import Drift
from reconciler.desired.kinds.secrets import MaySeal, Sealed

Identifier = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,30}$"),
    Means("identifier", "1 to 31 lower-case letters, digits and underscores, beginning with a letter"),
]
"""At most 31 characters: safe unquoted in MariaDB and PostgreSQL alike."""

EnvPrefix = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Z][A-Z0-9_]{0,30}$"),
    Means("prefix", "1 to 31 capital letters, digits and underscores, beginning with a letter", "prefixes"),
]

Privilege = Annotated[
    Literal[
        "ALL", "SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "ALTER", "DROP", "INDEX", "REFERENCES", "TRIGGER",
        "LOCK TABLES", "CREATE TEMPORARY TABLES", "CREATE VIEW", "SHOW VIEW", "EXECUTE", "EVENT",
        "CONNECT", "TEMPORARY", "TRUNCATE",
    ],
    Means("privilege"),
]  # fmt: skip


_VISIBLE = "12 to 256 visible ASCII characters, without blanks"
DatabasePassword = Annotated[
    str | Sealed,
    MaySeal(Annotated[str, StringConstraints(min_length=12, max_length=256, pattern=r"^[!-~]*$")], _VISIBLE),
    Means("password", f"{_VISIBLE}, or {{age: …}}"),
]


def _source(value: str) -> str:
    try:
        network = ipaddress.ip_network(value)
    except ValueError:
        raise ValueError(f"is {value!r}, which is no network such as 10.0.0.0/8 or 192.0.2.7") from None
    if network.prefixlen == 0:
        raise ValueError("means everybody; name the networks that clients are in")
    if network.is_multicast or network.network_address.is_unspecified:
        raise ValueError(f"is {value!r}, from which no client comes")
    return str(network)


RemoteSource = Annotated[
    str,
    StringConstraints(max_length=43, pattern=r"^[0-9A-Fa-f:./]+$"),
    AfterValidator(_source),
    Means("network", "an address or network such as 10.0.0.0/8"),
]


class DatabaseSpec(Spec):
    """A database and its user. The login is written to the `.env` of the site that uses it."""

    server: Name = Field(description="Name of the Server that holds the database.")
    site: Name | None = Field(
        default=None,
        description="Site that uses the database: its `.env` gets the credentials. Must be on the same server.",
    )
    engine: Literal["mariadb", "postgresql"] = Field(
        description="Database engine; the server must install it."
    )
    name: Identifier = Field(description="Name of the database on the server; unique per server and engine.")
    username: Identifier = Field(description="Login of the database user; unique per server and engine.")
    password: DatabasePassword | None = Field(
        default=None,
        description="Password of the user, in clear or encrypted: `{age: …}`. Without it one is made and kept encrypted.",
    )
    adopt: bool = Field(
        default=False,
        description="Take over a database or user of this name that is on the node already; it is refused otherwise.",
    )
    remote_access: Annotated[tuple[RemoteSource, ...], Distinct] = Field(
        default=(),
        max_length=50,
        description="Networks from which the user may connect; the engine listens to the network while any database needs it.",
    )
    privileges: Annotated[tuple[Privilege, ...], Distinct] = Field(
        default=("ALL",),
        min_length=1,
        description="Privileges of the user on this database; `ALL` stands alone.",
    )
    env_prefix: EnvPrefix = Field(
        default="DB",
        description="Prefix of the variables in the site's `.env`: `DB` gives `DB_HOST`, `DB_DATABASE`, …",
    )
    deletion_policy: Literal["delete", "retain"] = Field(
        default="retain",
        description="What happens when the manifest is removed: `retain` keeps the data on the node, `delete` drops it after a dump.",
    )
    drift: Drift = Field(
        default_factory=Drift,
        description="What happens when the node shows something else than was applied.",
    )


class Database(Manifest):
    """A database with its own user."""

    kind_name: ClassVar[Kind] = Kind.DATABASE
    kind: Literal["Database"] = Field(description="Always `Database`.")
    spec: DatabaseSpec = Field(description="The database: where it is, who uses it, what its user may do.")
