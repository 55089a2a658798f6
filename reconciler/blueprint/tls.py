"""Certificates: what a server needs to ask for them, where each site's comes from, what its visitors are told."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.blueprint import steps
from reconciler.blueprint.model import Body, Step
from reconciler.blueprint.places import TLS, WEBROOT, Places
from reconciler.blueprint.templates import Templates
from reconciler.desired.kinds import Server, Site
from reconciler.desired.kinds.secrets import clear
from reconciler.desired.kinds.tls import Acme, Tls
from reconciler.desired.scalars import seconds
from reconciler.kit.canonical import Json
from reconciler.platforms import Nginx, Platform, WebServer

ACME = "/etc/panel/acme"
DEPLOY = f"{ACME}/deploy"
TRUST = f"{ACME}/trust.pem"
SINK = f"{TLS}/_"
"""The certificate that is shown for hosts that have none, where a web server must show one. No site is called so."""
CHANGES = ("certificate:*", f"file:{TLS}/*")
"""Steps after which a web server has to read certificates again; as `reload_on` takes them."""


def server(found: Server, platform: Platform, templates: Templates) -> Iterator[Step]:
    """The folders of certificates and, for a server that asks a CA, of its challenges; what renews, and what happens then."""
    yield steps.directory(TLS, mode="0711")
    if found.spec.acme is None:
        return
    web = platform.web(found.spec.web_server)
    yield steps.directory(WEBROOT.rpartition("/")[0])
    yield steps.directory(WEBROOT)
    yield steps.directory(ACME)
    values = {"tls": TLS, "group": key_group(web), "unit": web.unit}
    yield steps.file(DEPLOY, Body.of(templates.render("acme/deploy.sh.j2", values)), mode="0755")
    if found.spec.acme.trust is not None:
        yield steps.file(TRUST, Body.of(found.spec.acme.trust))
        drop_in = f"/etc/systemd/system/{platform.certbot.service}.d"
        text = templates.render("systemd/certbot-trust.conf.j2", {"trust": TRUST})
        yield steps.directory(drop_in)
        yield steps.file(f"{drop_in}/panel-trust.conf", Body.of(text))
    yield steps.unit(platform.certbot.timer)


def sink(unit: str) -> Iterator[Step]:
    """A certificate of no site, for web servers that cannot refuse a handshake."""
    yield steps.directory(SINK, mode="0700")
    yield steps.certificate("_", names=("invalid.invalid",), group="root", unit=unit)


def certificate(site: Site, found: Server, places: Places) -> Iterator[Step]:
    """The site's certificate and key, before the virtual host that names them."""
    spec = site.spec.tls
    if not spec.on:
        return
    group = key_group(places.web)
    yield steps.directory(places.tls, group=group, mode="0750")
    match spec.mode:
        case "provided":
            yield steps.file(places.certificate, Body.of(spec.certificate or ""), group=group, mode="0640")
            key = Body.of(clear(spec.key or ""))
            yield steps.file(places.certificate_key, key, group=group, mode="0640")
        case "acme":
            if found.spec.acme is None:
                raise ValueError(f"{site.address}: {found.address} has no account at a CA")
            account = _account(found.spec.acme)
            yield steps.certificate(
                site.name, names=site.spec.hosts, group=group, unit=places.web.unit, acme=account
            )
        case _:
            yield steps.certificate(site.name, names=site.spec.hosts, group=group, unit=places.web.unit)


def key_group(web: WebServer) -> str:
    """The group that reads private keys: nginx reads them as root, others as what they run as."""
    return "root" if isinstance(web, Nginx) else web.group


def _account(acme: Acme) -> dict[str, Json]:
    return {"email": acme.email, "directory": acme.directory, "trust": acme.trust is not None}


def hsts(tls: Tls) -> str:
    """The value of `Strict-Transport-Security` (RFC 6797, 6.1), or an empty text."""
    if not tls.on or tls.hsts is None:
        return ""
    words = [f"max-age={int(seconds(tls.hsts.max_age))}"]
    words += ["includeSubDomains"] if tls.hsts.include_subdomains else []
    words += ["preload"] if tls.hsts.preload else []
    return "; ".join(words)
