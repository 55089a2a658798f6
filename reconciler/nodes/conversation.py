"""The conversation with an agent (docs/protocol.md): one request at a time, typed answers, deadlines."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Self, TypeVar

from reconciler.errors import AgentFault, DeadlinePassed, Fenced, NodeBusy, NodeFault, Unconfirmed
from reconciler.kit.canonical import Json

from . import answers, inventory
from .agentzip import AgentProgram
from .answers import (
    CancelState,
    CheckResult,
    Confirmed,
    Denials,
    Event,
    Hello,
    Malformed,
    Object,
    Offer,
    Outcome,
    Prepared,
    UnitState,
)
from .channel import SERVE, Channel
from .connection import Connection
from .inventory import Inventory
from .observing import Observer, Unobserved

PROTOCOL = 1
BLOB_PART = 4 * 1024 * 1024
"""Decoded bytes of a body in one line."""

# Seconds an answer may take. Those of apply and status come from the caller: a first converge installs packages.
HELLO_WITHIN = 20.0
ASIDE_WITHIN = 30.0
UPDATES_WITHIN = 900.0
"""Seconds for a node to fetch the lists of its repositories, waiting for the package manager's lock meanwhile."""
CHECK_WITHIN = 120.0
TRANSFER_WITHIN = 120.0
APPLY_WITHIN = 3600.0
UNDO_WITHIN = 120.0

CONFIRM_WITHIN = 120
"""Seconds after which a node undoes what could have locked us out, unless it is confirmed."""

OnEvent = Callable[[Event], Awaitable[None]]
T = TypeVar("T")


