"""command: a program of the daemon's settings, run on the daemon's machine without a shell, in bounded time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import Mapping, Sequence

from reconciler.kit.text import did_you_mean
from reconciler.loop.probes.checks import CommandCheck
from reconciler.loop.probes.model import HealthTarget, Redact, Verdict, failed, passed

SECONDS = 30.0
"""How long a command may take."""

OUTPUT = 4096
"""Bytes of its output that are told: the last ones."""

_CAPTURED = 64 * 1024
_REST = 1.0  # seconds for the rest of the output, once the program has ended
_PLACE = re.compile(r"\{(site|domain|server|address)\}")


async def probe(
    target: HealthTarget,
    check: CommandCheck,
    commands: Mapping[str, Sequence[str]],
    redact: Redact,
    *,
    seconds: float = SECONDS,
) -> Verdict:
    """Whether the command ends with 0 in time. Its output, standard error included, is the message of a failure."""
    words = commands.get(check.name)
    if not words:
        hint = did_you_mean(check.name, commands) or "add it to 'checks' of the daemon's settings"
        return failed(f"there is no command {check.name!r}; {hint}")
    try:
        argv = [_filled(word, target) for word in words]
    except KeyError as error:
        return failed(
            f"the command {check.name!r} uses {{{error.args[0]}}}, which a {target.kind} does not have"
        )
    captured = _Tail()
    try:
        code = await _run(argv, captured, seconds)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is not a command line"
        return failed(f"the command {check.name!r} cannot be started: {why}")
    if code is None:
        return failed(_said(f"did not end within {seconds:g} s", captured, redact))
    if code == 0:
        return passed("ended with 0")
    return failed(
        _said(f"ended with {code}" if code > 0 else f"was ended by signal {-code}", captured, redact)
    )


class _Tail(asyncio.Protocol):
    """The last part of a program's output."""

    def __init__(self) -> None:
        self._kept = b""
        self._cut = False
        self.ended = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self._kept += data
        if len(self._kept) > _CAPTURED:
            self._kept, self._cut = self._kept[-_CAPTURED:], True

    def eof_received(self) -> None:
        self.ended.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set()

    def text(self) -> str:
        kept = self._kept
        if self._cut:  # half a secret at the cut would not be known as one
            kept = kept.partition(b"\n")[2]
        return kept.decode("utf-8", "replace")


async def _run(argv: Sequence[str], captured: _Tail, seconds: float) -> int | None:
    """The exit status, negative for a signal; None when time ran out. OSError, ValueError when it cannot start."""
    # A pipe of our own: asyncio's would have us wait for whatever else the program left behind holding it.
    ours, theirs = os.pipe()
    reading = os.fdopen(ours, "rb", 0)
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,  # a group of its own, which can be ended as a whole
            cwd="/",
            env=_environment(),
        )
    except BaseException:
        reading.close()
        raise
    finally:
        os.close(theirs)
    transport = None
    try:
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: captured, reading)
        async with asyncio.timeout(seconds):
            return await process.wait()
    except TimeoutError:
        return None
    finally:
        await _end(process, captured)
        if transport is not None:
            transport.close()
        else:
            reading.close()


async def _end(process: asyncio.subprocess.Process, captured: _Tail) -> None:
    """Kills what is left of the process group."""
    if process.returncode is not None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_REST):
                await captured.ended.wait()
        if captured.ended.is_set():
            return  # nothing of it is left; its number may be another's by now
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await asyncio.shield(process.wait())


def _said(what: str, captured: _Tail, redact: Redact) -> str:
    masked = redact(captured.text()).strip()
    output = masked.encode("utf-8", "replace")
    if len(output) > OUTPUT:
        masked = "…" + output[-OUTPUT:].decode("utf-8", "ignore")
    return f"{what}: {masked}" if masked else what


def _filled(word: str, target: HealthTarget) -> str:
    values = {"server": target.server, "address": target.address}
    if target.kind == "Site":
        values |= {"site": target.name} | ({"domain": target.domain} if target.domain else {})
    # one pass, so that a value is never read as a placeholder itself
    return _PLACE.sub(lambda match: values[match[1]], word)


def _environment() -> dict[str, str]:
    # nothing else of ours: the daemon's own environment may hold its key
    return {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}
