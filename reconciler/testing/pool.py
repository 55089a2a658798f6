"""Played nodes by address, in place of `reconciler.nodes.pool.Pool`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Self

from reconciler.errors import HostKeyMismatch, NodeFault, NodeUnreachable, NotEnrolled
from reconciler.kit.canonical import Json
from reconciler.nodes.answers import CheckResult, Hello, Outcome, Prepared
from reconciler.nodes.conversation import APPLY_WITHIN, OnEvent
from reconciler.nodes.target import Target
from reconciler.testing.node import AGENT, FakeNode


class FakeLink:
    """One program's connection to a played node, with the calls of `Node`: they queue, as the agent answers one at a time."""

    def __init__(self, node: FakeNode, target: Target, agent: str) -> None:
        self.target = target
        self._node = node
        self._agent = agent
        self._turn = asyncio.Lock()
        self._connecting = asyncio.Lock()
        self._link = -1
        self._known: Hello | None = None

    @property
    def connected(self) -> bool:
        """As `Node.connected`."""
        return self._known is not None and self._link == self._node.links

    async def close(self) -> None:
        """As `Node.close`."""
        self._known = None

    async def ready(self) -> Hello:
        """As `Node.ready`: the introduction may be of an earlier call."""
        async with self._connecting:
            if self._known is None or not self.connected:
                self._known = await self._connect()
            return self._known

    async def _connect(self) -> Hello:
        node, target = self._node, self.target
        node.server = target.server
        if not target.host_keys:
            raise NotEnrolled(target.server, "no host key is pinned")
        node.check_network()
        node.host_key = node.host_key or target.host_keys[0]
        if not node.frozen and node.host_key not in target.host_keys:
            raise HostKeyMismatch(
                target.server,
                f"{target.address} port {target.port} shows another host key than the pinned one",
            )
        self._link = node.links
        hello = await node.hello()
        if hello.agent != self._agent and not hello.running:
            node.agent = self._agent
            node.upgrades += 1
            hello = await node.hello()
        return hello

    async def hello(self) -> Hello:
        """As `Node.hello`."""
        await self.ready()
        async with self._turn:
            self._known = await self._node.hello()
            return self._known

    async def check(self, digest: str, sections: Sequence[str] | None = None) -> CheckResult:
        """As `Node.check`."""
        await self.ready()
        async with self._turn:
            return await self._node.check(digest, sections)

    async def send_bundle(self, bundle: Mapping[str, Json]) -> str:
        """As `Node.send_bundle`."""
        await self.ready()
        async with self._turn:
            return await self._node.send_bundle(bundle)

    async def prepare(self, digest: str, sections: Sequence[str] | None = None) -> Prepared:
        """As `Node.prepare`."""
        await self.ready()
        async with self._turn:
            return await self._node.prepare(digest, sections)

    async def send_blob(self, data: bytes) -> str:
        """As `Node.send_blob`."""
        await self.ready()
        async with self._turn:
            return await self._node.send_blob(data)

    async def apply(
        self,
        deployment: str,
        digest: str,
        sections: Sequence[str] | None,
        fence: int,
        on_event: OnEvent | None = None,
        *,
        within: float = APPLY_WITHIN,
    ) -> Outcome:
        """As `Node.apply`."""
        await self.ready()
        async with self._turn:
            return await self._node.apply(deployment, digest, sections, fence, on_event, within=within)

    async def status(
        self,
        deployment: str,
        seen: int = 0,
        on_event: OnEvent | None = None,
        *,
        within: float = APPLY_WITHIN,
    ) -> Outcome:
        """As `Node.status`."""
        with contextlib.suppress(NodeFault):
            await self.ready()  # a lost node is waited for below
        async with self._turn:
            return await self._node.status(deployment, seen, on_event, within=within)


class FakePool:
    """Nodes by address. `agent` is the version that this program brings; nodes with another one are renewed."""

    def __init__(self, nodes: Mapping[str, FakeNode], *, agent: str = AGENT) -> None:
        self.nodes = nodes
        self._agent = agent
        self._links: dict[str, FakeLink] = {}
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @contextlib.asynccontextmanager
    async def node(self, target: Target) -> AsyncIterator[FakeLink]:
        """As `Pool.node`. NodeUnreachable for an address that no node has."""
        if self._closed:
            raise RuntimeError("the pool is closed")
        node = self.nodes.get(target.address)
        if node is None:
            raise NodeUnreachable(
                target.server, f"cannot connect to {target.address} port {target.port}: no route to host"
            )
        link = self._links.get(target.server)
        if link is None or link.target != target:
            link = self._links[target.server] = FakeLink(node, target, self._agent)
        await link.ready()
        yield link

    async def forget(self, server: str) -> None:
        """As `Pool.forget`."""
        if link := self._links.pop(server, None):
            await link.close()

    async def close(self) -> None:
        """As `Pool.close`. Applies that run on nodes go on."""
        self._closed = True
        links = list(self._links.values())
        self._links.clear()
        for link in links:
            await link.close()
