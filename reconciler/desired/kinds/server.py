"""Server: a node that is managed."""

from __future__ import annotations

import ipaddress
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, StringConstraints

from reconciler.desired.kinds.common import DomainName, Kind, Manifest, Model, Name, Spec


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
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError("must be an IPv4 or IPv6 address, for example 203.0.113.10") from None


IpAddress = Annotated[str, AfterValidator(_ip)]
PhpVersion = Annotated[str, StringConstraints(pattern=r"^[78]\.[0-9]$")]
PublicKey = Annotated[
    str,
    StringConstraints(
        pattern=r"^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/=]+( [^\n\r]*)?$"
    ),
]


class Software(Model):
    """Software beyond the web server and the database engines."""

    php: tuple[PhpVersion, ...] = Field(
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
    database_engines: tuple[Literal["mariadb", "postgresql"], ...] = Field(
        default=(), description="Database engines to install. Databases may use only these."
    )
    software: Software = Field(default_factory=Software, description="Further software.")


class Server(Manifest):
    """A node that is managed."""

    kind_name: ClassVar[Kind] = Kind.SERVER
    kind: Literal["Server"]
    spec: ServerSpec
