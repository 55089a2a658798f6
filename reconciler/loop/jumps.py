"""Notices when somebody sets the wall clock while the loop runs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime

from reconciler.kit.clock import Clock

CLOCK_SET = 5.0
"""Seconds by which the wall clock must be off from what the loop's time says to count as set."""


@dataclass
class ClockWatch:
    """Compares the wall clock with the time of the event loop, which nobody sets."""

    clock: Clock
    _at: tuple[datetime, float] | None = field(default=None)

    def jump(self) -> float:
        """Seconds by which the clock was set since `seen`; negative when it was set back, 0.0 when it was not."""
        if self._at is None:
            self.seen()
            return 0.0
        wall, loop = self._at
        jump = (self.clock() - wall).total_seconds() - (asyncio.get_running_loop().time() - loop)
        if abs(jump) < CLOCK_SET:
            self.seen()
            return 0.0
        return jump

    def seen(self) -> None:
        """Take the clock as it is now for right."""
        self._at = (self.clock(), asyncio.get_running_loop().time())
