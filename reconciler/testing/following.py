"""Following an apply of a played node as `Node` does: over lost connections, every event once, until a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from reconciler.errors import AgentFault, DeadlinePassed, NodeFault, NodeLost, NodeUnreachable
from reconciler.nodes.answers import Event, Outcome
from reconciler.nodes.conversation import HELLO_WITHIN, OnEvent
from reconciler.testing.journal import Journal

LONGEST_WAIT = 30.0
KEEPALIVE = 45.0
"""Seconds until a silent peer counts as lost."""


class Followed(Protocol):
    """What following needs of a node."""

    server: str
    first_wait: float
    frozen: bool
    silent: bool
    links: int
    drop_after: int | None
    journals: dict[str, Journal]

    async def reach(self, op: str, within: float) -> None:
        """Connect and have a request accepted."""

    async def wait_for(self, true: Callable[[], bool], seconds: float) -> bool:
        """Wait for something about the node."""
        ...

    def drop(self) -> None:
        """Cut every connection."""

    def late(self, op: str, within: float) -> DeadlinePassed:
        """The error for an answer that did not come in time."""
        ...

    def lost(self) -> NodeLost:
        """The error for a connection that went."""
        ...


class Relay:
    """Passes events on once and in order."""

    def __init__(self, on_event: OnEvent | None, seen: int = 0) -> None:
        self._on_event = on_event
        self.seen = seen

    async def __call__(self, event: Event) -> None:
        """Pass on an event that was not told yet."""
        if event.n <= self.seen:
            return
        if self._on_event is not None:
            await self._on_event(event)
        self.seen = event.n


async def follow(
    node: Followed, deployment: str, relay: Relay, until: float, start: Callable[[], None] | None = None
) -> Outcome:
    """The outcome of a deployment. `until` is a time of the loop.

    With `start` the connection is there and the request is still to be made; it is made again while it is not known
    whether it arrived. Raises what `Node.apply` and `Node.status` raise.
    """
    now = asyncio.get_running_loop().time
    last: NodeFault | None = None
    wait, connected = node.first_wait, start is not None
    while True:
        if last is not None and now() >= until:
            raise _unseen(node.server, deployment, last)
        try:
            if not connected:
                await node.reach("status", min(HELLO_WITHIN, max(until - now(), 0.0)))
            connected = False
            if deployment not in node.journals and start is not None:
                start()
            return await _watch(node, deployment, relay, until)
        except (NodeLost, NodeUnreachable) as fault:
            last = fault
        except DeadlinePassed as fault:
            if start is not None and last is None:
                raise
            last = fault
        await asyncio.sleep(min(wait, max(0.0, until - now())))
        wait = min(wait * 2, LONGEST_WAIT)


async def _watch(node: Followed, deployment: str, relay: Relay, until: float) -> Outcome:
    """Tell events until there is an outcome, over one connection."""
    journal = node.journals.get(deployment)
    if journal is None:
        text = f"no deployment {deployment} is known here"
        raise AgentFault(node.server, text, code="unknown_deployment")
    link, told = node.links, 0
    while True:
        for event in journal.events[relay.seen :]:
            if node.drop_after is not None and told >= node.drop_after:
                node.drop_after = None
                node.drop()
            if node.links != link:
                raise node.lost()
            await relay(event)
            told += 1
        if node.links != link:
            raise node.lost()
        outcome = journal.answer()
        if outcome is not None and relay.seen >= len(journal.events):
            return outcome
        await _news(node, journal, relay, link, until)


async def _news(node: Followed, journal: Journal, relay: Relay, link: int, until: float) -> None:
    """Wait until there is something to tell, or the connection is gone. DeadlinePassed."""

    def something() -> bool:
        fresh = len(journal.events) > relay.seen or journal.answer() is not None
        return node.links != link or node.frozen or (fresh and not node.silent)

    left = until - asyncio.get_running_loop().time()
    if not await node.wait_for(something, left):
        raise node.late("status", left)
    if node.frozen and not await node.wait_for(lambda: not node.frozen or node.links != link, KEEPALIVE):
        raise node.lost()


def _unseen(server: str, deployment: str, last: NodeFault) -> NodeFault:
    if isinstance(last, DeadlinePassed):
        return last
    why = last.message.removeprefix(f"{server}: ")
    return NodeLost(server, f"the end of {deployment} was not seen in time; last: {why}", hint=last.hint)
