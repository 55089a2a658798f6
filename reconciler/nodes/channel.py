"""The agent's channel: lines of JSON over the standard input and output of `serve`, and why it ended when it ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Self

import asyncssh

from reconciler.errors import AccessDenied, AgentFault, NodeFault, NotEnrolled
from reconciler.kit.canonical import Json

from .agentzip import AGENT_PATH
from .answers import Object
from .connection import CHUNK, Connection, Process
from .output import HeadTail

SERVE = f"LC_ALL=C exec sudo -n {AGENT_PATH} serve"
"""The remote command. In the C locale, so that what sudo says about a refusal can be told apart."""

LINE_LIMIT = 8 * 1024 * 1024
"""Bytes of one line, in either direction."""

STDERR_LIMIT = 16 * 1024

END_GRACE = 5.0
"""Seconds to wait for the exit status once the agent's output has ended."""

# What sudo says, in the C locale, when the rule is missing or another.
_REFUSALS = (
    "a password is required",
    "not allowed",
    "not in the sudoers",
    "a terminal is required",
    "must have a tty",
)
_ABSENCES = ("not found", "no such file", "neither /usr/bin/python3")


class Channel:
    """One running `serve`. Made by `Channel.open`; lines are sent and received whole."""

    def __init__(
        self, connection: Connection, process: Process, exit_stack: contextlib.AsyncExitStack
    ) -> None:
        self._connection = connection
        self._server = connection.target.server
        self._process = process
        self._exit = exit_stack
        self._buffer = bytearray()
        self._stderr = HeadTail(STDERR_LIMIT)
        self._closed = False
        self._listener = asyncio.create_task(self._listen())

    @classmethod
    async def open(cls, connection: Connection, command: str = SERVE) -> Self:
        """Starts the agent. Raises what `Connection.process` raises."""
        async with contextlib.AsyncExitStack() as stack:
            process = await stack.enter_async_context(connection.process(command))
            return cls(connection, process, stack.pop_all())
        raise AssertionError("unreachable: the stack swallows nothing")

    async def close(self) -> None:
        """Ends the channel, and the remote process with it. May be called again."""
        self._closed = True
        try:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)
        finally:  # also when this very call is cancelled: the remote process and the channel must not stay
            await self._exit.aclose()

    async def send(self, message: Object) -> None:
        """Sends one object. Raises AgentFault when it is longer than a line may be, and for a channel that ended
        what `ended` gives.
        """
        line = (
            json.dumps(message, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode() + b"\n"
        )
        if len(line) > LINE_LIMIT:
            raise AgentFault(
                self._server,
                f"a request {message.get('op')!r} of {len(line)} bytes is over the limit of {LINE_LIMIT}",
                code="bad_request",
                hint="split the server's sites over more servers",
            )
        try:
            self._process.stdin.write(line)
            await self._process.stdin.drain()
        except (OSError, asyncssh.Error):
            raise await self.ended() from None

    async def receive(self) -> Object:
        """The next object the agent sent. Raises AgentFault for a line that is too long or not an object,
        and for a channel that ended what `ended` gives.
        """
        line = await self._line()
        try:
            value: Json = json.loads(line)
        except (ValueError, RecursionError):
            raise AgentFault(self._server, f"the agent sent a line that is not JSON: {shown(line)}") from None
        if not isinstance(value, dict):
            raise AgentFault(self._server, f"the agent sent a line that is not an object: {shown(line)}")
        return value

    async def _line(self) -> bytes:
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > LINE_LIMIT:
                raise AgentFault(self._server, f"the agent sent a line of more than {LINE_LIMIT} bytes")
            try:
                data = await self._process.stdout.read(CHUNK)
            except (OSError, asyncssh.Error):
                data = b""
            if not data:
                raise await self.ended()
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    async def _listen(self) -> None:
        with contextlib.suppress(OSError, asyncssh.Error):
            while data := await self._process.stderr.read(CHUNK):
                self._stderr.add(data)

    async def ended(self) -> NodeFault:
        """Why the channel ended, as the error to raise."""
        if self._closed:  # the agent was ended from here, which says nothing about it
            return self._connection.lost("here, before the agent answered")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_GRACE):
                await self._process.wait_closed()
                await asyncio.wait({self._listener})  # its result, also a cancellation, is not ours
        status = self._process.exit_status
        if status is None:
            return self._connection.lost("before the agent answered")
        said = " ".join(self._stderr.output().text.split())
        return explain(self._server, status, said)


def explain(server: str, status: int, said: str) -> NodeFault:
    """The error for an agent that ended with `status` and `said` something on standard error."""
    lowered = said.lower()
    if any(word in lowered for word in _ABSENCES) or status in {126, 127}:
        return NotEnrolled(
            server, f"the agent cannot start: {said[-300:] or status}", hint="enrol the server (again)"
        )
    if "sudo" in lowered and any(word in lowered for word in _REFUSALS):
        return AccessDenied(
            server,
            f"sudo refused the agent: {said[-300:]}",
            hint="enrol the server again: it puts /etc/sudoers.d/panel-reconciler back",
        )
    if status == -1:
        return AgentFault(
            server, "the agent was killed on the node", hint="look for the reason in its journal"
        )
    return AgentFault(server, f"the agent ended with status {status}: {said[-600:] or 'it said nothing'}")


def shown(line: bytes) -> str:
    """The beginning of a line, fit for a message. Answers hold no secrets: bodies travel to the node only."""
    return repr(line[:120].decode("utf-8", "replace"))
