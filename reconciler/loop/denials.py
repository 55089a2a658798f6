"""Collecting what SELinux refused: nodes are asked over the connections that are open anyway, and nothing waits for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from reconciler.errors import LeaseLost, ReconcilerError, StoreFault
from reconciler.loop.ports import Meter
from reconciler.nodes.answers import Denials
from reconciler.record import denials
from reconciler.store import Store, Tx
from reconciler.store.queries import audit_cursors, servers
from reconciler.telemetry import logs

log = logs.get("reconciler.loop")

MOST = 1000
"""Distinct denials of one answer."""
ANSWERS = 16
"""Answers that are taken of one node before others have their turn."""
BUSY = 5.0
"""Seconds until a node is asked again whose log holds more, or fills quickly: five files of 8 MB last half a minute."""
RARE = 600.0
"""Seconds until one is asked again that keeps no log, and the longest wait after failures."""

_AT_ONCE = 16
_LOOK_EVERY = 60.0
_MANY = 1000
_KEEP_EVERY = 60.0
_TELL_EVERY = 600.0


class Asked(Protocol):
    """A node to ask."""

    async def avc(self, cursor: Mapping[str, Any] | None, most: int) -> Denials:
        """As `Node.avc`."""
        ...


class Nodes(Protocol):
    """The nodes that can be asked; `Pool` is one."""

    def open(self) -> Mapping[str, Asked]:
        """As `Pool.open`."""
        ...


@dataclass
class _Log:
    """What is known of a server's log: how far it was read, and when (the loop's time) that was written down."""

    cursor: Mapping[str, Any] | None
    present: bool | None
    kept_at: float


class Collector:
    """Asks nodes for denials and records them, each once. `every` gives the seconds between two asks of a node."""

    def __init__(
        self,
        store: Store,
        nodes: Nodes,
        meter: Meter,
        every: Callable[[], float],
        redact: Callable[[str], str] = str,
    ) -> None:
        self._wake = asyncio.Event()
        self._asking: set[str] = set()
        self._store = store
        self._nodes = nodes
        self._meter = meter
        self._every = every
        self._redact = redact
        self._due: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        self._turns: dict[str, asyncio.Lock] = {}
        self._logs: dict[str, _Log] = {}
        self._told: dict[tuple[str, str], float] = {}
        self._gate = asyncio.Semaphore(_AT_ONCE)

    def soon(self, server: str) -> None:
        """Something was done to a server: ask it."""
        self._due.pop(server, None)
        self._wake.set()

    async def run(self) -> None:
        """Ask every connected node when it is due, until cancelled; one that hangs holds up no other. LeaseLost ends it."""
        async with asyncio.TaskGroup() as group:
            while True:
                now, wait = asyncio.get_running_loop().time(), _LOOK_EVERY
                self._wake.clear()
                for name in self._nodes.open().keys() - self._asking:
                    left = self._due.get(name, now) - now
                    if left > 0:
                        wait = min(wait, left)
                    else:
                        self._asking.add(name)
                        group.create_task(self._patiently(name))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._wake.wait()

    async def _patiently(self, server: str) -> None:
        try:
            async with self._gate:
                await self.collect(server)
        except LeaseLost:
            raise
        except StoreFault as fault:  # nothing is lost: it is asked for again
            self._again(server, BUSY)
            log.warning("the database refused", fault=fault.message)
        except ReconcilerError as fault:
            self._failed(server)
            log.debug("denials could not be asked for", server=server, fault=fault.message)
        except Exception:
            self._failed(server)
            log.exception("a defect of this program", server=server)
        finally:
            self._asking.discard(server)
            self._wake.set()

    def _failed(self, server: str) -> None:
        times = self._failures[server] = self._failures.get(server, 0) + 1
        self._again(server, min(self._every() * 2.0 ** min(times, 20), RARE))

    def _again(self, server: str, seconds: float) -> None:
        self._due[server] = asyncio.get_running_loop().time() + seconds

    async def collect(self, server: str) -> int:
        """Ask a node until it has told everything, or very much; how many denials were new.

        A server without an open connection is not asked. Raises NodeFault's leaves, StoreFault's and LeaseLost.
        """
        async with self._turns.setdefault(server, asyncio.Lock()):
            number = 0
            for _ in range(ANSWERS):
                node = self._nodes.open().get(server)
                row_id = await self._known(server)
                if node is None or not row_id:  # connected no more, or a server that was just removed
                    self._again(server, self._every())
                    return number
                found = await node.avc(self._logs[row_id].cursor, MOST)
                number += await self._take(server, row_id, found)
                if not found.more:
                    break
            self._failures.pop(server, None)
            busy = found.more or number >= _MANY
            self._again(server, min(BUSY, self._every()) if busy else self._every() if found.log else RARE)
            return number

    async def _known(self, server: str) -> str:
        """The id of the server's row, empty without one; what is known of its log is at hand then."""

        def unit(tx: Tx) -> tuple[str, audit_cursors.AuditCursor | None]:
            row = servers.get(tx, server)
            return (row.id, audit_cursors.get(tx, row.id)) if row is not None else ("", None)

        row_id, kept = await self._store.aread(unit)
        if row_id and row_id not in self._logs:
            # whatever is in the database was written down some time ago
            self._logs[row_id] = _Log(
                kept.cursor if kept else None, bool(kept.log) if kept else None, float("-inf")
            )
        return row_id

    async def _take(self, server: str, row_id: str, found: Denials) -> int:
        """Record an answer. One that only says how far the log was read need not be written down each time."""
        now = asyncio.get_running_loop().time()
        known = self._logs[row_id]
        news = bool(found.events) or found.gap is not None or found.log is not known.present
        if not news and (found.cursor == known.cursor or now - known.kept_at < _KEEP_EVERY):
            known.cursor = found.cursor
            return 0
        quiet = frozenset(who for who, at in self._told.items() if now - at < _TELL_EVERY)
        given = await asyncio.to_thread(denials.parsed, found, self._redact)
        taken = await self._store.awrite(lambda tx: denials.take(tx, server, found, given, quiet))
        self._logs[row_id] = _Log(found.cursor, found.log, now)
        self._told = {who: at for who, at in self._told.items() if who in quiet}
        self._told |= dict.fromkeys(taken.told, now)
        for tclass, number in (taken.classes or {}).items():
            self._meter.avc(tclass, number)
        return taken.number
