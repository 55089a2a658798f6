"""Server: a node that is managed."""

from __future__ import annotations

import ipaddress
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, StringConstraints, WithJsonSchema

from reconciler.desired.kinds.common import (
    Distinct,
    DomainName,
    Kind,
    Manifest,
    Means,
    Model,
    Name,
    Spec,
)
from reconciler.desired.kinds.drift import Drift
from reconciler.desired.kinds.health import ServerCheck
from reconciler.desired.kinds.host import Firewall, Login, Ssh, SwapSize, TimeZone
from reconciler.desired.kinds.keys import PublicKey
from reconciler.desired.kinds.selinux import SELinux
from reconciler.desired.kinds.tls import Acme


class Os(StrEnum):
    """Operating systems a server may run."""

    ALMA_8 = "alma_8"
    ALMA_9 = "alma_9"
    ALMA_10 = "alma_10"
    ROCKY_8 = "rocky_8"
    ROCKY_9 = "rocky_9"
    ROCKY_10 = "rocky_10"
    DEBIAN_12 = "debian_12"
    DEBIAN_13 = "debian_13"


def _ip(value: str) -> str:
    # `ipaddress` takes any text after a `%` as the zone of an IPv6 address.
    try:
        address = ipaddress.ip_address("" if "%" in value else value)
    except ValueError:
        raise ValueError("must be an IPv4 or IPv6 address, such as 203.0.113.10") from None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped  # one node has one spelling
    if address.is_unspecified or address.is_multicast or address == ipaddress.IPv4Address("255.255.255.255"):
        raise ValueError("must be the address of one node, not a multicast, broadcast or unspecified address")
    return str(address)


IpAddress = Annotated[
    str,
    AfterValidator(_ip),
    WithJsonSchema({"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}),
    Means("IP address", "an IPv4 or IPv6 address, such as 203.0.113.10", "IP addresses"),
]
PhpVersion = Annotated[
    str,
    StringConstraints(pattern=r"^[78]\.[0-9]$"),
    Means("PHP version", 'a PHP version in quotes, such as "8.2"'),
]


class Software(Model):
    """Software beyond the web server and the database engines."""

    php: Annotated[tuple[PhpVersion, ...], Distinct] = Field(
        default=(), description='PHP versions to install, quoted (`["8.2"]`). Sites may use only these.'
    )
    redis: bool = Field(
        default=False,
        description="Whether Redis (on Enterprise Linux 10 Valkey) is installed, and PHP's extension for it. Sites with `redis` need it.",
    )


class ServerSpec(Spec):
    """A node: where it is, what it runs, how it is reached."""

    address: IpAddress = Field(description="IP address the daemon connects to; unique in the fleet.")
    port: int = Field(default=22, ge=1, le=65535, description="SSH port.")
    hostname: DomainName | None = Field(
        default=None, description="Host name to set on the node; left alone when absent."
    )
    os: Os = Field(description="Operating system and major version that the node runs.")
    ssh_key: Name = Field(description="Name of the SSHKey that the daemon logs in with.")
    host_key: PublicKey | None = Field(
        default=None,
        description="The node's public host key. Absent: the key seen at enrolment is pinned and must stay.",
    )
    web_server: Literal["nginx", "caddy"] = Field(
        default="nginx",
        description="Web server to install and configure. Sites mean the same with either; docs/webservers.md tells what differs.",
    )
    database_engines: Annotated[tuple[Literal["mariadb", "postgresql"], ...], Distinct] = Field(
        default=(), description="Database engines to install. Databases may use only these."
    )
    software: Software = Field(default_factory=Software, description="Further software.")
    acme: Acme | None = Field(
        default=None,
        description="Account that certificates are asked for with; required when a site of the server has `tls.mode: acme`.",
    )
    selinux: SELinux = Field(
        default_factory=SELinux,
        description="What SELinux is to do on the node, and switches and rules of its policy.",
    )
    timezone: TimeZone | None = Field(
        default=None, description="Time zone of the node's clock; left alone when absent."
    )
    swap: SwapSize | None = Field(
        default=None,
        description="Size of a swap file to have, such as `2G`; none is made or removed when absent.",
    )
    updates: Literal["security", "all", "off"] | None = Field(
        default=None,
        description="Packages that are updated every day by the node itself, which never reboots for it. `off` switches that off; absent, the node keeps what it has.",
    )
    firewall: Firewall = Field(default_factory=Firewall, description="What gets through to the node.")
    ssh: Ssh = Field(default_factory=Ssh, description="What sshd lets in.")
    logins: tuple[Login, ...] = Field(
        default=(), max_length=100, description="People with an account of their own on the node."
    )
    fail2ban: bool = Field(
        default=False,
        alias="fail2ban",
        description="Whether addresses that fail to log in over SSH are shut out for an hour.",
    )
    drift: Drift = Field(
        default_factory=Drift,
        description="What happens when the node shows something else than was applied for the server itself.",
    )
    health_checks: tuple[ServerCheck, ...] = Field(
        default=(), max_length=32, description="What must hold after a change for it to count as healthy."
    )


class Server(Manifest):
    """A node that is managed."""

    kind_name: ClassVar[Kind] = Kind.SERVER
    kind: Literal["Server"] = Field(description="Always `Server`.")
    spec: ServerSpec = Field(description="The node: where it is, what it runs, how it is reached.")
