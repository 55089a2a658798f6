"""A node that exists in memory only and answers as docs/protocol.md says, with faults on demand.

It has the calls of `reconciler.nodes.node.Node`. Its only time is asyncio's, so that it can be played on a
`SimulatedLoop`. An apply goes on when whoever follows it goes away, also when the event loop ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from reconciler.agent import fields
from reconciler.agent.bundle import Bundle
from reconciler.agent.faults import Refusal
from reconciler.errors import (
    AccessDenied,
    AgentFault,
    DeadlinePassed,
    Fenced,
    NodeBusy,
    NodeLost,
    NodeUnreachable,
    NotEnrolled,
)
from reconciler.kit.canonical import Json
from reconciler.kit.clock import Clock, stamp, utc_now
from reconciler.nodes.answers import CheckResult, Difference, Facts, Hello, Outcome, Prepared
from reconciler.nodes.conversation import APPLY_WITHIN, CHECK_WITHIN, HELLO_WITHIN, TRANSFER_WITHIN, OnEvent
from reconciler.testing import following, things
from reconciler.testing.applying import Apply, Debts, PowerCut, Site, Trouble
from reconciler.testing.following import Relay
from reconciler.testing.journal import KEPT, Journal
from reconciler.testing.things import Things

T = TypeVar("T")
AGENT = "f" * 64
"""The version of the agent that played nodes and pools agree on."""

DEBIAN_12 = Facts("debian", "12", "", "node", "6.1.0", "x86_64", "apt", "disabled", "boot-1", "machine-1")
NO_SPACE = "no space left on the file system"
CONNECT_TIMEOUT = 10.0
KEEPALIVE = 45.0
"""Seconds until a silent peer counts as lost."""


class FakeNode:
    """One node. Everything below `things` may be set at any time; whoever waits for the node notices at once.

    `things` is what is on it, by step key. `written` are the bodies of files and the passwords that it was given, by
    sha256. `outcomes` and `journals` are its applies, `applied` counts them and `fences` are their numbers.
    `step_seconds` is how long a step takes, `first_wait` how long a follower waits before it connects again.
    """

    def __init__(self, address: str, facts: Facts = DEBIAN_12, *, clock: Clock = utc_now) -> None:
        self._bells: set[asyncio.Event] = set()
        self.address = address
        self.server = address
        """The name in errors; a pool sets it to that of the manifest."""
        self.facts = facts
        self.clock = clock
        self.things: Things = {}
        self.written: dict[str, bytes] = {}
        self.trouble = Trouble()
        self.debts = Debts()
        self.journals: dict[str, Journal] = {}
        self.applied = 0
        self.upgrades = 0
        self.fences: list[int] = []
        self.fence = 0
        self.agent = AGENT
        self.host_key = ""
        """The public host key it shows; empty: whatever is pinned when a pool first connects."""
        self.links = 0
        """Counts how often every open connection was cut."""
        self.step_seconds = 0.0
        self.first_wait = 0.5
        # faults
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
        self.cut_after: int | None = None
        """The power goes after this many steps of the next apply, counted as they are looked at."""
        self.drop_after: int | None = None
        """The connection of the next apply goes once this many events were told; the apply goes on."""
        self.boot_seconds = 0.0
        """How long the node is away after a power cut."""
        self._up_at: tuple[asyncio.AbstractEventLoop, float] | None = None
        self._kept: Bundle | None = None
        self._next: Bundle | None = None
        self._blobs: dict[str, bytes] = {}
        self._marks = 0
        self._runner: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"FakeNode({self.address!r})"

    def __setattr__(self, name: str, value: object) -> None:
        before = self.__dict__.get(name)
        super().__setattr__(name, value)
        if name == "down" and value and not before:
            self.links += 1  # also rings
        elif not name.startswith("_"):
            self._ring()

    # what a test does to the node

    @property
    def failing(self) -> set[str]:
        """Sections and step keys that fail, and `reload:UNIT` for units whose reload does."""
        return self.trouble.failing

    @failing.setter
    def failing(self, failing: set[str]) -> None:
        self.trouble.failing = failing

    @property
    def disk_full(self) -> bool:
        """Nothing can be written on the node."""
        return bool(self.trouble.unwritable)

    @disk_full.setter
    def disk_full(self, full: bool) -> None:
        self.trouble.unwritable = NO_SPACE if full else ""

    @property
    def running(self) -> str:
        """The deployment that is being applied, empty when there is none."""
        return next((name for name, journal in self.journals.items() if journal.running), "")

    @property
    def outcomes(self) -> Mapping[str, Outcome]:
        """How each apply ended, by deployment; those that run are left out."""
        found = ((name, journal.answer()) for name, journal in self.journals.items())
        return {name: outcome for name, outcome in found if outcome is not None}

    def body(self, path: str) -> bytes:
        """What the file at a path holds. KeyError when there is none."""
        return self.written[self.things[f"file:{path}"]["sha256"]]

    def drop(self) -> None:
        """Cut every open connection; new ones work."""
        self.links += 1

    def power_cut(self) -> None:
        """Stop the machine and start it again: a running apply is interrupted, the boot id is another.

        It is reachable again after `boot_seconds` of the loop's time.
        """
        for journal in self.journals.values():
            if journal.running:
                journal.alive = False
        runner, self._runner = self._runner, None
        if runner is not None and not runner.done():
            runner.cancel()
        self._boot()

    def reinstall(self, host_key: str) -> None:
        """The machine is set up anew: another host key and machine id, no agent, nothing on it."""
        self.power_cut()
        self.host_key, self.enrolled = host_key, False
        number = int(self.facts.machine_id.rpartition("-")[2] or 0) + 1
        self.facts = dataclasses.replace(self.facts, machine_id=f"machine-{number}")
        self.things, self.written, self.journals, self.debts = {}, {}, {}, Debts()
        self._kept = self._next = None
        self._blobs = {}
        self.fence = 0

    def _boot(self) -> None:
        number = int(self.facts.boot_id.rpartition("-")[2] or 0) + 1
        self.facts = dataclasses.replace(self.facts, boot_id=f"boot-{number}")
        self._blobs = {}  # kept in memory
        if self.boot_seconds:
            loop = asyncio.get_running_loop()
            self._up_at = (loop, loop.time() + self.boot_seconds)
        self.drop()

    # the calls of Node

    async def ready(self) -> Hello:
        """As `Node.ready`."""
        return await self.hello()

    async def hello(self) -> Hello:
        """As `Node.hello`."""
        return await self._ask("hello", HELLO_WITHIN, self._hello)

    async def check(self, digest: str, sections: Sequence[str] | None = None) -> CheckResult:
        """As `Node.check`."""
        return await self._ask("check", CHECK_WITHIN, lambda: self._check(digest, sections))

    async def send_bundle(self, bundle: Mapping[str, Json]) -> str:
        """As `Node.send_bundle`."""
        return await self._ask("bundle", TRANSFER_WITHIN, lambda: self._keep_next(bundle))

    async def prepare(self, digest: str, sections: Sequence[str] | None = None) -> Prepared:
        """As `Node.prepare`."""
        return await self._ask("prepare", CHECK_WITHIN, lambda: self._prepare(digest, sections))

    async def send_blob(self, data: bytes) -> str:
        """As `Node.send_blob`."""
        digest = hashlib.sha256(data).hexdigest()

        def keep() -> str:
            self._blobs[digest] = data
            return digest

        return await self._ask("blob", TRANSFER_WITHIN, keep)

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
        until = asyncio.get_running_loop().time() + within
        relay = Relay(on_event)

        def start() -> Journal:
            if deployment not in self.journals:
                self._start(deployment, digest, sections, fence)
            return self.journals[deployment]

        await self.reach("apply", min(within, HELLO_WITHIN))
        return await following.follow(self, deployment, relay, until, start)

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
        return await following.follow(self, deployment, Relay(on_event, seen), until, None)

    async def close(self) -> None:
        """As `Node.close`."""

    # the connection

    async def _ask(self, op: str, within: float, answer: Callable[[], T]) -> T:
        await self.reach(op, within)
        return self._said(answer)

    def _said(self, answer: Callable[[], T]) -> T:
        try:
            return answer()
        except Refusal as refused:
            raise AgentFault(self.server, refused.message, code=refused.code, hint=refused.hint) from None

    async def reach(self, op: str, within: float) -> None:
        """Comes back when the node would answer the request `op`; raises what `Node` raises when it would not, in time."""
        self.check_network()
        if self.frozen and not await self.wait_for(lambda: not self.frozen, CONNECT_TIMEOUT):
            text = f"{self.address} port 22 did not complete a login within {CONNECT_TIMEOUT:g} s"
            raise NodeUnreachable(self.server, text)
        self.check_network()
        if self.denied:
            raise AccessDenied(self.server, f"{self.address} port 22 refused the key of user panel")
        if not self.enrolled:
            raise NotEnrolled(
                self.server, "the agent cannot start: command not found", hint="enrol the server"
            )
        if self.silent and not await self.wait_for(lambda: not self.silent, within):
            raise self.late(op, within)
        if self.slow:
            await asyncio.sleep(min(self.slow, within))
            if self.slow >= within:
                raise self.late(op, within)
            self.check_network()
        if self.garbage:
            raise AgentFault(self.server, "the agent answered outside the protocol: {}", code="protocol")

    def check_network(self) -> None:
        """Raise NodeUnreachable when the node cannot be connected to just now."""
        if self.down:
            raise NodeUnreachable(self.server, f"cannot connect to {self.address} port 22: no route to host")
        if self._up_at is not None:
            loop, at = self._up_at
            if not loop.is_closed() and loop.time() < at:
                raise NodeUnreachable(
                    self.server, f"cannot connect to {self.address} port 22: connection refused"
                )

    def late(self, op: str, within: float) -> DeadlinePassed:
        """The error for an answer that did not come within so many seconds."""
        return DeadlinePassed(self.server, f"the agent did not answer {op!r} within {within:g} s")

    def lost(self) -> NodeLost:
        """The error for a connection that went."""
        return NodeLost(self.server, f"the connection to {self.address} was lost before the agent answered")

    async def wait_for(self, true: Callable[[], bool], seconds: float) -> bool:
        """Wait until something about the node has become true; false when the time is up."""
        bell = asyncio.Event()
        self._bells.add(bell)
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                while not true():
                    bell.clear()
                    await bell.wait()
                return True
        except TimeoutError:
            return False
        finally:
            self._bells.discard(bell)

    def _ring(self) -> None:
        for bell in self._bells:
            bell.set()

    # the agent

    def _hello(self) -> Hello:
        kept = self._kept.digest if self._kept else ""
        return Hello(self.agent, "3.11.2", self.facts, kept, self.running, self.fence)

    def _keep_next(self, value: Mapping[str, Json]) -> str:
        bundle = Bundle(copy.deepcopy(dict(value)))
        if self.disk_full and (self._next is None or self._next.digest != bundle.digest):
            raise Refusal("internal", f"/var/lib/panel/bundle-next.json: {NO_SPACE}")
        self._next = bundle
        return bundle.digest

    def _find(self, digest: str) -> Bundle:
        for bundle in (self._next, self._kept):
            if bundle is not None and bundle.digest == digest:
                return bundle
        raise Refusal("unknown_bundle", f"no bundle {digest[:12]}… is on the node", "send the whole bundle")

    def _check(self, digest: str, sections: Sequence[str] | None) -> CheckResult:
        if self._kept is None or self._kept.digest != digest:
            return CheckResult(known=False, in_sync=False)
        found, _ = self._compare(self._kept, sections)
        return CheckResult(known=True, in_sync=not found, differences=found)

    def _prepare(self, digest: str, sections: Sequence[str] | None) -> Prepared:
        return Prepared(*self._compare(self._find(digest), sections))

    def _compare(
        self, bundle: Bundle, sections: Sequence[str] | None
    ) -> tuple[tuple[Difference, ...], tuple[str, ...]]:
        found: list[Difference] = []
        wants: list[str] = []
        chosen = bundle.chosen(None if sections is None else list(sections))
        for section in chosen:
            for step in section.steps:
                difference = things.compare(self.things, section.id, step)
                if difference is None:
                    continue
                found.append(difference)
                body = things.body_of(step, difference)
                if body and body not in self._blobs and body not in wants:
                    wants.append(body)
        return (*found, *self._owed({section.id for section in chosen})), tuple(wants)

    def _owed(self, chosen: set[str]) -> list[Difference]:
        found = []
        for unit, (action, sections) in sorted(self.debts.units.items()):
            for section in sorted(sections & chosen)[:1]:
                note = f"a {action} is still owed since an apply was interrupted"
                found.append(Difference(section, f"unit:{unit}", "update", (), note))
        return found if not self.running else []

    def _start(self, deployment: str, digest: str, sections: Sequence[str] | None, fence: int) -> None:
        """Begin an apply. Raises Fenced, NodeBusy, Refusal."""
        try:
            fields.ulid(deployment)
        except ValueError as error:
            raise Refusal("bad_request", f"deployment {error}") from None
        if fence < self.fence:
            text = f"a newer daemon has taken this node over (fence {self.fence})"
            raise Fenced(self.server, text, hint="stop the older daemon, or let this one take the node over")
        bundle = self._find(digest)
        ids = None if sections is None else list(sections)
        chosen = [section.id for section in bundle.chosen(ids)]
        if self._compare(bundle, ids)[1]:
            raise Refusal("missing_blobs", "the apply needs bodies that are not here")
        if self.running:
            text = "another apply is running"
            raise NodeBusy(self.server, text, deployment=self.running, hint="wait for it or follow it")
        if self.disk_full:
            raise Refusal("internal", f"cannot write the journal in /var/lib/panel: {NO_SPACE}")
        self.fence = fence
        self.fences.append(fence)
        self.applied += 1
        self.written |= self._blobs
        journal = Journal(deployment, chosen, lambda: stamp(self.clock()), self._ring)
        self.journals[deployment] = journal
        for old in sorted(self.journals)[:-KEPT]:
            del self.journals[old]
        run = Apply(self._site(bundle), journal, bundle, ids).run()
        self._runner = asyncio.create_task(self._pass_time(journal, run), name=f"apply on {self.address}")
        self._runner.add_done_callback(lambda task: self._end(task, journal, run))

    async def _pass_time(self, journal: Journal, run: Iterator[float]) -> None:
        """The detached runner, as long as an event loop runs it."""
        try:
            for pause in run:
                if pause:
                    await asyncio.sleep(pause)
                while self.frozen:
                    await self.wait_for(lambda: not self.frozen, KEEPALIVE)
        except PowerCut:
            self._break(journal)

    def _end(self, task: asyncio.Task[None], journal: Journal, run: Iterator[float]) -> None:
        """The runner has ended, or its event loop has: then the node goes on without anybody who could see it."""
        if task.cancelled() and journal.running:
            with contextlib.suppress(PowerCut):
                for _ in run:
                    pass
            if journal.outcome is None:
                self._break(journal)
        elif not task.cancelled() and (error := task.exception()) is not None:
            journal.fault = error
            self._ring()

    def _break(self, journal: Journal) -> None:
        journal.alive = False
        self._boot()

    def _keep(self, bundle: Bundle) -> None:
        self._kept = bundle
        for body in bundle.bodies():
            self._blobs.pop(body, None)

    def _site(self, bundle: Bundle) -> Site:
        left, self.cut_after = self.cut_after, None

        def before_step(_: str) -> None:
            nonlocal left
            if left is not None and (left := left - 1) < 0:
                raise PowerCut

        def mark() -> int:
            self._marks += 1
            return self._marks

        return Site(
            self.things,
            self.trouble,
            self.debts,
            mark,
            self.step_seconds,
            before_step,
            lambda: self._keep(bundle),
        )
