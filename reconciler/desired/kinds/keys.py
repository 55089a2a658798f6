"""Public keys as they may stand in git: those of SSH, and those that sign commits."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import Annotated

from pydantic import AfterValidator, StringConstraints
from pydantic_core import PydanticCustomError

from reconciler.desired.kinds.common import Means

_BEGIN = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
_END = "-----END PGP PUBLIC KEY BLOCK-----"
_PLAIN = r"ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)"
_HELD = r"sk-ssh-ed25519@openssh\.com|sk-ecdsa-sha2-nistp256@openssh\.com"  # on a FIDO token
_BLOB = r"[A-Za-z0-9+/]+=*( [^\x00-\x1f\x7f-\x9f]*)?"
_HEADER = re.compile(r"[A-Za-z]+: ")


def _openssh(value: str) -> str:
    algorithm, blob = value.split(" ")[:2]
    try:
        raw = base64.b64decode(blob, validate=True)
    except binascii.Error:
        raise ValueError("is not valid base64 after the key type; was it cut off?") from None
    # RFC 4253, 6.6: the blob begins with the length and the name of its own key type.
    name = algorithm.encode("ascii")
    if raw[: 4 + len(name)] != len(name).to_bytes(4, "big") + name or len(raw) < 4 + len(name) + 32:
        raise ValueError(f"does not hold a key of type {algorithm}; was it cut off?")
    return value


def is_armored(key: str) -> bool:
    """Whether a signing key is a PGP one."""
    return key.startswith(_BEGIN)


class _Private(ValueError):
    """The packets are those of a private key."""


def _armored(value: str) -> str:
    try:
        _primary(_dearmored(value))
    except _Private:
        raise PydanticCustomError("private_key", "holds a private key") from None
    return "\n".join(line.strip() for line in value.strip().split("\n")) + "\n"


def _dearmored(value: str) -> bytes:
    """The packets in an armored block (RFC 9580, 6.2). ValueError when there is not exactly one whole block."""
    lines = [line.strip() for line in value.strip().split("\n")]
    if lines[0] != _BEGIN or lines[-1] != _END or len(lines) < 3:
        raise ValueError("must hold one whole PGP public key block, from BEGIN to END")
    body = lines[1:-1]
    while body and (not body[0] or _HEADER.match(body[0])):
        del body[0]
    # The checksum in the last line is optional; a base64 line cannot begin with its sign.
    text = "".join(line for line in body if not line.startswith("="))
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("is not valid base64 inside the PGP block; was it cut off?") from None


def _primary(raw: bytes) -> bytes:
    """The body of the first packet, which must be a public key (RFC 9580, 4.2 and 5.5.1.1). ValueError otherwise."""
    cut = ValueError("does not hold a PGP public key; was it cut off?")
    if len(raw) < 6 or not raw[0] & 0x80:
        raise cut
    if raw[0] & 0x40:  # the new form: the tag, then one, two or five octets of length
        tag, first = raw[0] & 0x3F, raw[1]
        if first < 192:
            start, length = 2, first
        elif first < 224:
            start, length = 3, ((first - 192) << 8) + raw[2] + 192
        else:
            start, length = 6, int.from_bytes(raw[2:6], "big")
    else:  # the old form: two bits say how long the length is
        tag, size = (raw[0] >> 2) & 0x0F, 1 << (raw[0] & 0x03)
        start, length = 1 + size, int.from_bytes(raw[1 : 1 + size], "big")
    if tag in (5, 7):
        raise _Private("holds a private key")
    body = raw[start : start + length]
    if tag != 6 or not body or len(body) < length or body[0] not in (4, 5, 6):
        raise cut
    return body


def signing_fingerprint(key: str) -> str:
    """What tells one signing key from another: `SHA256:…` as `ssh-keygen -l` prints it, or a PGP key's fingerprint.

    The fingerprint is that of the primary key, in upper-case hexadecimal (RFC 9580, 5.5.4), so one key exported twice
    with different signatures has one. ValueError when the text is no key.
    """
    if not is_armored(key):
        blob = hashlib.sha256(base64.b64decode(key.split(" ")[1])).digest()
        return f"SHA256:{base64.b64encode(blob).decode('ascii').rstrip('=')}"
    body = _primary(_dearmored(key))
    match body[0]:
        case 4:
            head, digest = b"\x99" + len(body).to_bytes(2, "big"), "sha1"
        case 5:
            head, digest = b"\x9a" + len(body).to_bytes(4, "big"), "sha256"
        case _:
            head, digest = b"\x9b" + len(body).to_bytes(4, "big"), "sha256"
    return hashlib.new(digest, head + body, usedforsecurity=False).hexdigest().upper()


def _signing(value: str) -> str:
    return _armored(value) if is_armored(value) else _openssh(value)


PublicKey = Annotated[
    str,
    StringConstraints(max_length=8192, pattern=rf"^({_PLAIN}) {_BLOB}$"),
    AfterValidator(_openssh),
    Means(
        "public key",
        "one line in OpenSSH form: ssh-ed25519, ssh-rsa or ecdsa-sha2-nistp…, and the key in base64",
    ),
]
SigningKey = Annotated[
    str,
    StringConstraints(
        max_length=65536, pattern=rf"^(({_PLAIN}|{_HELD}) {_BLOB}|{_BEGIN}\r?\n[\x20-\x7e\r\n]+{_END}\s*)$"
    ),
    AfterValidator(_signing),
    Means(
        "signing key",
        "one line in OpenSSH form (ssh-ed25519, sk-ssh-ed25519@openssh.com, …), or a whole armored PGP public key",
    ),
]
