"""One byte form for a JSON value, so that equal values have equal digests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]


def dumps(value: Json) -> bytes:
    """Canonical JSON: sorted keys, no blanks, UTF-8. Raises ValueError for NaN and infinities."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def digest(value: Json) -> str:
    """Lower-case hexadecimal sha256 of the canonical JSON."""
    return hashlib.sha256(dumps(value)).hexdigest()
