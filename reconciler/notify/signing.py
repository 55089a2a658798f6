"""Signatures of Standard Webhooks: HMAC-SHA256 over `id.timestamp.body`, so that a receiver knows who sent it and when.

Source: the specification at https://github.com/standard-webhooks/standard-webhooks, "Signature scheme".
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

from reconciler.kit.secret import Secret

PREFIX = "whsec_"


def key_bytes(secret: Secret) -> bytes:
    """The key: what follows `whsec_` decoded from base64, or else the text itself. ValueError says what is wrong."""
    text = secret.reveal().strip()
    if not text.startswith(PREFIX):
        if not text:
            raise ValueError("is empty")
        return text.encode("utf-8", "surrogatepass")
    encoded = text.removeprefix(PREFIX)
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except binascii.Error:
        raise ValueError(f"is not base64 after {PREFIX!r}; was it cut off?") from None
    if not key:
        raise ValueError(f"is empty after {PREFIX!r}")
    return key


def signatures(keys: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`: one `v1,<base64>` for each key, with a space between them."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return " ".join(
        "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode("ascii")
        for key in keys
    )


def headers(keys: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers of a message; without keys it is not signed. `timestamp` is in seconds since 1970."""
    found = {"webhook-id": message_id, "webhook-timestamp": str(timestamp)}
    if keys:
        found["webhook-signature"] = signatures(keys, message_id, timestamp, body)
    return found
