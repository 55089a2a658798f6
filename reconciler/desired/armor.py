"""The armored form of a file that age has encrypted, as text: its header read and judged without any key. Pure.

The format is that of https://c2sp.org/age: PEM-like armor of strict base64 in lines of 64, in it a textual header with a
stanza for each recipient, then the ciphertext. What a hostile text could ask for later (a passphrase of any cost, header
without end) is refused here, before a cryptographic library sees it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

BEGIN = "-----BEGIN AGE ENCRYPTED FILE-----"
END = "-----END AGE ENCRYPTED FILE-----"
MAX_CHARACTERS = 64 * 1024
"""Of the armored text: a certificate's key for 32 recipients needs a tenth of it."""
MAX_RECIPIENTS = 32

_INTRO = b"age-encryption.org/v1\n"
_STANZA = re.compile(rb"-> ([\x21-\x7e]+)((?: [\x21-\x7e]+)*)")
_MAC = re.compile(rb"--- [A-Za-z0-9+/]{43}")
_COLUMNS = 64
_LEAST = 16 + 16
"""Bytes behind the header: a nonce, and the tag of an empty payload."""
_OURS = "X25519"
_HOW = "make it with `reconciler secrets encrypt`, or `age --armor -r age1…`"


@dataclass(frozen=True)
class Armored:
    """An armored text that is well-formed. `text` is its one spelling, `digest` the SHA-256 of the encrypted file."""

    text: str
    digest: str
    recipients: tuple[str, ...]
    """The types of its recipients, such as `X25519` and `ssh-ed25519`."""


def read(text: str) -> Armored:
    """The armored file in `text`, with blanks around it or without. ValueError, worded to follow a field's name."""
    if len(text) > MAX_CHARACTERS:
        raise ValueError(
            f"has {len(text)} characters; what age encrypted for a manifest has at most {MAX_CHARACTERS}"
        )
    lines = [line.rstrip() for line in text.strip().splitlines()]
    if len(lines) < 3 or lines[0] != BEGIN or lines[-1] != END:
        raise ValueError(
            f"is no armored age file, which begins with `{BEGIN}` and ends with `{END}`; {_HOW}, "
            "and write it as a block (`age: |`)"
        )
    binary = _decoded(lines[1:-1])
    types = _header(binary)
    if "scrypt" in types:
        raise ValueError(
            f"is encrypted with a passphrase, for which nobody can be asked here; encrypt it for a public key: {_HOW}"
        )
    if _OURS not in types:
        raise ValueError(f"is not encrypted for any public key of the form age1…; {_HOW}")
    return Armored("\n".join([*lines, ""]), hashlib.sha256(binary).hexdigest(), types)


def _decoded(lines: list[str]) -> bytes:
    full = all(len(line) == _COLUMNS for line in lines[:-1]) and 0 < len(lines[-1]) <= _COLUMNS
    try:
        binary = base64.b64decode("".join(lines), validate=True) if full else None
    except (binascii.Error, ValueError):  # ValueError: not ASCII
        binary = None
    if binary is None:
        raise ValueError("is damaged: between its first and last line is base64 in lines of 64")
    return binary


def _header(binary: bytes) -> tuple[str, ...]:
    """The types of the stanzas. ValueError when it is no header, or there is nothing behind it."""
    if not binary.startswith(_INTRO):
        raise ValueError("does not hold a file of age's format v1")
    types: list[str] = []
    place = len(_INTRO)
    while True:
        end = binary.find(b"\n", place)
        line = binary[place:end] if end >= 0 else b""
        if _MAC.fullmatch(line):
            break
        found = _STANZA.fullmatch(line)
        if found is None:
            raise ValueError("is damaged: its header cannot be read")
        types.append(found[1].decode("ascii"))
        if len(types) > MAX_RECIPIENTS:
            raise ValueError(f"is encrypted for more than {MAX_RECIPIENTS} recipients")
        place = _body(binary, end + 1)
    if not types or len(binary) - end - 1 < _LEAST:
        raise ValueError("is damaged: it was cut off")
    return tuple(types)


def _body(binary: bytes, place: int) -> int:
    """Where the next stanza begins: a body ends with a line of fewer than 64 characters, which may be empty."""
    while (end := binary.find(b"\n", place)) >= 0:
        if end - place > _COLUMNS:
            break
        short = end - place < _COLUMNS
        place = end + 1
        if short:
            return place
    raise ValueError("is damaged: its header cannot be read")
