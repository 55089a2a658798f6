"""Server: a node that is managed."""

from __future__ import annotations

import base64
import binascii
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


def _openssh(value: str) -> str:
    algorithm, blob = value.split(" ")[:2]
    try:
        raw = base64.b64decode(blob, validate=True)
    except binascii.Error:
        raise ValueError("is not valid base64 after the key type; was it cut off?") from None
    # RFC 4253, 6.6: the blob begins with the length and the name of its own key type.
    name = algorithm.encode("ascii")
    if raw[: 4 + len(name)] != len(name).to_bytes(4, "big") + name or len(raw) < 4 + len(name) + 32:
        raise ValueError(f"does not hold a key of type {algorithm}; was it cut off?")
    return value


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
PublicKey = Annotated[
    str,
    StringConstraints(
        max_length=8192,
        pattern=r"^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/]+=*( [^\x00-\x1f\x7f-\x9f]*)?$",
    ),
    AfterValidator(_openssh),
    Means(
        "public key",
        "one line in OpenSSH form: ssh-ed25519, ssh-rsa or ecdsa-sha2-nistp…, and the key in base64",
    ),
]


class Software(Model):
    """Software beyond the web server and the database engines."""

    php: Annotated[tuple[PhpVersion, ...], Distinct] = Field(
        default=(), description='PHP versions to install, quoted (`["8.2"]`). Sites may use only these.'
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
    web_server: Literal["nginx"] = Field(default="nginx", description="Web server to install and configure.")
    database_engines: Annotated[tuple[Literal["mariadb", "postgresql"], ...], Distinct] = Field(
        default=(), description="Database engines to install. Databases may use only these."
    )
    software: Software = Field(default_factory=Software, description="Further software.")


class Server(Manifest):
    """A node that is managed."""

    kind_name: ClassVar[Kind] = Kind.SERVER
    kind: Literal["Server"] = Field(description="Always `Server`.")
    spec: ServerSpec = Field(description="The node: where it is, what it runs, how it is reached.")
