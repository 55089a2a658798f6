"""How long to wait before trying again: capped exponential delays, and intervals that do not march in step."""

from __future__ import annotations

import math
from collections.abc import Callable

_SPREAD = 0.5
"""The share of a delay that jitter may take away: enough to part servers that failed together, and still a wait."""


def delay(failures: int, first: float, longest: float, jitter: Callable[[], float]) -> float:
    """Seconds to wait after `failures` failures in a row: `first`, twice that, four times, at most `longest`.

    `jitter` gives a number from 0 to 1 (`random.random`) and takes up to half of the delay away, so the result is
    never above `longest` and never below half of what it would be without jitter. No failure means no wait.

    Raises ValueError for a negative or not finite number of seconds.
    """
    for name, value in (("first", first), ("longest", longest)):
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be a finite number of seconds, not {value}")
    if failures <= 0:
        return 0.0
    # Halving the cap instead of doubling the delay cannot overflow: it ends at zero after a thousand failures.
    if math.ldexp(longest, -(failures - 1)) <= first:
        full = longest if first > 0 else 0.0
    else:
        full = math.ldexp(first, failures - 1)
    return full * (1 - _SPREAD * _unit(jitter()))


def jittered(every: float, share: float, random: Callable[[], float]) -> float:
    """`every` seconds, more or less by up to `share` of it: uniform between `every * (1 - share)` and `every * (1 + share)`.

    `random` gives a number from 0 to 1. Raises ValueError for a negative interval or a share outside 0 to 1.
    """
    if not (math.isfinite(every) and every >= 0):
        raise ValueError(f"every must be a finite number of seconds, not {every}")
    if not 0 <= share <= 1:
        raise ValueError(f"share must lie between 0 and 1, not {share}")
    return every * (1 + share * (2 * _unit(random()) - 1))


def _unit(number: float) -> float:
    """`number` brought into 0 to 1."""
    return min(1.0, max(0.0, number))
