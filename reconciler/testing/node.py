"""A node that exists in memory only and answers as docs/protocol.md says, with faults on demand.

It has the calls of `reconciler.nodes.node.Node`. Its only time is asyncio's, so that it can be played on a
`SimulatedLoop`. An apply goes on when whoever follows it goes away, also when the event loop ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from reconciler.agent.faults import Refusal
from reconciler.errors import (
    AccessDenied,
    AgentFault,
    DeadlinePassed,
    NodeLost,
    NodeUnreachable,
    NotEnrolled,
    Unconfirmed,
)
from reconciler.kit.canonical import Json
from reconciler.kit.clock import Clock, utc_now
from reconciler.nodes.answers import (
    CancelState,
    CheckResult,
    Confirmed,
    Denials,
    Facts,
    Hello,
    Object,
    Offer,
    Outcome,
    Prepared,
    UnitState,
)
from reconciler.nodes.conversation import (
    APPLY_WITHIN,
    ASIDE_WITHIN,
    CHECK_WITHIN,
    CONFIRM_WITHIN,
    HELLO_WITHIN,
    TRANSFER_WITHIN,
    UPDATES_WITHIN,
    OnEvent,
)
from reconciler.nodes.inventory import Inventory
from reconciler.testing import following
from reconciler.testing.following import Relay
from reconciler.testing.machine import DEBIAN_12, Machine

T = TypeVar("T")
CONNECT_WITHIN = 10.0
_FOREVER = 365 * 86400.0


class FakeNode(Machine):
    """One node. Its attributes may be set at any time; whoever waits for the node notices at once.

    What a test does to it: the attributes below and those of `Machine`, `drop`, `power_cut`, `reinstall`.
    """

    def __init__(self, address: str, facts: Facts = DEBIAN_12, *, clock: Clock = utc_now) -> None:
        super().__init__(address, facts, clock)
        self.host_key = ""
        """The public host key it shows; empty: whatever is pinned when a pool first connects."""
        self.links = 0
        """How often every open connection was cut."""
        self.upgrades = 0
        """How often a pool renewed the agent."""
        self.first_wait = 0.5
        """Seconds until a follower connects again after its connection was cut; doubled each time."""
        self.down = False
        """The network to it is gone; the node itself works on."""
        self.frozen = False
        """The machine stands still: nothing answers, connections are noticed as lost after a while."""
        self.silent = False
        """The agent hangs: connections work, no request is answered."""
        self.garbage = False
        """The agent answers outside the protocol."""
        self.denied = False
        """The login key is refused."""
        self.enrolled = True
        """Whether there is an agent at all."""
        self.slow = 0.0
        """Seconds before each answer."""
        self.drop_after: int | None = None
        """Every connection is cut once the next follower was told this many events; the apply goes on."""
        self.boot_seconds = 0.0
        """How long the node is away after a power cut."""
        self._up_at: tuple[asyncio.AbstractEventLoop, float] | None = None

    def __repr__(self) -> str:
        return f"FakeNode({self.address!r})"

    def __setattr__(self, name: str, value: object) -> None:
        before = self.__dict__.get(name)
        super().__setattr__(name, value)
        if name == "down" and value and not before:
            self.drop()
        elif not name.startswith("_"):
            self.ring()

    def drop(self) -> None:
        """Cut every open connection; new ones work."""
        self.links += 1

    def power_cut(self) -> None:
        """Stop the machine and start it again; it is reachable after `boot_seconds` of the loop's time."""
        self.restart()

    def reinstall(self, host_key: str) -> None:
        """The machine is set up anew: another host key and machine id, no agent, nothing on it."""
        self.wipe()
        self.host_key, self.enrolled = host_key, False

    def restart(self) -> None:
        """As `Machine.restart`, with the connections."""
        super().restart()
        if self.boot_seconds:
            loop = asyncio.get_running_loop()
            self._up_at = (loop, loop.time() + self.boot_seconds)
        self.drop()

    async def _go_on(self) -> None:
        while self.frozen:
            await self.wait_for(lambda: not self.frozen, _FOREVER)

    # the calls of Node

    async def ready(self) -> Hello:
        """As `Node.ready`."""
        return await self.hello()

    async def hello(self) -> Hello:
        """As `Node.hello`."""
        return await self._ask("hello", HELLO_WITHIN, self.introduce)

    async def check(self, digest: str, sections: Sequence[str] | None = None) -> CheckResult:
        """As `Node.check`."""
        return await self._ask("check", CHECK_WITHIN, lambda: self.compare_kept(digest, sections))

    async def send_bundle(self, bundle: Mapping[str, Json]) -> str:
        """As `Node.send_bundle`."""
        return await self._ask("bundle", TRANSFER_WITHIN, lambda: self.take_bundle(bundle))

    async def prepare(self, digest: str, sections: Sequence[str] | None = None) -> Prepared:
        """As `Node.prepare`."""
        return await self._ask("prepare", CHECK_WITHIN, lambda: self.compare_next(digest, sections))

    async def send_blob(self, data: bytes) -> str:
        """As `Node.send_blob`."""
        return await self._ask("blob", TRANSFER_WITHIN, lambda: self.take_blob(data))

    async def cancel(self, deployment: str, fence: int) -> CancelState:
        """As `Node.cancel`."""
        return await self._ask("cancel", ASIDE_WITHIN, lambda: self.stop(deployment, fence))

    async def confirm(self, deployment: str) -> Confirmed:
        """As `Node.confirm`: over a new connection, which `shut_out` may refuse."""
        self.check_network()
        if self.is_shut_out():
            place = f"{self.address} port 22"
            raise NodeUnreachable(self.server, f"cannot connect to {place}: Connection timed out")
        return await self._ask("confirm", ASIDE_WITHIN, lambda: self.take_confirmation(deployment))

    async def units(self, names: Sequence[str]) -> Mapping[str, UnitState]:
        """As `Node.units`."""
        return await self._ask("units", ASIDE_WITHIN, lambda: self.describe_units(names))

    async def avc(self, cursor: Object | None, most: int) -> Denials:
        """As `Node.avc`."""
        return await self._ask("avc", ASIDE_WITHIN, lambda: self.tell_denials(cursor, most))

    async def updates(self, packages: Sequence[str]) -> Mapping[str, Offer]:
        """As `Node.updates`: what the machine's `newer` offers."""
        return await self._ask("updates", UPDATES_WITHIN, lambda: self.offer(packages))

    async def inventory(self) -> Inventory:
        """As `Node.inventory`: what the machine's `found` holds."""
        return await self._ask("inventory", CHECK_WITHIN, self.take_stock)

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
        until = asyncio.get_running_loop().time() + within

        def start() -> None:
            self.answer(lambda: self.start(deployment, digest, sections, fence, confirm_within))

        await self.reach("apply", within)
        return await following.follow(self, deployment, Relay(on_event), until, start)

    async def status(
        self,
        deployment: str,
        seen: int = 0,
        on_event: OnEvent | None = None,
        *,
        within: float = APPLY_WITHIN,
    ) -> Outcome:
        """As `Node.status`."""
        until = asyncio.get_running_loop().time() + within
        return await following.follow(self, deployment, Relay(on_event, seen), until)

    async def close(self) -> None:
        """As `Node.close`."""

    # the way to it

    async def _ask(self, op: str, within: float, request: Callable[[], T]) -> T:
        await self.reach(op, within)
        return self.answer(request)

    def answer(self, request: Callable[[], T]) -> T:
        """What the agent answers; a refusal as the fault that `Node` makes of it."""
        try:
            return request()
        except Refusal as refused:
            if refused.code == "unconfirmed":
                other = str(refused.extra["deployment"])
                raise Unconfirmed(self.server, refused.message, deployment=other, hint=refused.hint) from None
            raise AgentFault(self.server, refused.message, code=refused.code, hint=refused.hint) from None

    async def reach(self, op: str, within: float) -> None:
        """Comes back when the node would answer the request `op`, and raises what `Node` raises when it would not,
        after as long as that takes; `within` is the deadline of the answer, in seconds."""
        self.check_network()
        if self.frozen and not await self.wait_for(lambda: not self.frozen, CONNECT_WITHIN):
            text = f"{self.address} port 22 did not complete a login within {CONNECT_WITHIN:g} s"
            raise NodeUnreachable(self.server, text)
        self.check_network()
        if self.denied:
            raise AccessDenied(self.server, f"{self.address} port 22 refused the key of user panel")
        if not self.enrolled:
            text = "the agent cannot start: command not found"
            raise NotEnrolled(self.server, text, hint="enrol the server (again)")
        link = self.links
        if self.silent and not await self.wait_for(lambda: not self.silent or self.links != link, within):
            raise self.late(op, within)
        if self.slow:
            await asyncio.sleep(min(self.slow, within))
            if self.slow >= within:
                raise self.late(op, within)
        self.check_network()
        if self.garbage:
            text = "the agent answered outside the protocol: hello.agent is NoneType, not str"
            raise AgentFault(
                self.server, text, code="protocol", hint="enrol the server again to renew the agent"
            )

    def check_network(self) -> None:
        """Raise NodeUnreachable when the node cannot be connected to just now."""
        place = f"{self.address} port 22"
        hint = "check the address and that sshd runs on the node"
        if self.down:
            raise NodeUnreachable(self.server, f"cannot connect to {place}: No route to host", hint=hint)
        if self._up_at is not None:
            loop, at = self._up_at
            if not loop.is_closed() and loop.time() < at:
                raise NodeUnreachable(
                    self.server, f"cannot connect to {place}: Connection refused", hint=hint
                )

    def late(self, op: str, within: float) -> DeadlinePassed:
        """The error for an answer that did not come within so many seconds."""
        return DeadlinePassed(
            self.server,
            f"the agent did not answer {op!r} within {within:g} s",
            hint="look at the node's load; an apply goes on and is found again by the next look",
        )

    def lost(self) -> NodeLost:
        """The error for a connection that went."""
        text = f"the connection to {self.address} was lost before the agent answered"
        return NodeLost(self.server, text)
