"""caddy: its base configuration, and the virtual host of one site. It means what nginx's means: docs/webservers.md."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from typing import assert_never

from reconciler.blueprint import answers, escape, selinux, steps, tls, vhost
from reconciler.blueprint.answers import Rule
from reconciler.blueprint.model import Body, Step
from reconciler.blueprint.places import WEBROOT, Places
from reconciler.blueprint.templates import Templates
from reconciler.desired.kinds import Site
from reconciler.desired.kinds.serving import Redirect
from reconciler.platforms import Caddy, Nginx

SITES = "/etc/panel/caddy"
UNIT_FOLDER = "/etc/systemd/system/caddy.service.d"
DROP_IN = f"{UNIT_FOLDER}/panel-caddy.conf"
GRACE = 30
"""Seconds that a reload leaves to answers that are under way."""


def base(caddy: Caddy, nginx: Nginx, templates: Templates, *, protected: bool) -> Iterator[Step]:
    """The file that brings the sites in and answers for hosts that no site declares, the folders, and the unit.

    `protected`: the node has our SELinux policy.
    """
    # first, so that nginx goes on reaching the sites until caddy answers instead
    yield steps.web_server(caddy.unit, caddy.user, instead_of=nginx.unit, other_user=nginx.user)
    yield steps.directory(SITES)
    yield from selinux.web_server(caddy.unit, (), templates) if protected else (steps.directory(UNIT_FOLDER),)
    drop_in = templates.render("systemd/caddy.conf.j2", {"stop": GRACE + 10})
    yield steps.file(DROP_IN, Body.of(drop_in))
    yield steps.directory(caddy.logs, owner=caddy.user, group=caddy.group, mode="0750")
    values = {"admin": caddy.admin, "grace": GRACE, "sites": SITES, "webroot": WEBROOT}
    yield steps.file(
        caddy.config,
        Body.of(templates.render("caddy/Caddyfile.j2", values)),
        validate={"type": "caddy"},
    )
    # by prefix, so that the server's section stays as it is when sites come and go
    yield steps.unit(
        caddy.unit,
        reload_on=(f"file:{SITES}/*", f"file:{caddy.config}", *tls.CHANGES),
        restart_on=(f"file:{DROP_IN}", *((f"file:{selinux.drop_in(caddy.unit)}",) if protected else ())),
    )


def virtual_host(site: Site, places: Places, templates: Templates) -> Iterator[Step]:
    """The file of the virtual host."""
    body = Body.of(templates.render(_template(site), _values(site, places, templates)))
    yield steps.file(f"{SITES}/{places.site}.caddy", body, validate={"type": "caddy"})


def _values(site: Site, places: Places, templates: Templates) -> dict[str, object]:
    spec = site.spec
    trusted = spec.client_address.trusted_proxies
    values = vhost.values(site, places, templates)
    values["redirects"] = redirects(spec.redirects)
    values["added"] = answers.headers(spec.headers, places.user)
    values["xff"] = visitor(trusted)
    if spec.proxy is not None:
        values["upstream"] = _upstream(spec.proxy.upstream, places)
    return values


def redirects(declared: Sequence[Redirect]) -> tuple[Rule, ...]:
    """The redirects in their order, as `reconciler.blueprint.answers.rules` means them.

    Go's regular expressions cannot look ahead, so that the challenge of a certificate is let through by a rule of its own.
    `to` holds what caddy puts for the groups of `pattern`.
    """
    found: list[Rule] = []
    for redirect in declared:
        prefix, star, _ = redirect.from_.partition("*")
        if prefix == "/" and star:
            found.append(Rule(r"^/\.well-known/acme-challenge/", "-", 0, rest=False, query=False))
        (rule,) = answers.rules([redirect])
        literal = "^" + re.escape(prefix)
        escape.caddy(rule.to)  # the groups are behind it only when it can stand there itself
        to = rule.to + ("${1}" if rule.rest else "")
        pattern = rf"{literal}[/\\]*([^?#]*)(\?[^#]*)?" if star else rf"{literal}()(\?[^#]*)?(?:#.*)?$"
        found.append(Rule(pattern, to + ("${2}" if rule.query else ""), rule.status, rule.rest, rule.query))
    return tuple(found)


def visitor(trusted: Sequence[str]) -> str:
    """A regular expression over X-Forwarded-For whose first group is the last address that none of `trusted` has.

    An IPv6 address of a load balancer that is written in an unusual way is taken for the visitor's; never the other way round.
    """
    address = r"([0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*)"
    known = "|".join(_network(ipaddress.ip_network(text)) for text in trusted) or r"[^\s\S]"
    return rf"^(?:.*?,)??\s*{address}\s*(?:,\s*(?:{known})\s*)*$"


def _network(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str:
    """The addresses of a network as people write them."""
    if network.version == 4:
        octets = [int(part) for part in str(network.network_address).split(".")]
        whole, bits = divmod(network.prefixlen, 8)
        written = [str(octet) for octet in octets[:whole]]
        if bits:
            some = (str(octets[whole] + n) for n in range(1 << (8 - bits)))
            written.append(f"(?:{'|'.join(some)})")
        return r"\.".join([*written, *["[0-9]{1,3}"] * (4 - len(written))])
    if network.prefixlen == 128:
        return f"(?i:{re.escape(str(network.network_address))})"
    groups = network.network_address.exploded.split(":")
    whole, bits = divmod(network.prefixlen, 16)
    written = [f"0{{0,3}}{int(group, 16):x}" for group in groups[:whole]]
    if bits:
        written.append(_begins(groups[whole], bits))
    return f"(?i:{':'.join([*written, '[0-9a-f:.]*'])})"


def _begins(group: str, bits: int) -> str:
    """Four hexadecimal digits of which the first `bits` bits are those of `group`, none left out."""
    whole, rest = divmod(bits, 4)
    pattern = group[:whole]
    if rest:
        first = int(group[whole], 16)
        pattern += f"[{''.join(f'{first + n:x}' for n in range(1 << (4 - rest)))}]"
    return pattern + f"[0-9a-f]{{{4 - whole - bool(rest)}}}"


def _upstream(upstream: str, places: Places) -> str:
    """As `reverse_proxy` takes it; the path of a socket is below the home when it is not absolute."""
    if not upstream.startswith("unix:"):
        return upstream.removeprefix("http://")
    path = upstream.removeprefix("unix:")
    return f"unix/{path}" if path.startswith("/") else f"unix/{places.home}/{path}"


def _template(site: Site) -> str:
    if site.spec.state == "suspended":
        return "caddy/suspended.caddy.j2"
    match site.spec.app_type:
        case "wordpress":
            return "caddy/wordpress.caddy.j2"
        case "laravel":
            return "caddy/laravel.caddy.j2"
        case "generic":
            return "caddy/generic.caddy.j2"
        case "static":
            return "caddy/static.caddy.j2"
        case "proxy":
            return "caddy/proxy.caddy.j2"
        case _:
            assert_never(site.spec.app_type)
