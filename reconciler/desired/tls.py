"""Rules of TLS that a field's type cannot say. Pure, but for the day on which a certificate ends."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.desired.findings import Finding, Path
from reconciler.desired.kinds import Server, Site
from reconciler.desired.kinds.tls import LETS_ENCRYPT, MOST_NAMES
from reconciler.desired.scalars import seconds
from reconciler.kit.text import count

_TLS: Path = ("spec", "tls")
_YEAR = 365 * 86400.0
_NOT_PUBLIC = frozenset(
    {
        "test",
        "example",
        "invalid",
        "localhost",
        "local",
        "internal",
        "lan",
        "home",
        "corp",
        "intranet",
        "arpa",
    }
)
"""Last labels of names that no public CA gives a certificate for (RFC 2606, 6761, 6762; ICANN's reserved ones)."""


def check(site: Site) -> Iterator[Finding]:
    """What is wrong with the TLS of a site by itself."""
    tls = site.spec.tls
    yield from _fields(site)
    if tls.mode == "provided" and tls.certificate is not None:
        from reconciler.desired import certificates  # noqa: PLC0415 - cryptography is slow to import

        yield from certificates.check(tls.certificate, site.spec.hosts)
    if tls.mode == "acme" and len(site.spec.hosts) > MOST_NAMES:
        message = f"the site has {len(site.spec.hosts)} names, and one certificate may have {MOST_NAMES}"
        yield Finding((*_TLS, "mode"), "too-many-names", message, "split the site, or remove aliases")
    if tls.hsts is not None:
        short = seconds(tls.hsts.max_age) < _YEAR
        if tls.hsts.preload and (short or not tls.hsts.include_subdomains):
            message = "spec.tls.hsts.preload needs includeSubdomains, and a maxAge of a year (8760h) or more"
            yield Finding((*_TLS, "hsts", "preload"), "bad-value", message, "set both, or remove preload")
        for name in site.spec.headers:
            if name.lower() == "strict-transport-security":
                message = f"{name} is set by spec.tls.hsts"
                path = ("spec", "headers", name)
                yield Finding(path, "reserved-header", message, "remove one of them", at_key=True)


def _fields(site: Site) -> Iterator[Finding]:
    """What a mode needs, and what means nothing to it."""
    tls = site.spec.tls
    own = {"certificate": tls.certificate, "key": tls.key}
    for name, value in own.items():
        if tls.mode == "provided" and value is None:
            message = f"spec.tls.{name} is missing: mode provided takes it from the manifest"
            hint = {
                "certificate": "write the certificate and those of its CAs, in PEM",
                "key": "write what `reconciler secrets encrypt` makes of the private key",
            }[name]
            yield Finding((*_TLS, name), "missing-field", message, hint)
        elif tls.mode != "provided" and value is not None:
            message = f"spec.tls.{name} means nothing to mode {tls.mode}"
            yield Finding(
                (*_TLS, name), "other-tls-mode", message, "remove it, or write `mode: provided`", at_key=True
            )
    if not tls.on:
        for name, spelling in (
            ("force_https", "forceHttps"),
            ("hsts", "hsts"),
            ("min_version", "minVersion"),
        ):
            # a default that is written out, as in a manifest made from the record, promises nothing
            if getattr(tls, name) != type(tls).model_fields[name].default:
                message = f"spec.tls.{spelling} means nothing while spec.tls.mode is off"
                hint = "remove it, or choose a mode"
                yield Finding((*_TLS, spelling), "other-tls-mode", message, hint, at_key=True)


def offers(site: Site, server: Server) -> Iterator[Finding]:
    """Whether the server of a site can ask for its certificate."""
    if site.spec.tls.mode != "acme":
        return
    path: Path = (*_TLS, "mode")
    if server.spec.acme is None:
        message = f"Server/{server.name} has no account at a CA"
        hint = "add `acme: {email: …}` to the server's spec"
        yield Finding(path, "no-acme-account", message, hint)
        return
    if server.spec.acme.directory != LETS_ENCRYPT:
        return
    private = [name for name in site.spec.hosts if name.rpartition(".")[2] in _NOT_PUBLIC]
    if private:
        shown = ", ".join(private[:3])
        more = f" and {count(len(private) - 3, 'more', 'more')}" if len(private) > 3 else ""
        message = f"Let's Encrypt gives no certificate for {shown}{more}: no public names"
        hint = "write selfSigned, or the directory of a private CA into the server's spec.acme"
        yield Finding(path, "name-not-public", message, hint, severity="warning")
