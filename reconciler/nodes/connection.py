"""One SSH connection to a node, with the traps of the transport closed.

Seen with asyncssh 2.24.1 and OpenSSH 9.2, each pinned by a test: a cancelled call leaves the remote command running;
sshd passes no signal on to a command of root;
a lost connection looks like a finished command without a status; one byte that is not UTF-8 closes a connection in text mode;
a frozen peer is not noticed without keepalives; sshd refuses more than ten channels; output is buffered without limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import asyncssh

from reconciler.errors import DeadlinePassed, NodeBusy, NodeLost
from reconciler.kit.secret import Secret

from . import hostkeys, keys, login
from .output import OUTPUT_LIMIT, HeadTail, Output
from .target import Target

MAX_CHANNELS = 8
"""Channels at once on one connection: sshd's MaxSessions is 10 by default, two are left for people's commands."""

KILL_GRACE = 2.0
"""Seconds between TERM and KILL for a remote command that is no longer wanted."""

CHUNK = 65536

PID_MARK = b"reconciler-pid:"
TELL_PID = f'echo "{PID_MARK.decode()}$$" >&2; exec sh -c "$0"'

Process = asyncssh.SSHClientProcess[bytes]


@dataclass(frozen=True)
class Keepalive:
    """How a silent peer is found out: after `interval` seconds without a word a question, lost after `count` without an answer."""

    interval: float = 15.0
    count: int = 3

    def __post_init__(self) -> None:
        if self.interval <= 0 or self.count < 1:
            raise ValueError("a keepalive needs an interval above 0 and a count of 1 or more")

    @property
    def bound(self) -> float:
        """Seconds after which a peer that fell silent is given up, whatever waits for it."""
        return self.interval * (self.count + 1)


@dataclass(frozen=True)
class Finished:
    """A remote command that ended. `signal` (`"KILL"`) when one ended it; `exit_status` is then -1."""

    exit_status: int
    signal: str
    stdout: Output
    stderr: Output


class Connection:
    """An open connection. Made by `Connection.open`; a context manager that closes it."""

    def __init__(
        self, target: Target, connection: asyncssh.SSHClientConnection, client: login.Client
    ) -> None:
        self.target = target
        self._connection = connection
        self._client = client
        self._channels = asyncio.Semaphore(MAX_CHANNELS)
        self._stopping: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(
        cls, target: Target, *, keepalive: Keepalive | None = None, identities: Sequence[Secret] = ()
    ) -> Self:
        """Logs in with the target's key, then with each of `identities`.

        Raises NodeUnreachable, HostKeyMismatch (with both fingerprints), AccessDenied, NotEnrolled (no host key
        is pinned), SettingsFault (an unusable private key).
        """
        keepalive = keepalive or Keepalive()
        trusted = hostkeys.pinned(target.server, target.host_keys)
        private = [
            keys.parse_private(secret, where=f"{target.server}: the private key")
            for secret in (target.private_key, *identities)
        ]
        client = login.Client()
        options = asyncssh.SSHClientConnectionOptions(
            config=None,  # nothing of the account that the daemon runs under
            agent_path=None,
            client_keys=private,
            known_hosts=(trusted, [], []),
            server_host_key_algs=hostkeys.preference(trusted),
            username=target.user,
            preferred_auth="publickey",
            password_auth=False,
            kbdint_auth=False,
            host_based_auth=False,
            gss_auth=False,
            gss_kex=False,
            gss_host=None,
            keepalive_interval=keepalive.interval,
            keepalive_count_max=keepalive.count,
            login_timeout=target.connect_timeout,
            encoding=None,
        )
        try:
            async with asyncio.timeout(target.connect_timeout):
                connection = await asyncssh.connect(
                    target.address, target.port, options=options, client_factory=lambda: client
                )
        except (OSError, TimeoutError, asyncssh.Error) as error:
            raise login.refusal(target, trusted, client, error) from error
        return cls(target, connection, client)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def closed(self) -> bool:
        """Whether the connection has ended, on either side."""
        return self._client.ended or self._connection.is_closed()

    async def close(self) -> None:
        """Ends what still runs, then the connection. Takes a few seconds at most, also when the peer is frozen; when this
        call is cancelled, the connection ends at once. May be called again.
        """
        try:
            if self._stopping and not self.closed:
                await asyncio.wait(self._stopping, timeout=2 * KILL_GRACE + 1)
            self._connection.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(KILL_GRACE):
                    await self._connection.wait_closed()
        finally:
            self._connection.abort()

    async def run(
        self, command: str, *, stdin: bytes = b"", within: float, limit: int = OUTPUT_LIMIT
    ) -> Finished:
        """Runs a shell command and waits for its end, `within` seconds at most from the opening of the channel.

        Keeps `limit` bytes of each stream. When the call is cancelled or the time is up the command gets TERM, then KILL.
        Raises NodeLost when the connection ends before the command does (it may still run), DeadlinePassed.
        """
        try:
            async with asyncio.timeout(within), self.process(command) as process:
                async with asyncio.TaskGroup() as group:
                    out = group.create_task(_collect(process.stdout, limit))
                    err = group.create_task(_collect(process.stderr, limit))
                    group.create_task(_feed(process, stdin))
                await process.wait_closed()
        except TimeoutError:
            raise DeadlinePassed(
                self.target.server,
                f"no end of the command within {within:g} s",
                hint="look at the node's load",
            ) from None
        status, signal = process.exit_status, process.exit_signal
        if status is None:  # never to be read as success: the connection went away under the command
            raise self.lost("before the command ended")
        return Finished(status, signal[0] if signal else "", out.result(), err.result())

    @contextlib.asynccontextmanager
    async def process(self, command: str) -> AsyncIterator[Process]:
        """A running command with byte streams; ended (TERM, then KILL) when the block is left.

        Waits while 8 channels are in use. Raises NodeLost or NodeBusy (the node refuses another session).
        """
        async with self._channels:
            opening = asyncio.ensure_future(self._start(command))
            try:
                process, leader = await asyncio.shield(opening)
            except asyncio.CancelledError:
                # the request may have reached the node: what comes of it must end as well
                self._later(self._stop_opened(opening))
                raise
            try:
                yield process
            finally:
                if process.exit_status is None and not self.closed:
                    self._later(self._stop(process, leader))
                else:
                    process.close()

    async def _start(self, command: str) -> tuple[Process, int]:
        """The started command, and the process id to signal it by when sshd will not (else 0)."""
        try:
            if self.target.user != "root":
                return await self._connection.create_process(command, encoding=None), 0
            # sshd passes no signals on for root ("requires privilege separation"), so the shell tells its process id
            wrapped = f"exec sh -c {shlex.quote(TELL_PID)} {shlex.quote(command)}"
            process = await self._connection.create_process(wrapped, encoding=None)
            leader = await _told_pid(process)
        except asyncssh.ChannelOpenError as error:
            if self.closed or self._connection.is_closed():
                raise self.lost("before the command started") from error
            raise NodeBusy(
                self.target.server,
                f"the node refused another session: {error.reason}",
                hint="MaxSessions in its sshd_config must be 10 or more",
            ) from error
        except (OSError, asyncssh.Error) as error:
            raise self.lost("before the command started") from error
        return process, leader

    async def _stop_opened(self, opening: asyncio.Future[tuple[Process, int]]) -> None:
        with contextlib.suppress(NodeLost, NodeBusy):
            await self._stop(*await opening)

    async def _stop(self, process: Process, leader: int) -> None:
        """TERM, a grace, KILL, each to the command's whole process group; then the channel is closed."""
        with contextlib.suppress(OSError, asyncssh.Error, TimeoutError):
            for signal in ("TERM", "KILL"):
                if leader:
                    group = f"$(cut -d ' ' -f 5 /proc/{leader}/stat)"
                    async with asyncio.timeout(KILL_GRACE):
                        await self._connection.create_process(
                            f'kill -s {signal} -- "-{group}"', encoding=None
                        )
                else:
                    process.send_signal(signal)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(KILL_GRACE):
                        await process.wait_closed()
                        break
        # not close(): it would wait for what the peer has not read to be sent first (asyncssh #628)
        process.channel.abort()

    def _later(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    def lost(self, when: str) -> NodeLost:
        """The error for a connection that ended `when`."""
        why = f" ({self._client.reason})" if self._client.reason else ""
        return NodeLost(
            self.target.server,
            f"the connection to {self.target.address} ended {when}{why}",
            hint="what was started may still run on the node; the next look settles it",
        )


async def _collect(reader: asyncssh.SSHReader[bytes], limit: int) -> Output:
    kept = HeadTail(limit)
    # a lost connection shows in the missing exit status
    with contextlib.suppress(OSError, asyncssh.Error):
        while data := await reader.read(CHUNK):
            kept.add(data)
    return kept.output()


async def _feed(process: Process, data: bytes) -> None:
    with contextlib.suppress(OSError, asyncssh.Error):  # a command need not read its input
        process.stdin.write(data)
        await process.stdin.drain()
        process.stdin.write_eof()


async def _told_pid(process: Process) -> int:
    """The number in the line that TELL_PID writes; 0 when the command's shell did not get that far."""
    seen = b""
    while not seen.endswith(b"\n") or PID_MARK not in seen:
        byte = await process.stderr.read(1)  # nothing of the command's own output may be taken
        if not byte or len(seen) > CHUNK:
            return 0
        seen += byte
    number = seen.rpartition(PID_MARK)[2].strip()
    return int(number) if number.isdigit() else 0
