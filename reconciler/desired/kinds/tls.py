"""TLS: where a site's certificate comes from, what its visitors are told, and the account that a server asks a CA with."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from reconciler.desired.kinds.common import Duration, Means, Model, within
from reconciler.desired.kinds.secrets import MaySeal, Sealed

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
MOST_NAMES = 100
"""Names that one certificate may have: the limit of Let's Encrypt (letsencrypt.org/docs/rate-limits)."""

_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]{1,40})-----\n[A-Za-z0-9+/=\n]+\n-----END \1-----")


def _certificates(value: str) -> str:
    labels = [match.group(1) for match in _BLOCK.finditer(value)]
    if any(label.endswith("PRIVATE KEY") for label in labels) or "PRIVATE KEY" in value:
        raise ValueError("holds a private key")
    if not labels or set(labels) != {"CERTIFICATE"} or _BLOCK.sub("", value).strip():
        raise ValueError("must be certificates in PEM, one after the other, and nothing else")
    return "\n".join(match.group(0) for match in _BLOCK.finditer(value)) + "\n"


Certificates = Annotated[
    str,
    StringConstraints(max_length=64 * 1024),
    AfterValidator(_certificates),
    Means("certificates in PEM", "-----BEGIN CERTIFICATE----- and so on, as a block scalar"),
]
_KEY_RULE = "a private key in PEM without a passphrase"
KeyText = Annotated[
    str,
    StringConstraints(
        max_length=16 * 1024,
        pattern=r"^\s*-----BEGIN ((RSA|EC) )?PRIVATE KEY-----\n[A-Za-z0-9+/=\n]+\n-----END ((RSA|EC) )?PRIVATE KEY-----\s*$",
    ),
]
PrivateKey = Annotated[
    str | Sealed,
    MaySeal(KeyText, _KEY_RULE, only_sealed=True),
    Means("{age: …}", "", "{age: …}"),
]
Directory = Annotated[
    str,
    StringConstraints(
        max_length=300,
        pattern=r"^https://(\[[0-9a-f:.]{2,45}\]|[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)(:[0-9]{1,5})?/[A-Za-z0-9._~/%-]*$",
    ),
    Means("URL", "an https URL, such as https://acme-v02.api.letsencrypt.org/directory"),
]
Email = Annotated[
    str,
    StringConstraints(
        max_length=254,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9.!#%&'*+/=?^_{|}~-]{0,63}@([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$",
    ),
    Means("e-mail address", "an address such as hosting@example.test", "e-mail addresses"),
]


class Hsts(Model):
    """What browsers are told to remember: this site is only to be visited over TLS."""

    max_age: Annotated[Duration, within("1s", "26280h")] = Field(
        default="8760h",
        description="How long browsers remember it; for that long nobody can visit the site without TLS.",
    )
    include_subdomains: bool = Field(default=False, description="Whether it holds for all subdomains, too.")
    preload: bool = Field(
        default=False,
        description="Whether the site may be built into browsers (hstspreload.org); hard to take back.",
    )


class Tls(Model):
    """Whether and how a site answers over TLS."""

    mode: Literal["off", "selfSigned", "provided", "acme"] = Field(
        default="off",
        description="Where the certificate comes from: `selfSigned` is made on the node, `provided` stands in the manifest, `acme` is asked for at a CA.",
    )
    certificate: Certificates | None = Field(
        default=None,
        description="Certificate of mode `provided`, and behind it those of the CAs between it and the root.",
    )
    key: PrivateKey | None = Field(
        default=None, description="Its private key, encrypted: mode `provided` only."
    )
    force_https: bool = Field(
        default=True, description="Visitors without TLS are sent on to the same address with it (status 308)."
    )
    hsts: Hsts | None = Field(default=None, description="The header `Strict-Transport-Security`, if any.")
    min_version: Literal["1.2", "1.3"] = Field(default="1.2", description="Oldest version of TLS, quoted.")

    @property
    def on(self) -> bool:
        """Whether the site answers over TLS."""
        return self.mode != "off"


class Acme(Model):
    """The account at a CA that speaks ACME (RFC 8555), which the certificates of a server's sites are asked for with."""

    email: Email = Field(description="Where the CA writes to.")
    directory: Directory = Field(default=LETS_ENCRYPT, description="URL of the CA's directory.")
    trust: Certificates | None = Field(
        default=None, description="Root of a private CA's own web server; not needed for a public CA."
    )
