"""What can be wrong with a played node for a while."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from reconciler.testing.node import FakeNode

Fault = Callable[[FakeNode, random.Random], AbstractContextManager[None]]


def _set(**values: Any) -> Fault:
    """Attributes have these values for a while."""

    @contextmanager
    def fault(node: FakeNode, chance: random.Random) -> Iterator[None]:
        before = {name: getattr(node, name) for name in values}
        for name, value in values.items():
            setattr(node, name, value)
        try:
            yield
        finally:
            for name, value in before.items():
                setattr(node, name, value)

    return fault


def _once(deed: Callable[[FakeNode], None]) -> Fault:
    """Something happens once."""

    @contextmanager
    def fault(node: FakeNode, chance: random.Random) -> Iterator[None]:
        deed(node)
        yield

    return fault


@contextmanager
def _failing(node: FakeNode, chance: random.Random) -> Iterator[None]:
    """A section or a step fails."""
    sections = [key for key in node.things if key.startswith(("file:", "unit:"))]
    node.failing = {chance.choice(sorted(sections))} if sections else set()
    try:
        yield
    finally:
        node.failing = set()


FAULTS: Mapping[str, Fault] = {
    "down": _set(down=True),
    "frozen": _set(frozen=True),
    "silent": _set(silent=True),
    "slow": _set(slow=5.0),
    "disk full": _set(disk_full=True),
    "cut in an apply": _set(cut_after=4),
    "dropped in an apply": _set(drop_after=5),
    "connections dropped": _once(FakeNode.drop),
    "power cut": _once(FakeNode.power_cut),
    "runner killed": _once(FakeNode.kill_runner),
    "step fails": _failing,
}
