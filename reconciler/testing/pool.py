"""Played nodes by address, in place of `reconciler.nodes.pool.Pool`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Self, TypeVar

from reconciler.errors import HostKeyMismatch, NodeFault, NodeLost, NodeUnreachable, NotEnrolled
from reconciler.kit.canonical import Json
from reconciler.nodes.answers import (
    CancelState,
    CheckResult,
    Confirmed,
    Denials,
    Hello,
    Object,
    Outcome,
    Prepared,
    UnitState,
)
from reconciler.nodes.conversation import APPLY_WITHIN, CONFIRM_WITHIN, OnEvent
from reconciler.nodes.inventory import Inventory
from reconciler.nodes.observing import Observer, Unobserved
from reconciler.nodes.target import Target
from reconciler.testing.machine import AGENT
from reconciler.testing.node import FakeNode

T = TypeVar("T")


class FakeLink:
    """One program's connection to a played node, with the calls of `Node`: they queue, as the agent answers one at a
    time, except `cancel`, `units` and `avc`."""

    def __init__(self, node: FakeNode, target: Target, agent: str, observer: Observer) -> None:
        self.target = target
        self._node = node
        self._agent = agent
        self._observer = observer
        self._turn = asyncio.Lock()
        self._connecting = asyncio.Lock()
        self._closed = asyncio.Event()
        self._link = -1
        self._known: Hello | None = None

    @property
    def connected(self) -> bool:
        """As `Node.connected`."""
        return self._known is not None and self._link == self._node.links and not self._closed.is_set()

    async def close(self) -> None:
        """As `Node.close`: for good. Whoever follows an apply gets NodeLost, the apply goes on."""
        self._closed.set()
        self._known = None

    async def ready(self) -> Hello:
        """As `Node.ready`: the introduction may be of an earlier call."""
        async with self._connecting:
            if self._closed.is_set():
                raise self._over()
            if self._known is None or not self.connected:
                began = asyncio.get_running_loop().time()
                try:
                    self._known = await self._connect()
                except NodeFault as fault:
                    self._observer.failed(self.target.server, type(fault).__name__)
                    raise
                self._observer.connected(self.target.server, asyncio.get_running_loop().time() - began)
            return self._known

    def _over(self) -> NodeLost:
        text = "the connection was closed here: the server's address or keys changed, or the program ends"
        return NodeLost(self.target.server, text, hint="the next look connects anew")

    async def _ask(self, op: str, request: Callable[[], Awaitable[T]], *, aside: bool = False) -> T:
        """`aside`: it does not wait for its turn."""
        await self.ready()
        async with contextlib.nullcontext() if aside else self._turn:
            began = asyncio.get_running_loop().time()
            answer = await self._unless_closed(request())
            self._observer.answered(op, asyncio.get_running_loop().time() - began)
            return answer

    async def _unless_closed(self, request: Awaitable[T]) -> T:
        answer = asyncio.ensure_future(request)
        closed = asyncio.ensure_future(self._closed.wait())
        try:
            await asyncio.wait({answer, closed}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise self._over()
            return answer.result()
        finally:
            for one in (answer, closed):
                one.cancel()
            await asyncio.gather(answer, closed, return_exceptions=True)

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
        self._known = await self._ask("hello", self._node.hello)
        return self._known

    async def check(self, digest: str, sections: Sequence[str] | None = None) -> CheckResult:
        """As `Node.check`."""
        return await self._ask("check", lambda: self._node.check(digest, sections))

    async def send_bundle(self, bundle: Mapping[str, Json]) -> str:
        """As `Node.send_bundle`."""
        return await self._ask("bundle", lambda: self._node.send_bundle(bundle))

    async def prepare(self, digest: str, sections: Sequence[str] | None = None) -> Prepared:
        """As `Node.prepare`."""
        return await self._ask("prepare", lambda: self._node.prepare(digest, sections))

    async def send_blob(self, data: bytes) -> str:
        """As `Node.send_blob`."""
        return await self._ask("blob", lambda: self._node.send_blob(data))

    async def cancel(self, deployment: str, fence: int) -> CancelState:
        """As `Node.cancel`."""
        return await self._ask("cancel", lambda: self._node.cancel(deployment, fence), aside=True)

    async def units(self, names: Sequence[str]) -> Mapping[str, UnitState]:
        """As `Node.units`."""
        return await self._ask("units", lambda: self._node.units(names), aside=True)

    async def avc(self, cursor: Object | None, most: int) -> Denials:
        """As `Node.avc`."""
        return await self._ask("avc", lambda: self._node.avc(cursor, most), aside=True)

    async def inventory(self) -> Inventory:
        """As `Node.inventory`."""
        return await self._ask("inventory", self._node.inventory)

    async def confirm(self, deployment: str) -> Confirmed:
        """As `Node.confirm`."""
        if self._closed.is_set():
            raise self._over()
        return await self._unless_closed(self._node.confirm(deployment))

    async def apply(
        self,
        deployment: str,
        digest: str,
        sections: Sequence[str] | None,
        fence: int,
        on_event: OnEvent | None = None,
        *,
        within: float = APPLY_WITHIN,
        confirm_within: int = CONFIRM_WITHIN,
    ) -> Outcome:
        """As `Node.apply`."""

        def request() -> Awaitable[Outcome]:
            return self._node.apply(
                deployment, digest, sections, fence, on_event, within=within, confirm_within=confirm_within
            )

        return await self._ask("apply", request)

    async def status(
        self,
        deployment: str,
        seen: int = 0,
        on_event: OnEvent | None = None,
        *,
        within: float = APPLY_WITHIN,
    ) -> Outcome:
        """As `Node.status`: a node that cannot be reached is waited for."""
        if self._closed.is_set():
            raise self._over()
        async with self._turn:
            return await self._unless_closed(self._node.status(deployment, seen, on_event, within=within))


class FakePool:
    """Nodes by address. `agent` is the version that this program brings; nodes with another one are renewed."""

    def __init__(
        self, nodes: Mapping[str, FakeNode], *, agent: str = AGENT, observer: Observer | None = None
    ) -> None:
        self.nodes = nodes
        self._observer = observer or Unobserved()
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
            if link is not None:
                await link.close()
            link = self._links[target.server] = FakeLink(node, target, self._agent, self._observer)
        await link.ready()
        yield link

    def open(self) -> dict[str, FakeLink]:
        """As `Pool.open`."""
        return {name: node for name, node in self._links.items() if node.connected}

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
