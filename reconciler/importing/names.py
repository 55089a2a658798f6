"""Valid names for what was called anything: of domains, of databases; collisions are numbered."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pydantic import TypeAdapter, ValidationError

from reconciler.desired.kinds.common import DomainName
from reconciler.desired.kinds.database import Identifier

_MOST = 48
_DOMAIN: TypeAdapter[str] = TypeAdapter(DomainName)
_IDENTIFIER: TypeAdapter[str] = TypeAdapter(Identifier)


class Names:
    """Names of one kind that are given out; those of the fleet are `taken`."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)

    def give(self, wanted: str, fallback: str) -> str:
        """A valid name like `wanted` that nobody has: letters, digits and hyphens, with `-2` where it is taken."""
        plain = re.sub(r"[^a-z0-9]+", "-", wanted.lower()[:200]).strip("-")[:_MOST].strip("-") or fallback
        name, number = plain, 1
        while name in self._taken:
            number += 1
            tail = f"-{number}"
            name = plain[: _MOST - len(tail)].rstrip("-") + tail
        self._taken.add(name)
        return name


def domain(name: str) -> str | None:
    """A server name as a manifest may have it, or None: wildcards, patterns, addresses and `_` are none."""
    lowered = name.lower().rstrip(".")
    try:
        return _DOMAIN.validate_python(lowered)
    except ValidationError:
        return None


def identifier(name: str) -> str | None:
    """A name of a database or login that a manifest may have, or None."""
    try:
        return _IDENTIFIER.validate_python(name)
    except ValidationError:
        return None
