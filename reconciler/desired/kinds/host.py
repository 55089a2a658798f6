"""The host beneath a server: who gets in, through which ports, and what keeps it up to date."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, WithJsonSchema

from reconciler.desired.kinds.common import Distinct, Means, Model, Name


def _cidr(value: str) -> str:
    text = "" if "%" in value else value
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError("must be an address or a network, such as 203.0.113.7 or 2001:db8::/32") from None
    raise ValueError(f"has bits beyond its length; write {meant}")


Source = Annotated[
    str,
    AfterValidator(_cidr),
    WithJsonSchema({"type": "string"}),
    Means("network", "an address or a network, such as 203.0.113.7 or 2001:db8::/32"),
]
"""In the canonical spelling of `ipaddress`: always with a length."""
Port = Annotated[int, Field(ge=1, le=65535)]
Account = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z_][a-z0-9_-]{0,31}$"),
    Means("account", "the name of an account: 1 to 32 lower-case letters, digits, hyphens and underscores"),
]
TimeZone = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Z][A-Za-z0-9_+-]{0,39}(/[A-Za-z0-9_+-]{1,40}){0,2}$"),
    Means("time zone", "a name of the IANA time zones, such as Europe/Berlin, or UTC"),
]
SwapSize = Annotated[
    str,
    StringConstraints(pattern=r"^[1-9][0-9]{0,5}[MG]$"),
    Means("size", "a number and M or G, such as 2G"),
]

SERVICES: dict[str, tuple[tuple[int, str], ...]] = {
    "ssh": ((22, "tcp"),),
    "dns": ((53, "tcp"), (53, "udp")),
    "smtp": ((25, "tcp"),),
    "submission": ((587, "tcp"),),
    "smtps": ((465, "tcp"),),
    "imap": ((143, "tcp"),),
    "imaps": ((993, "tcp"),),
    "pop3s": ((995, "tcp"),),
    "ntp": ((123, "udp"),),
    "ftp": ((21, "tcp"),),
    "wireguard": ((51820, "udp"),),
    "node-exporter": ((9100, "tcp"),),
}
"""Ports of services by name, as IANA's registry of service names has them; those of WireGuard and of Prometheus'
node exporter are the ones that their own documentation uses."""
ServiceName = Literal[
    "ssh",
    "dns",
    "smtp",
    "submission",
    "smtps",
    "imap",
    "imaps",
    "pop3s",
    "ntp",
    "ftp",
    "wireguard",
    "node-exporter",
]


class Allowed(Model):
    """One opening of the firewall: a port or a service, for everybody or for some."""

    port: Port | None = Field(default=None, description="The port. Either this or `service`.")
    service: ServiceName | None = Field(
        default=None, description="A service by name, in place of port and protocol."
    )
    protocol: Literal["tcp", "udp"] = Field(default="tcp", description="The protocol of `port`.")
    from_: Annotated[tuple[Source, ...], Distinct] = Field(
        default=(), alias="from", description="Addresses and networks that get in; everybody when empty."
    )


class Firewall(Model):
    """What gets through to the node. Answers, loopback and ICMP always do."""

    mode: Literal["managed", "off"] = Field(
        default="off",
        description="`managed`: only what is declared gets in. `off`: the node keeps the firewall that it has, or had before.",
    )
    ssh_from: Annotated[tuple[Source, ...], Distinct] = Field(
        default=(),
        description="Addresses and networks that reach SSH; everybody when empty. The daemon must be among them.",
    )
    allow: tuple[Allowed, ...] = Field(
        default=(),
        max_length=200,
        description="What gets in beside SSH and the web server, whose ports are open by themselves.",
    )


class Ssh(Model):
    """What sshd lets in. Only what is written here is set; everything else stays as the node has it."""

    ports: Annotated[tuple[Port, ...], Distinct] = Field(
        default=(),
        max_length=4,
        description="Ports that sshd listens on; `spec.port` must be among them. To change the port: list both, apply, then change `spec.port` and remove the old one.",
    )
    password_authentication: bool | None = Field(
        default=None, description="Whether passwords are accepted, also when a PAM module asks for them."
    )
    permit_root_login: bool | None = Field(
        default=None, description="Whether root may log in: `true` with a key only, `false` not at all."
    )
    allow_users: Annotated[tuple[Account, ...], Distinct] = Field(
        default=(),
        max_length=100,
        description="The only accounts that may log in, beside the daemon's own (`panel`) and those of `logins`. Empty: all.",
    )


class Login(Model):
    """A person's own account on the server."""

    user: Name = Field(description="Name of the User; the account has the same name.")
    sudo: bool = Field(
        default=False, description="Whether the account may do everything through sudo, without a password."
    )
