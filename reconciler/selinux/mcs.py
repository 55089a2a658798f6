"""Which pair of SELinux categories a site has: numbers for pairs, and the pair of each site of a server.

A policy has categories c0 to c1023. A process may reach what has a subset of its own categories, so sites are kept apart
by two categories each: no pair is a subset of another, while a single category is one of every pair that it is in, and no
category at all (`s0`) is a subset of everything. There are 523 776 pairs.

Pairs are numbered by their greater category, then by the lesser: (0,1), (0,2), (1,2), (0,3), … So the first numbers are
all pairs within the first categories, and the block that is kept back for others (administrators, containers that are
given fixed pairs) is `s0:c0,c1` to `s0:c98,c99`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Set

from reconciler.errors import UsageFault

CATEGORIES = 1024
"""How many categories there are in a policy of either family."""

PAIRS = CATEGORIES * (CATEGORIES - 1) // 2
"""How many pairs there are; their numbers are 0 to `PAIRS - 1`."""

RESERVED_CATEGORIES = 100
FIRST = RESERVED_CATEGORIES * (RESERVED_CATEGORIES - 1) // 2
"""The first number that a site may get: `s0:c0,c100`. The pairs before it lie within the first 100 categories."""

_USER = re.compile(r"web([1-9][0-9]{0,8})\Z")
_ITEM = re.compile(r"c([0-9]{1,4})(?:\.c([0-9]{1,4}))?\Z")


def of_site(ordinal: int) -> int:
    """The number of a server's n-th site, from 1: the first pair behind the reserved block, then one after the other.

    Sites are counted over the whole life of a server and a count is never given twice, as the system user `web<n>` is not
    (`reconciler/plan/allocate.py`). So a pair never comes back, whatever is left of the site that had it: homes, archives,
    processes. Raises UsageFault past the last pair, after 518 826 sites.
    """
    if ordinal < 1:
        raise ValueError(f"sites are counted from 1, not {ordinal}")
    number = FIRST + ordinal - 1
    if number >= PAIRS:
        raise UsageFault(
            "every pair of SELinux categories of this server was given to a site once",
            hint="move the site to another server",
        )
    return number


def of_user(name: str) -> int | None:
    """The number that belongs to the system user `web<n>`; None for a user of another form. Raises UsageFault as `of_site`."""
    match = _USER.match(name)
    return of_site(int(match[1])) if match else None


def pair(number: int) -> tuple[int, int]:
    """The categories of a number, the lesser first. Raises ValueError outside of 0 to 523 775."""
    if not 0 <= number < PAIRS:
        raise ValueError(f"{number} is not the number of a pair of categories")
    greater = (1 + math.isqrt(1 + 8 * number)) // 2
    return number - greater * (greater - 1) // 2, greater


def number_of(categories: Set[int]) -> int | None:
    """The number of a set of categories, or None when it is not a pair of c0 to c1023."""
    if len(categories) != 2:
        return None
    lesser, greater = sorted(categories)
    if lesser < 0 or greater >= CATEGORIES:
        return None
    return greater * (greater - 1) // 2 + lesser


def level(number: int) -> str:
    """The level of a site, such as `s0:c100,c101`. Raises ValueError as `pair` does."""
    lesser, greater = pair(number)
    return f"s0:c{lesser},c{greater}"


def categories(level: str) -> frozenset[int] | None:
    """The categories of a level; of a range (`s0-s0:c0.c1023`) those of its upper end. None for what is no level.

    The kernel writes three or more in a row as `c0.c2`, two as `c0,c1`; both forms are read.
    """
    sensitivity, colon, names = level.rpartition("-")[2].partition(":")
    if sensitivity != "s0":
        return None
    found: set[int] = set()
    for item in names.split(",") if colon else ():
        match = _ITEM.match(item)
        if match is None:
            return None
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last < CATEGORIES:
            return None
        found.update(range(first, last + 1))
    return frozenset(found)


def number_of_level(level: str) -> int | None:
    """The number of the pair of a level, or None when it has not exactly two categories."""
    found = categories(level)
    return None if found is None else number_of(found)


def dominates(one: str, other: str) -> bool:
    """Whether a process at level `one` may reach what is at `other`; false when either is no level."""
    mine, theirs = categories(one), categories(other)
    return mine is not None and theirs is not None and theirs <= mine