class Conversation:
    """One running agent to talk to. Made by `Conversation.open`; a context manager that ends it.

    Every call raises NodeLost (the connection ended), DeadlinePassed, NotEnrolled or AccessDenied (the agent cannot start),
    and AgentFault with the agent's own code for a refused request or `protocol` for an answer that docs/protocol.md does not know.
    A call that was cancelled or late leaves the conversation closed.
    """

    def __init__(self, server: str, channel: Channel, observer: Observer | None = None) -> None:
        self._server = server
        self._channel = channel
        self._observer = observer or Unobserved()
        self._turn = asyncio.Lock()
        self._number = 0
        self._closed = False

    @classmethod
    async def open(
        cls, connection: Connection, command: str = SERVE, observer: Observer | None = None
    ) -> Self:
        """Starts the agent over `connection`."""
        return cls(connection.target.server, await Channel.open(connection, command), observer)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def closed(self) -> bool:
        """Whether it can no longer be used."""
        return self._closed

    @property
    def busy(self) -> bool:
        """Whether a request waits for its answer, so that another one would have to wait for its turn."""
        return self._turn.locked()

    async def close(self) -> None:
        """Ends the agent's process; a running apply goes on without it. May be called again."""
        self._closed = True
        await self._channel.close()

    async def hello(self) -> Hello:
        """Who is there: version, facts, the kept bundle, a running apply."""
        result = await self._request("hello", {"protocol": PROTOCOL}, HELLO_WITHIN)
        spoken = result.get("protocol")
        if spoken != PROTOCOL:
            raise AgentFault(
                self._server,
                f"the agent speaks protocol {spoken}, this program {PROTOCOL}",
                code="protocol",
                hint="enrol the server again with this program",
            )
        return self._read(answers.hello, result)

    async def check(self, digest: str, sections: Sequence[str] | None = None) -> CheckResult:
        """Compares the node with its kept bundle; not `known` when that has another digest."""
        request: dict[str, Json] = {"digest": digest}
        if sections is not None:
            request["sections"] = list(sections)
        try:
            result = await self._request("check", request, CHECK_WITHIN)
        except AgentFault as fault:
            if fault.code == "unknown_bundle":
                return CheckResult(known=False, in_sync=False)
            raise
        return self._read(answers.check, result)

    async def send_bundle(self, bundle: Mapping[str, Json]) -> str:
        """Hands over a whole bundle, which changes nothing yet; gives the digest the agent computed."""
        result = await self._request("bundle", {"bundle": bundle}, TRANSFER_WITHIN)
        digest = result.get("digest")
        if not isinstance(digest, str):
            raise self._malformed("bundle.digest is missing")
        return digest

    async def prepare(self, digest: str, sections: Sequence[str] | None = None) -> Prepared:
        """What an apply of these sections (None: all) would do, and which bodies the node lacks for it."""
        request = {"digest": digest, "sections": None if sections is None else list(sections)}
        return self._read(answers.prepared, await self._request("prepare", request, CHECK_WITHIN))

    async def send_blob(self, data: bytes) -> str:
        """Hands over a body, in parts of 4 MiB; gives its sha256."""
        digest = hashlib.sha256(data).hexdigest()
        for start in range(0, len(data) or 1, BLOB_PART):
            part = data[start : start + BLOB_PART]
            request: dict[str, Json] = {
                "sha256": digest,
                "data": base64.b64encode(part).decode("ascii"),
                "more": start + BLOB_PART < len(data),
            }
            await self._request("blob", request, TRANSFER_WITHIN)
        return digest

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
        """Applies and waits for the end, `within` seconds; the apply outlives this conversation.

        `confirm_within`: seconds after which the node undoes what could have locked us out, unless it is confirmed.

        Raises besides NodeBusy (with the other deployment), Fenced, AgentFault `unknown_bundle` or `missing_blobs`.
        """
        request: dict[str, Json] = {
            "deployment": deployment,
            "digest": digest,
            "sections": None if sections is None else list(sections),
            "fence": fence,
            "confirm": confirm_within,
        }
        result = await self._request("apply", request, within, on_event)
        return self._outcome(deployment, result)

    async def status(
        self,
        deployment: str,
        seen: int = 0,
        on_event: OnEvent | None = None,
        *,
        within: float = APPLY_WITHIN,
    ) -> Outcome:
        """Follows an apply that was started before, from the event after the first `seen` on, and waits for its end.

        Raises besides AgentFault `unknown_deployment`.
        """
        result = await self._request("status", {"deployment": deployment, "from": seen}, within, on_event)
        return self._outcome(deployment, result)

    async def cancel(self, deployment: str, fence: int) -> CancelState:
        """Has an apply stopped: `stopping`, or `ended` (also when nobody carries it out any more), or `unknown` here, in
        which case it will do nothing should it still come. How it ends, its Outcome tells.

        Raises besides Fenced when a daemon with a greater fence has been there.
        """
        request: dict[str, Json] = {"deployment": deployment, "fence": fence}
        return self._read(answers.cancel, await self._request("cancel", request, ASIDE_WITHIN))

    async def confirm(self, deployment: str) -> Confirmed:
        """Tells the node that its change did not lock us out: `undone` when the node was first, and put it back.

        Raises besides AgentFault `stale_connection` when this connection is older than the change, `unknown_deployment`.
        """
        request: dict[str, Json] = {"deployment": deployment}
        return self._read(answers.confirm, await self._request("confirm", request, UNDO_WITHIN))

    async def units(self, names: Sequence[str]) -> Mapping[str, UnitState]:
        """How these units (256 at most) are doing, by name. Raises besides AgentFault `bad_request` for what is no unit name."""
        result = self._read(answers.units, await self._request("units", {"names": list(names)}, ASIDE_WITHIN))
        if set(result) != set(names):
            raise self._malformed(f"units of {sorted(result)}, asked for {sorted(names)}")
        return result

    async def avc(self, cursor: Object | None, most: int) -> Denials:
        """What SELinux refused since `cursor` (None: since the log began), at most `most` distinct events (1000)."""
        request: dict[str, Json] = {"cursor": None if cursor is None else dict(cursor), "most": most}
        result = self._read(answers.denials, await self._request("avc", request, ASIDE_WITHIN))
        if len(result.events) > most:
            raise self._malformed(f"avc told {len(result.events)} events, asked for {most}")
        return result

    async def updates(self, packages: Sequence[str]) -> Mapping[str, Offer]:
        """What the node's repositories offer for those of these packages (256 at most) that are installed.

        The node fetches the lists of its repositories first. Raises besides AgentFault `packages` with what its package
        manager said.
        """
        request: dict[str, Json] = {"packages": list(packages)}
        return self._read(answers.updates, await self._request("updates", request, UPDATES_WITHIN))

    async def inventory(self) -> Inventory:
        """What is on the node, for an import; changes nothing."""
        return self._read(inventory.read, await self._request("inventory", {}, CHECK_WITHIN))

    async def upgrade(self, program: AgentProgram) -> None:
        """Replaces the agent's program file. The conversation is closed afterwards and must be opened again."""
        request: dict[str, Json] = {
            "data": base64.b64encode(program.data).decode("ascii"),
            "sha256": program.sha256,
        }
        result = await self._request("upgrade", request, TRANSFER_WITHIN)
        if result.get("agent") != program.sha256:
            raise self._malformed("upgrade.agent is not the digest that was sent")
        await self.close()

    async def _request(
        self, op: str, fields: Object, within: float, on_event: OnEvent | None = None
    ) -> Object:
        async with self._turn:
            if self._closed:
                raise await self._channel.ended()
            self._number += 1
            loop = asyncio.get_running_loop()
            began = loop.time()
            try:
                async with asyncio.timeout(within) as limit:
                    await self._channel.send({"id": self._number, "op": op, **fields})
                    result = await self._answer(self._number, on_event)
            except TimeoutError:
                await self.close()
                if not limit.expired():  # it came out of on_event
                    raise
                raise DeadlinePassed(
                    self._server,
                    f"the agent did not answer {op!r} within {within:g} s",
                    hint="look at the node's load; an apply goes on and is found again by the next look",
                ) from None
            except _Refused as refused:
                self._observer.answered(op, loop.time() - began)
                raise refused.fault from None
            except BaseException:
                # an answer may still be on its way: nothing after it could be told apart
                await self.close()
                raise
            else:
                self._observer.answered(op, loop.time() - began)
                return result

    async def _answer(self, number: int, on_event: OnEvent | None) -> Object:
        while True:
            message = await self._channel.receive()
            if message.get("id") != number:
                raise self._malformed(
                    f"an answer to request {message.get('id')!r}, expected {number}: {message}"
                )
            if "event" in message:
                event = self._read(answers.event, message["event"])
                if on_event is not None:
                    await on_event(event)
                continue
            if message.get("ok") is True:
                return self._read(_result, message)
            raise _Refused(self._refusal(message.get("error")))

    def _refusal(self, error: Json) -> NodeFault:
        """The fault for `error` of an answer that is not ok."""
        if not isinstance(error, dict) or not isinstance(error.get("code"), str):
            return self._malformed(f"a refusal without a code: {error}")
        code = str(error["code"])
        message = str(error.get("message") or code)
        hint = str(error.get("hint") or "")
        match code:
            case "busy":
                return NodeBusy(
                    self._server, message, deployment=str(error.get("deployment") or ""), hint=hint
                )
            case "unconfirmed":
                return Unconfirmed(
                    self._server, message, deployment=str(error.get("deployment") or ""), hint=hint
                )
            case "fenced":
                return Fenced(
                    self._server,
                    message,
                    hint=hint or "stop the older daemon, or let this one take the node over",
                )
            case _:
                return AgentFault(self._server, message, code=code, hint=hint)

    def _outcome(self, deployment: str, result: Object) -> Outcome:
        outcome = self._read(answers.outcome, result)
        if outcome.deployment != deployment:
            raise self._malformed(f"the outcome of {outcome.deployment}, asked for {deployment}")
        return outcome

    def _read(self, read: Callable[[Object], T], value: Json) -> T:
        try:
            return read(value)  # type: ignore[arg-type]  # the readers refuse what is not an object
        except Malformed as error:
            raise self._malformed(str(error)) from None

    def _malformed(self, what: str) -> AgentFault:
        return AgentFault(
            self._server,
            f"the agent answered outside the protocol: {what[:300]}",
            code="protocol",
            hint="enrol the server again to renew the agent",
        )


class _Refused(Exception):
    def __init__(self, fault: NodeFault) -> None:
        self.fault = fault


def _result(message: Object) -> Object:
    result = message.get("result")
    if not isinstance(result, dict):
        raise Malformed("an answer without a result")
    return result
