"""One node as the rest of the program uses it: connected when needed, the agent up to date, an apply followed to its end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from reconciler.errors import (
    AgentFault,
    DeadlinePassed,
    NodeBusy,
    NodeFault,
    NodeLost,
    NodeUnreachable,
    ReconcilerError,
)
from reconciler.kit.canonical import Json

from .agentzip import AgentProgram
from .answers import (
    CancelState,
    CheckResult,
    Confirmed,
    Denials,
    Event,
    Hello,
    Object,
    Offer,
    Outcome,
    Prepared,
    UnitState,
)
from .channel import SERVE
from .connection import Connection, Keepalive
from .conversation import APPLY_WITHIN, CONFIRM_WITHIN, HELLO_WITHIN, Conversation, OnEvent
from .inventory import Inventory
from .observing import Observer, Unobserved
from .target import Target

T = TypeVar("T")


@dataclass(frozen=True)
class Manner:
    """How nodes are talked to; the same for all nodes of a pool.

    `program` is the agent that every node shall have, `command` starts it. After a connection was lost in an apply
    the waits between two tries grow from `first_wait` to `longest_wait` seconds.
    """

    program: AgentProgram
    command: str = SERVE
    keepalive: Keepalive = field(default_factory=Keepalive)
    first_wait: float = 0.5
    longest_wait: float = 30.0


class Node:
    """A node to talk to. Made by `Pool.node`. Calls queue: the agent answers one request at a time; `cancel`, `units`
    and `avc` do not wait for their turn, an agent of their own answers them over the same connection.

    Every call connects when there is no connection, renews an agent of another version, and raises what
    `Connection.open` and `Conversation` raise. A connection that turns out to be dead is opened again once; all
    calls may be repeated. A call that is cancelled ends at once and leaves the node's work alone: an apply goes on.
    """

    def __init__(
        self, target: Target, manner: Manner, gate: asyncio.Semaphore, observer: Observer | None = None
    ) -> None:
        self.target = target
        self._observer = observer or Unobserved()
        self._ended = False
        self._manner = manner
        self._gate = gate
        self._connecting = asyncio.Lock()
        self._connection: Connection | None = None
        self._conversation: Conversation | None = None
        self._hello: Hello | None = None

    @property
    def connected(self) -> bool:
        """Whether the last connection is still open, as far as one can tell from here."""
        return (
            self._conversation is not None
            and not self._conversation.closed
            and self._open_connection() is not None
        )

    async def close(self) -> None:
        """Ends the conversation and the connection for good. A running apply goes on. May be called again."""
        self._ended = True
        await self._disconnect()

    async def _disconnect(self) -> None:
        conversation, self._conversation = self._conversation, None
        connection, self._connection = self._connection, None
        try:
            if conversation is not None:
                await conversation.close()
        finally:
            if connection is not None:
                await connection.close()

    async def ready(self) -> Hello:
        """Connects if need be, renews the agent if need be; gives its introduction, which may be of an earlier call."""
        await self._talk()
        assert self._hello is not None  # noqa: S101 - _talk sets it
        return self._hello

    async def hello(self) -> Hello:
        """A fresh introduction of the agent."""
        self._hello = await self._ask(lambda agent: agent.hello())
        return self._hello

    async def check(self, digest: str, sections: Sequence[str] | None = None) -> CheckResult:
        """As `Conversation.check`."""
        return await self._ask(lambda agent: agent.check(digest, sections))

    async def send_bundle(self, bundle: Mapping[str, Json]) -> str:
        """As `Conversation.send_bundle`."""
        return await self._ask(lambda agent: agent.send_bundle(bundle))

    async def prepare(self, digest: str, sections: Sequence[str] | None = None) -> Prepared:
        """As `Conversation.prepare`."""
        return await self._ask(lambda agent: agent.prepare(digest, sections))

    async def send_blob(self, data: bytes) -> str:
        """As `Conversation.send_blob`."""
        return await self._ask(lambda agent: agent.send_blob(data))

    async def cancel(self, deployment: str, fence: int) -> CancelState:
        """As `Conversation.cancel`; works while another task follows that very apply, which then sees its end."""
        return await self._ask(lambda agent: agent.cancel(deployment, fence), aside=True)

    async def units(self, names: Sequence[str]) -> Mapping[str, UnitState]:
        """As `Conversation.units`; works while another task follows an apply."""
        return await self._ask(lambda agent: agent.units(names), aside=True)

    async def avc(self, cursor: Object | None, most: int) -> Denials:
        """As `Conversation.avc`; works while another task follows an apply."""
        return await self._ask(lambda agent: agent.avc(cursor, most), aside=True)

    async def updates(self, packages: Sequence[str]) -> Mapping[str, Offer]:
        """As `Conversation.updates`; works while another task follows an apply."""
        return await self._ask(lambda agent: agent.updates(packages), aside=True)

    async def inventory(self) -> Inventory:
        """As `Conversation.inventory`."""
        return await self._ask(lambda agent: agent.inventory())

    async def confirm(self, deployment: str) -> Confirmed:
        """Confirms an apply over a connection that is opened for it and closed afterwards: only such a one proves that we
        are not locked out. Raises what `Connection.open` and `Conversation.confirm` raise; may be repeated.
        """
        if self._ended:
            raise self._over()
        async with (
            self._gate,
            await Connection.open(self.target, keepalive=self._manner.keepalive) as connection,
            await self._converse(connection) as agent,
        ):
            return await agent.confirm(deployment)

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
        """Applies and follows to the end, over lost connections, for `within` seconds in all.

        `on_event` gets every event once, in order. Raises what `Conversation.apply` raises. NodeLost and DeadlinePassed
        mean that the end is not known: `status` tells it later. NodeUnreachable means that nothing was started.
        """
        now = asyncio.get_running_loop().time
        until = now() + within
        relay = _Relay(self.target.server, on_event)

        async def start(agent: Conversation) -> Outcome:
            left = until - now()
            return await agent.apply(
                deployment, digest, sections, fence, relay, within=left, confirm_within=confirm_within
            )

        async def follow(agent: Conversation) -> Outcome:
            left = until - now()
            try:
                return await agent.status(deployment, relay.seen, relay, within=left)
            except AgentFault as fault:
                if fault.code != "unknown_deployment" or relay.seen:
                    raise
                return await start(agent)  # the connection went before the request got there

        try:
            agent = await self._talk()
            return await start(agent)
        except NodeLost as lost:
            return await self._reattach(deployment, follow, until, lost)
        except NodeBusy as busy:
            if busy.deployment != deployment:
                raise
            return await self._reattach(deployment, follow, until, busy)

    async def status(
        self,
        deployment: str,
        seen: int = 0,
        on_event: OnEvent | None = None,
        *,
        within: float = APPLY_WITHIN,
    ) -> Outcome:
        """Follows an apply of before to its end, over lost connections; `seen` events are known and not told again."""
        now = asyncio.get_running_loop().time
        until = now() + within
        relay = _Relay(self.target.server, on_event, seen)

        async def follow(agent: Conversation) -> Outcome:
            return await agent.status(deployment, relay.seen, relay, within=until - now())

        return await self._reattach(deployment, follow, until, None)

    async def _reattach(
        self,
        deployment: str,
        follow: Callable[[Conversation], Awaitable[Outcome]],
        until: float,
        last: NodeFault | None,
    ) -> Outcome:
        """Connects and follows, again and again until the end is seen or the time is up."""
        now = asyncio.get_running_loop().time
        wait = self._manner.first_wait
        while True:
            if now() >= until:
                raise _unseen(self.target.server, deployment, last)
            try:
                return await follow(await self._talk())
            except (NodeLost, NodeUnreachable, NodeBusy, DeadlinePassed) as error:
                if self._ended:
                    raise
                if isinstance(error, NodeBusy) and error.deployment not in {"", deployment}:
                    raise
                last = error
            # jitter: the nodes of a failed switch come back together
            pause = min(wait * random.uniform(0.5, 1.0), max(0.0, until - now()))  # noqa: S311
            await asyncio.sleep(pause)
            wait = min(wait * 2, self._manner.longest_wait)

    async def _ask(self, call: Callable[[Conversation], Awaitable[T]], *, aside: bool = False) -> T:
        """`aside`: the call does not wait for a request that is being answered, but has an agent of its own then."""
        ask = self._ask_aside if aside else self._ask_once
        fresh = not self.connected
        try:
            return await ask(call)
        except NodeLost:
            if fresh or self._ended:
                raise
        # the kept connection was dead without our knowing; one new one is worth a try
        return await ask(call)

    async def _ask_once(self, call: Callable[[Conversation], Awaitable[T]]) -> T:
        return await call(await self._talk())

    async def _ask_aside(self, call: Callable[[Conversation], Awaitable[T]]) -> T:
        agent = await self._talk()
        connection = self._open_connection()
        if not agent.busy or connection is None:  # nothing may come between this look and the call
            return await call(agent)
        async with await self._converse(connection) as other:
            return await call(other)

    async def _talk(self) -> Conversation:
        """An open conversation with an agent of our version."""
        async with self._connecting:
            if self._ended:
                raise self._over()
            agent = self._conversation
            if agent is None or agent.closed or self._open_connection() is None:
                agent = await self._reopen()
            if self._hello is None or self._hello.agent != self._manner.program.sha256:
                agent = await self._renew(agent)
            return agent

    async def _reopen(self) -> Conversation:
        if self._conversation is not None:
            await self._conversation.close()
            self._conversation = None
        connection = self._open_connection()
        if connection is None:
            await self._disconnect()
            async with self._gate:
                connection = await self._connect()
        self._hello = None
        self._conversation = await self._converse(connection)
        return self._conversation

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            connection = await Connection.open(self.target, keepalive=self._manner.keepalive)
        except ReconcilerError as fault:
            self._observer.failed(self.target.server, type(fault).__name__)
            raise
        self._observer.connected(self.target.server, loop.time() - began)
        if self._ended:  # closed meanwhile: nobody would ever close this one
            await connection.close()
            raise self._over()
        self._connection = connection
        return connection

    async def _converse(self, connection: Connection) -> Conversation:
        try:
            async with asyncio.timeout(HELLO_WITHIN):
                return await Conversation.open(connection, self._manner.command, self._observer)
        except TimeoutError:
            raise DeadlinePassed(
                self.target.server,
                f"the agent was not started within {HELLO_WITHIN:g} s",
                hint="look at the node's load",
            ) from None

    def _over(self) -> NodeLost:
        return NodeLost(
            self.target.server,
            "the connection was closed here: the server's address or keys changed, or the program ends",
            hint="the next look connects anew",
        )

    async def _renew(self, agent: Conversation) -> Conversation:
        """Introduces, and replaces an agent of another version unless an apply is running from its file."""
        program = self._manner.program
        self._hello = await agent.hello()
        if self._hello.agent == program.sha256 or self._hello.running:
            return agent
        await agent.upgrade(program)
        agent = await self._reopen()
        self._hello = await agent.hello()
        if self._hello.agent != program.sha256:
            raise AgentFault(
                self.target.server,
                f"the agent is {self._hello.agent[:12]} after an upgrade to {program.sha256[:12]}",
                hint="enrol the server again",
            )
        return agent

    def _open_connection(self) -> Connection | None:
        return None if self._connection is None or self._connection.closed else self._connection


def _unseen(server: str, deployment: str, last: NodeFault | None) -> NodeFault:
    """The error for an apply whose end was not seen in time; `last` is why the last try to follow it failed."""
    if last is None or isinstance(last, DeadlinePassed):
        return last or DeadlinePassed(server, f"the end of {deployment} was not seen in time")
    why = last.message.removeprefix(f"{server}: ")
    return NodeLost(server, f"the end of {deployment} was not seen in time; last: {why}", hint=last.hint)


class _Relay:
    """Passes events on once and in order, whatever is told twice when an apply is followed anew."""

    def __init__(self, server: str, on_event: OnEvent | None, seen: int = 0) -> None:
        self._server = server
        self._on_event = on_event
        self.seen = seen

    async def __call__(self, event: Event) -> None:
        if event.n <= self.seen:
            return
        if event.n > self.seen + 1:
            raise AgentFault(
                self._server,
                f"event {self.seen + 1} is missing, the agent sent {event.n}",
                code="protocol",
                hint="look at the next plan: it compares with what the node shows",
            )
        if self._on_event is not None:
            await self._on_event(event)
        self.seen = event.n
