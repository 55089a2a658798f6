"""What a certificate of a manifest says: whether it can be read, which names it is for, when it ends, whose key it holds."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import timedelta
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from reconciler.desired.findings import Finding, Path
from reconciler.desired.kinds import Site
from reconciler.desired.kinds.secrets import Sealed
from reconciler.kit.clock import Clock, stamp, utc_now
from reconciler.kit.secret import Secret
from reconciler.kit.text import count

CERTIFICATE: Path = ("spec", "tls", "certificate")
KEY: Path = ("spec", "tls", "key")
SOON = timedelta(days=21)
"""How long before its end a certificate is warned of."""


def check(pem: str, names: Collection[str], clock: Clock = utc_now) -> Iterator[Finding]:
    """What is wrong with a certificate and its chain for a site of these names."""
    try:
        chain = x509.load_pem_x509_certificates(pem.encode("utf-8"))
    except ValueError:
        message = "spec.tls.certificate cannot be read: what stands between BEGIN and END is no certificate"
        yield Finding(CERTIFICATE, "bad-certificate", message, "copy it again, all lines of it")
        return
    yield from _chain(chain)
    leaf, now = chain[0], clock()
    covered = names_of(leaf)
    missing = [name for name in names if not any(covers(pattern, name) for pattern in covered)]
    if missing:
        good_for = ", ".join(covered[:5]) or "no name at all"
        message = f"spec.tls.certificate is not for {', '.join(missing)}; it is for {good_for}"
        hint = "have one issued for all names of the site, or remove those from the site"
        yield Finding(CERTIFICATE, "certificate-names", message, hint)
    end = leaf.not_valid_after_utc
    if end <= now:
        message = f"spec.tls.certificate expired at {stamp(end)}"
        yield Finding(CERTIFICATE, "certificate-expired", message, "replace it and its key")
    elif leaf.not_valid_before_utc > now:
        message = f"spec.tls.certificate is not valid before {stamp(leaf.not_valid_before_utc)}"
        yield Finding(CERTIFICATE, "certificate-expired", message, "commit it when it is")
    elif end - now < SOON:
        left = count((end - now) // timedelta(days=1), "day")
        message = f"spec.tls.certificate ends in {left}, at {stamp(end)}"
        yield Finding(CERTIFICATE, "certificate-ends", message, "replace it and its key", severity="warning")


def _chain(chain: list[x509.Certificate]) -> Iterator[Finding]:
    """Whether each certificate is signed by the next one, as TLS wants them (RFC 8446, 4.4.2; RFC 5246, 7.4.2)."""
    for place, (below, above) in enumerate(pairwise(chain), start=1):
        try:
            below.verify_directly_issued_by(above)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            message = f"spec.tls.certificate: number {place} is not issued by number {place + 1}"
            hint = "put the site's certificate first, and behind each the one of its issuer"
            yield Finding(CERTIFICATE, "certificate-chain", message, hint)
            return


def key_finding(site: Site) -> Finding | None:
    """Whether the private key of an opened site is not that of its certificate; None when they fit, or one is missing."""
    tls = site.spec.tls
    if tls.certificate is None or not isinstance(tls.key, Sealed) or tls.key.opened is None:
        return None
    try:
        leaf = x509.load_pem_x509_certificates(tls.certificate.encode("utf-8"))[0]
        same = _public(tls.key.opened) == leaf.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
    except (ValueError, TypeError, UnsupportedAlgorithm):
        message = "spec.tls.key opens, but no private key can be read from it"
        return Finding(KEY, "key-mismatch", message, "encrypt the key again: PEM, without a passphrase")
    if same:
        return None
    message = "spec.tls.key is not the key of spec.tls.certificate"
    return Finding(KEY, "key-mismatch", message, "write the two that belong together")


def _public(key: Secret) -> bytes:
    loaded = load_pem_private_key(key.reveal().encode("utf-8"), password=None)
    return loaded.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def names_of(certificate: x509.Certificate) -> list[str]:
    """The host names of a certificate: those in its subject alone have not counted since RFC 6125."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return extension.value.get_values_for_type(x509.DNSName)


def covers(pattern: str, name: str) -> bool:
    """Whether a name in a certificate stands for a host name: `*` is one whole label, the first (RFC 6125, 6.4.3)."""
    pattern, name = pattern.lower().rstrip("."), name.lower().rstrip(".")
    if pattern.startswith("*."):
        first, _, rest = name.partition(".")
        return bool(first) and "." in rest and rest == pattern[2:]
    return pattern == name
