"""ULIDs: sortable ids, 26 characters of Crockford's base 32."""

from __future__ import annotations

import re

from ulid import ULID

_FORM = re.compile(r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$")


def new() -> str:
    """A new ULID; ids made later in one process sort later (to the millisecond)."""
    return str(ULID())


def valid(text: str) -> bool:
    """Whether `text` is a ULID in canonical upper-case form."""
    return _FORM.match(text) is not None
