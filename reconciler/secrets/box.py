"""Seals texts with AES-256-GCM and binds each to the place where it is stored.

The associated data of a sealed value is `table/row-id/column/key-version`, so a value that was copied to another row,
another column or under another key does not open. The nonce is 96 random bits, which is safe for far more writes
under one key than this database will see (2^32, NIST SP 800-38D 8.3).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from reconciler.errors import WrongKey
from reconciler.kit.secret import Secret

KEY_BYTES = 32
_NONCE_BYTES = 12
_FORMAT = "v1"
_PART = re.compile(r"[a-z0-9_]+|[0-7][0-9A-HJKMNP-TV-Z]{25}")
_HINT = (
    "put back the APP_KEY this state was made with (older keys may follow the current one, separated by commas), "
    "or restore a backup if the database was altered"
)


def version_of(key: bytes) -> str:
    """The version of a key: 8 hexadecimal digits made from the key itself, so it needs no counter and tells nothing."""
    return hmac.new(key, b"reconciler key version", hashlib.sha256).hexdigest()[:8]


class Box:
    """Seals and opens texts. The first key seals; every key opens what was sealed with it.

    `keys` are 32 bytes each; ValueError for another length or for no key at all.
    """

    __slots__ = ("_ciphers", "version")

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise ValueError("a box needs at least one key of 32 bytes")
        self._ciphers = {version_of(key): AESGCM(key) for key in keys}
        self.version = version_of(keys[0])

    def __repr__(self) -> str:
        return f"Box(version={self.version!r}, keys={len(self._ciphers)})"

    def seal(self, plain: Secret | str, *, table: str, row_id: str, column: str) -> str:
        """`v1.<key version>.<nonce>.<ciphertext>`, both in unpadded URL-safe base64, for this one place only."""
        text = plain.reveal() if isinstance(plain, Secret) else plain
        nonce = os.urandom(_NONCE_BYTES)
        data = _associated(table, row_id, column, self.version)
        sealed = self._ciphers[self.version].encrypt(nonce, text.encode("utf-8"), data)
        return f"{_FORMAT}.{self.version}.{_encode(nonce)}.{_encode(sealed)}"

    def open(self, sealed: str, *, table: str, row_id: str, column: str) -> Secret:
        """The text sealed for this place. WrongKey when no key fits, or the value was altered or moved."""
        where = f"{table}/{row_id}/{column}"
        parts = sealed.split(".")
        if len(parts) != 4 or parts[0] != _FORMAT:
            raise WrongKey(f"{where} does not hold a sealed value", hint=_HINT)
        _, version, nonce, body = parts
        cipher = self._ciphers.get(version)
        if cipher is None:
            have = ", ".join(self._ciphers)
            raise WrongKey(
                f"{where} was sealed with key {version}, but APP_KEY holds only {have}", hint=_HINT
            )
        data = _associated(table, row_id, column, version)
        try:
            return Secret(cipher.decrypt(_decode(nonce), _decode(body), data).decode("utf-8"))
        except (InvalidTag, ValueError):
            # `from None`: the cause could carry pieces of the value
            raise WrongKey(f"{where} does not open: it was altered or moved here", hint=_HINT) from None

    def current(self, sealed: str) -> bool:
        """Whether `sealed` was sealed with the first key, so that a rotation has nothing to do for it."""
        return sealed.startswith(f"{_FORMAT}.{self.version}.")


def _associated(table: str, row_id: str, column: str, version: str) -> bytes:
    parts = (table, row_id, column, version)
    # a slash inside a part would let two places share one text
    if not all(_PART.fullmatch(part) for part in parts):
        raise ValueError(f"not a place in the database: {'/'.join(parts)}")
    return "/".join(parts).encode("ascii")


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
