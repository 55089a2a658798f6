"""One byte form of a JSON value, the same as the daemon's, so that equal bundles have equal digests."""

import hashlib
import json
from typing import Any


def dumps(value: Any) -> bytes:
    """Canonical JSON: sorted keys, no blanks, UTF-8. Raises ValueError for NaN and infinities."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def digest(value: Any) -> str:
    """Lower-case hexadecimal sha256 of the canonical JSON."""
    return hashlib.sha256(dumps(value)).hexdigest()


def _no_constant(name: str) -> Any:
    raise ValueError("{} is not JSON".format(name))


def loads(data: bytes) -> Any:
    """Parse strict UTF-8 JSON. Raises ValueError, also for NaN, bad UTF-8 and endless nesting."""
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None
