"""Rules of a Server's host fields that a type cannot say. Pure: manifest in, findings out."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence

from reconciler.desired import windows
from reconciler.desired.findings import Finding
from reconciler.desired.fleet import Entry, FieldPath, Key
from reconciler.desired.kinds import Kind, Server, User
from reconciler.desired.kinds.host import SERVICES, Allowed
from reconciler.platforms import for_os

_LEAST_SWAP, _MOST_SWAP = 64 * 1024**2, 256 * 1024**3
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_UNITS = {"M": 1024**2, "G": 1024**3}
_SITE_USER = re.compile(r"web[0-9]+\Z")
_ACCOUNT = re.compile(r"[a-z][a-z0-9-]{0,31}\Z")
RESERVED_LOGINS = frozenset(
    [
        "root",
        "panel",
        "daemon",
        "bin",
        "sys",
        "sync",
        "adm",
        "lp",
        "mail",
        "news",
        "uucp",
        "proxy",
        "backup",
        "list",
        "irc",
        "games",
        "man",
        "nobody",
        "operator",
        "halt",
        "shutdown",
        "ftp",
        "sshd",
        "dbus",
        "polkitd",
        "tss",
        "chrony",
        "nginx",
        "caddy",
        "apache",
        "www-data",
        "mysql",
        "postgres",
        "redis",
        "valkey",
        "memcached",
        "fail2ban",
        "messagebus",
        "certbot",
        "sudo",
        "wheel",
    ]
)
"""Accounts and groups of the systems, of what is installed, and of the daemon itself."""


def check(server: Server) -> Iterator[Finding]:
    """All findings of the host fields of one server."""
    yield from _clock_and_swap(server)
    yield from _firewall(server)
    yield from _ssh(server)
    yield from _logins(server)


def people(server: Server, entries: Mapping[Key, Entry]) -> Iterator[Finding]:
    """Logins of people who have no key. The Users must be there."""
    for place, login in enumerate(server.spec.logins):
        person = entries[Key(Kind.USER, login.user)].manifest
        if isinstance(person, User) and not person.spec.ssh_keys:
            message = f"User/{login.user} has no sshKeys, so nobody could log in"
            hint = "add a public key to the User, or remove the login"
            yield Finding(("spec", "logins", place, "user"), "no-ssh-keys", message, hint)


def _clock_and_swap(server: Server) -> Iterator[Finding]:
    spec = server.spec
    if spec.timezone is not None and windows.zone(spec.timezone) is None:
        hint = windows.meant(spec.timezone) or "write a name of the IANA time zones, such as Europe/Berlin"
        yield Finding(
            ("spec", "timezone"), "unknown-time-zone", f"there is no time zone {spec.timezone}", hint
        )
    if spec.swap is not None:
        size = int(spec.swap[:-1]) * _UNITS[spec.swap[-1]]
        if not _LEAST_SWAP <= size <= _MOST_SWAP:
            message = f"spec.swap is {spec.swap}; it must be from 64M to 256G"
            yield Finding(("spec", "swap"), "out-of-range", message, "write a size such as 2G")


def _firewall(server: Server) -> Iterator[Finding]:
    firewall = server.spec.firewall
    if firewall.mode == "off":
        for field, given in (("sshFrom", firewall.ssh_from), ("allow", firewall.allow)):
            if given:
                message = f"spec.firewall.{field} has no effect: the firewall is off"
                hint = "write `mode: managed`, or remove it"
                yield Finding(("spec", "firewall", field), "no-effect", message, hint, at_key=True)
        return
    seen: set[tuple[int, str]] = set()
    for place, allowed in enumerate(firewall.allow):
        path = ("spec", "firewall", "allow", place)
        if (allowed.port is None) == (allowed.service is None):
            message = "an opening has either a port or a service"
            yield Finding(path, "port-or-service", message, "write one of them")
            continue
        if allowed.service is not None and allowed.protocol != "tcp":
            message = "protocol has no effect: the service says it"
            yield Finding((*path, "protocol"), "no-effect", message, "remove it", at_key=True)
        openings = _ports(allowed)
        for port, protocol in openings:
            if (port, protocol) in seen:
                what = (
                    f"{port}/{protocol}"
                    if allowed.service is None
                    else f"{port}/{protocol} ({allowed.service})"
                )
                hint = "write one entry, with all its sources in `from`"
                yield Finding(path, "listed-twice", f"{what} is opened twice", hint)
                break
        seen.update(openings)
        yield from _past_ssh_from(server, allowed, path, openings)
    yield from _daemon_shut_out(server)


def _past_ssh_from(
    server: Server, allowed: Allowed, path: FieldPath, openings: Sequence[tuple[int, str]]
) -> Iterator[Finding]:
    """An opening of SSH's own port would let in whom sshFrom leaves out."""
    within = [ipaddress.ip_network(source) for source in server.spec.firewall.ssh_from]
    ports = {*server.spec.ssh.ports, server.spec.port}
    if not within or not any(port in ports and protocol == "tcp" for port, protocol in openings):
        return
    others = [source for source in allowed.from_ if not _is_within(ipaddress.ip_network(source), within)]
    if others or not allowed.from_:
        who = ", ".join(others) or "everybody"
        message = f"this opens SSH to {who}, beside spec.firewall.sshFrom"
        hint = "remove it: SSH is open to sshFrom anyway; or add its sources there"
        yield Finding(path, "ssh-past-sources", message, hint)


