"""What a soak came to: samples over time, what happened, and what is stuck at its end."""

from __future__ import annotations

import logging
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Sample:
    """One look: seconds since the beginning, and figures by name (bytes or counts)."""

    at: float
    figures: Mapping[str, float]


@dataclass
class Report:
    """A soak that is over. `span` is the seconds of the first and of the last part that are compared, after `warm_up`."""

    what: str
    span: float
    warm_up: float
    samples: list[Sample] = field(default_factory=list)
    happened: Counter[str] = field(default_factory=Counter)
    stuck: list[str] = field(default_factory=list)
    wall: float = 0.0

    def part(self, name: str, *, last: bool) -> float:
        """The median of a figure over the first part after the warm-up, or over the last."""
        end = self.samples[-1].at
        inside: Callable[[float], bool] = (
            (lambda at: at >= end - self.span)
            if last
            else (lambda at: self.warm_up <= at <= self.warm_up + self.span)
        )
        return statistics.median(s.figures[name] for s in self.samples if inside(s.at))

    def ratio(self, name: str) -> float:
        """The last part of a figure as a multiple of the first."""
        return self.part(name, last=True) / max(1.0, self.part(name, last=False))

    def text(self) -> str:
        """For people."""
        lines = [f"{self.what}; {self.wall:.0f} s on the wall"]
        lines.append("  " + ", ".join(f"{count} {what}" for what, count in sorted(self.happened.items())))
        for name in self.samples[-1].figures:
            first, last = self.part(name, last=False), self.part(name, last=True)
            lines.append(
                f"  {name:<24} first {_size(name, first):>12}  last {_size(name, last):>12}  ratio {self.ratio(name):.3f}"
            )
        lines += [f"  STUCK: {one}" for one in self.stuck] or ["  nothing is stuck"]
        return "\n".join(lines)


def _size(name: str, value: float) -> str:
    return f"{value / 1048576:.1f} MiB" if name.endswith("bytes") else f"{value:.0f}"


@contextmanager
def told_defects(found: list[str]) -> Iterator[None]:
    """Note every traceback that the program logs: none is foreseen."""

    class Notes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info:
                formatted = logging.Formatter().formatException(record.exc_info)
                found.append(f"defect: {record.getMessage()}\n{formatted}")

    handler, logger = Notes(logging.WARNING), logging.getLogger("reconciler")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
