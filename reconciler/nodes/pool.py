"""The open connections: one per server, kept until the pool is closed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from . import agentzip
from .node import Manner, Node
from .observing import Observer
from .target import Target

CONNECTS = 32
"""Handshakes at once. Each costs about 5 ms of one core here; far more at once and they run into time-outs."""


class Pool:
    """Nodes by server name. Belongs to one event loop; a context manager that closes it."""

    def __init__(
        self, limit: int = CONNECTS, *, manner: Manner | None = None, observer: Observer | None = None
    ) -> None:
        self._gate = asyncio.Semaphore(limit)
        self._manner = manner or Manner(agentzip.build())
        self._observer = observer
        self._nodes: dict[str, Node] = {}
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @contextlib.asynccontextmanager
    async def node(self, target: Target) -> AsyncIterator[Node]:
        """The node, connected (see `Node` for the errors); its connection stays open after the block.

        A target that differs from the one of before (address, key, host key) gets a new connection.
        """
        if self._closed:
            raise RuntimeError("the pool is closed")
        known = self._nodes.get(target.server)
        if known is None or known.target != target:
            self._nodes[target.server] = node = Node(target, self._manner, self._gate, self._observer)
            if known is not None:
                await known.close()
        else:
            node = known
        await node.ready()
        yield node

    def open(self) -> dict[str, Node]:
        """Those of the nodes whose connection is open, as far as one can tell from here, by server."""
        return {name: node for name, node in self._nodes.items() if node.connected}

    async def forget(self, server: str) -> None:
        """Closes the connection of a server that is no longer managed."""
        node = self._nodes.pop(server, None)
        if node is not None:
            await node.close()

    async def close(self) -> None:
        """Closes every connection. Applies that run on nodes go on. May be called again."""
        self._closed = True
        nodes = list(self._nodes.values())
        self._nodes.clear()
        await asyncio.gather(*(node.close() for node in nodes))