def _is_within(network: Network, within: Sequence[Network]) -> bool:
    def holds(one: Network) -> bool:
        if isinstance(network, ipaddress.IPv4Network):
            return isinstance(one, ipaddress.IPv4Network) and network.subnet_of(one)
        return isinstance(one, ipaddress.IPv6Network) and network.subnet_of(one)

    return any(holds(one) for one in within)


def _ports(allowed: Allowed) -> tuple[tuple[int, str], ...]:
    """The ports and protocols that an opening stands for."""
    if allowed.service is not None:
        return SERVICES[allowed.service]
    return () if allowed.port is None else ((allowed.port, allowed.protocol),)


def _daemon_shut_out(server: Server) -> Iterator[Finding]:
    """What can be known here: the daemon connects by the family of the server's address."""
    sources = server.spec.firewall.ssh_from
    address = ipaddress.ip_address(server.spec.address)
    if not sources or address.is_loopback:
        return
    if all(ipaddress.ip_network(source).version != address.version for source in sources):
        message = f"spec.firewall.sshFrom lets in no IPv{address.version}, by which the daemon connects to {address}"
        hint = "add the network that the daemon is in"
        yield Finding(("spec", "firewall", "sshFrom"), "daemon-shut-out", message, hint)


def _ssh(server: Server) -> Iterator[Finding]:
    spec, ssh = server.spec, server.spec.ssh
    platform = for_os(spec.os.value)
    given = bool(ssh.ports or ssh.allow_users) or (
        ssh.password_authentication is not None or ssh.permit_root_login is not None
    )
    if given and not platform.host.ssh_drop_ins:
        message = f"spec.ssh cannot be applied on {spec.os.value}: its OpenSSH 8.0 reads no drop-in files"
        yield Finding(("spec", "ssh"), "not-offered", message, "remove it, or renew the system", at_key=True)
        return
    if ssh.ports and spec.port not in ssh.ports:
        message = f"spec.port is {spec.port}, on which sshd would not listen any more"
        hint = f"add {spec.port} to spec.ssh.ports; once that is applied, change spec.port and remove it"
        yield Finding(("spec", "ssh", "ports"), "daemon-shut-out", message, hint)


def _logins(server: Server) -> Iterator[Finding]:
    seen: set[str] = set()
    for place, login in enumerate(server.spec.logins):
        path = ("spec", "logins", place, "user")
        if login.user in seen:
            yield Finding(path, "listed-twice", f"{login.user} is listed twice", "remove one of them")
        seen.add(login.user)
        if login.user in RESERVED_LOGINS or _SITE_USER.match(login.user) or login.user.startswith("systemd-"):
            message = f"{login.user} is an account of the system or of a site"
            yield Finding(path, "reserved-name", message, "give the User another name")
        elif not _ACCOUNT.match(login.user):
            message = f"{login.user} cannot be the name of an account"
            hint = "a User that logs in has a name of at most 32 characters that begins with a letter"
            yield Finding(path, "bad-account-name", message, hint)
