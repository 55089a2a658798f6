"""Whether a webhook comes from who knows the fleet's secret: judged over the raw bytes, before anything is parsed.

Each forge has one header that decides; a wrong one is not rescued by another one that fits. Sources: GitHub's
X-Hub-Signature-256, Gitea services/webhook/deliver.go (X-Gitea-Signature), Forgejo's X-Forgejo-Signature, GitLab's
X-Gitlab-Token or its signing token, https://github.com/standard-webhooks/standard-webhooks, Flux's generic-hmac.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from starlette.datastructures import Headers

from reconciler.kit.secret import Secret

Forge = Literal["github", "gitlab", "gitea", "forgejo", "generic"]
FORGES: tuple[Forge, ...] = get_args(Forge)

TOLERANCE = 300.0
"""Seconds by which the time of a Standard Webhooks message may differ from ours; the specification leaves it open."""

_PREFIX = "whsec_"
_SIGNATURES = 16  # more than a rotation of keys needs
_ID = re.compile(r"[!-\-/-~]{1,256}")  # no dot: it separates the parts of what is signed
_SECONDS = re.compile(r"[0-9]{1,12}")
_HEX = re.compile(r"[0-9a-fA-F]+")
_HASHES = {
    "sha224": hashlib.sha224,
    "sha256": hashlib.sha256,
    "sha384": hashlib.sha384,
    "sha512": hashlib.sha512,
}
_DELIVERY = {
    "github": "x-github-delivery",
    "gitlab": "idempotency-key",
    "gitea": "x-gitea-delivery",
    "forgejo": "x-forgejo-delivery",
}


class Refused(Exception):
    """The message is not proven to come from who knows the secret. The text is for our log, not for the sender."""


@dataclass(frozen=True)
class Proven:
    """A message that is. `marks` identify the delivery: one that bears a mark known already is a replay."""

    marks: tuple[str, ...]


def verify_any(
    forge: Forge, headers: Headers, body: bytes, secrets: Sequence[Secret], now: datetime
) -> Proven:
    """As `verify`, by whichever of `secrets` the sender knows; there are several while one is being replaced."""
    why = Refused("no secret is known")
    for secret in secrets:
        try:
            return verify(forge, headers, body, secret, now)
        except Refused as refused:
            why = refused
    raise why


def verify(forge: Forge, headers: Headers, body: bytes, secret: Secret, now: datetime) -> Proven:
    """Judges a message. Refused when it is not proven; ValueError when `secret` is unusable."""
    if not secret.reveal():
        raise ValueError("the webhook's secret is empty")
    match forge:
        case "github":
            _check_tagged(_only(headers, "x-hub-signature-256"), body, secret, ("sha256",))
        case "gitea":
            _check_hex(_only(headers, "x-gitea-signature"), body, secret, "sha256")
        case "forgejo":
            _check_hex(_only(headers, "x-forgejo-signature"), body, secret, "sha256")
        case "gitlab" | "generic" if "webhook-signature" in headers:
            return _standard(headers, body, secret, now)
        case "gitlab":
            if secret.reveal().startswith(_PREFIX):  # a signing key never travels, so this is not its holder
                raise Refused("no webhook-signature, though the secret is a signing token")
            if not hmac.compare_digest(_bytes(_only(headers, "x-gitlab-token")), secret.reveal().encode()):
                raise Refused("another X-Gitlab-Token")
        case "generic":
            _check_tagged(_only(headers, "x-signature"), body, secret, tuple(_HASHES))
            return Proven(())  # neither an id nor a time is in it
    # the id is not signed, so a replay could bear another one; the body of a push is never the same twice
    found = headers.get(_DELIVERY[forge], "")
    delivery = (f"id:{found}",) if _ID.fullmatch(found) else ()
    return Proven((*delivery, f"body:{hashlib.sha256(body).hexdigest()}"))


def _standard(headers: Headers, body: bytes, secret: Secret, now: datetime) -> Proven:
    message = _only(headers, "webhook-id")
    seconds = _only(headers, "webhook-timestamp")
    given = _only(headers, "webhook-signature").split(" ")
    if not _ID.fullmatch(message) or not _SECONDS.fullmatch(seconds) or len(given) > _SIGNATURES:
        raise Refused("malformed webhook-id, webhook-timestamp or webhook-signature")
    signed = b".".join((message.encode(), seconds.encode(), body))
    right = b"v1," + base64.b64encode(hmac.digest(_key(secret), signed, "sha256"))
    fits = [hmac.compare_digest(_bytes(one), right) for one in given]  # all of them, whichever fits
    if not any(fits):
        raise Refused("another webhook-signature")
    if abs(now.timestamp() - int(seconds)) > TOLERANCE:
        raise Refused("webhook-timestamp is too far from our time")
    return Proven((f"id:{message}",))


def _check_tagged(given: str, body: bytes, secret: Secret, allowed: tuple[str, ...]) -> None:
    name, _, digest = given.partition("=")
    if name not in allowed:
        raise Refused("a signature of another kind")
    _check_hex(digest, body, secret, name)


def _check_hex(given: str, body: bytes, secret: Secret, name: str) -> None:
    right = hmac.new(_key(secret), body, _HASHES[name]).hexdigest()
    if not _HEX.fullmatch(given) or not hmac.compare_digest(given.lower(), right):
        raise Refused("another signature")


def _only(headers: Headers, name: str) -> str:
    found = headers.getlist(name)
    if len(found) != 1:
        raise Refused(f"{'no' if not found else 'more than one'} {name}")
    return found[0]


def _key(secret: Secret) -> bytes:
    text = secret.reveal()
    if not text.startswith(_PREFIX):
        return text.encode()
    try:
        return base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        raise ValueError(f"the webhook's secret begins with {_PREFIX} but does not go on in base64") from None


def _bytes(header: str) -> bytes:
    return header.encode("utf-8", "surrogateescape")
