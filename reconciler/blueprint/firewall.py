"""What a server's firewall lets in, as rules for nftables and for firewalld."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reconciler.blueprint import steps
from reconciler.blueprint.model import Body, Step
from reconciler.blueprint.templates import Templates
from reconciler.desired.fleet import Fleet
from reconciler.desired.kinds import Server
from reconciler.desired.kinds.host import SERVICES
from reconciler.platforms import Platform

_UNIT_FILE = "/etc/systemd/system/panel-firewall.service"
_WEB = ((80, "tcp"), (443, "tcp"))
_ENGINES = {"mariadb": 3306, "postgresql": 5432}
_TEMPLATES = {"nftables": "firewall/panel.nft.j2", "firewalld": "firewall/panel.xml.j2"}


@dataclass(frozen=True, order=True)
class Rule:
    """One port that is open, to everybody when `source` is empty, else to that network."""

    port: int
    protocol: str
    source: str = ""

    @property
    def family(self) -> str:
        """`ipv4`, `ipv6`, or empty for everybody."""
        return f"ipv{ipaddress.ip_network(self.source).version}" if self.source else ""

    @property
    def match(self) -> str:
        """The match of the source in nftables, with a space behind it."""
        if not self.source:
            return ""
        return f"{'ip' if self.family == 'ipv4' else 'ip6'} saddr {self.source} "


def base(
    server: Server, fleet: Fleet, platform: Platform, templates: Templates, ssh_ports: Sequence[int]
) -> Iterator[Step]:
    """The steps of a managed firewall."""
    backend = platform.host.firewall
    if backend == "nftables":
        unit = templates.render("systemd/panel-firewall.service.j2", {})
        yield steps.file(_UNIT_FILE, Body.of(unit))
    body = Body.of(templates.render(_TEMPLATES[backend], {"rules": rules(server, fleet, ssh_ports)}))
    yield Step("firewall", "node", {"backend": backend, "sha256": body.sha256, "size": body.size}, body)


def rules(server: Server, fleet: Fleet, ssh_ports: Sequence[int]) -> list[Rule]:
    """Everything that is open, sorted, each once."""
    spec = server.spec.firewall
    found = {rule for port in ssh_ports for rule in _each(port, "tcp", spec.ssh_from)}
    found |= {Rule(port, protocol) for port, protocol in _WEB}
    for database in fleet.databases(server.name):
        for source in database.spec.remote_access:
            found.add(Rule(_ENGINES[database.spec.engine], "tcp", source))
    for allowed in spec.allow:
        if allowed.service is not None:
            for port, protocol in SERVICES[allowed.service]:
                found |= set(_each(port, protocol, allowed.from_))
        elif allowed.port is not None:
            found |= set(_each(allowed.port, allowed.protocol, allowed.from_))
    return sorted(found)


def _each(port: int, protocol: str, sources: Sequence[str]) -> list[Rule]:
    return [Rule(port, protocol, source) for source in sources or ("",)]
