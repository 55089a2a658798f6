"""The lease: of several daemons on one database one works, the others wait; one that lost it writes nothing any more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from reconciler.errors import LeaseLost, StoreBusy
from reconciler.store import Store, Tx
from reconciler.store.queries import leases

NAME = "daemon"


@dataclass(frozen=True)
class Timing:
    """Seconds: how long a lease holds without a heartbeat, and how often the heartbeat comes."""

    holds: float = 30.0
    beats: float = 5.0


class DaemonLease:
    """One daemon's hold on its database.

    `owner` names the daemon uniquely (host, process, start). Every guarded write of the store checks, in its own
    transaction, that the lease is still this daemon's: a daemon that slept too long finds that out before it can do
    anything, and the nodes refuse its older fencing number besides.
    """

    def __init__(self, store: Store, owner: str, timing: Timing | None = None) -> None:
        self._store = store
        self._timing = timing or Timing()
        self.owner = owner
        self.held = False

    async def acquire(
        self,
        waiting: Callable[[str], Awaitable[None] | None],
        dead: Callable[[str], bool] = lambda owner: False,
    ) -> None:
        """Take the lease, however long another daemon holds it; `waiting` is told its owner, once for each.

        `dead` says of an owner that its process is surely gone: its lease need not run out first.
        """
        told = ""
        while True:
            try:
                lease = await self._store.alease(self._take)
            except StoreBusy:
                lease = None
            if lease is not None:
                self.held = True
                self._store.guard(self.check)
                return
            holder = await self._store.aread(lambda tx: leases.get(tx, NAME))
            if holder is not None and dead(holder.owner):
                await self._release(holder.owner)
                continue
            if holder is not None and holder.owner != told:
                told = holder.owner
                said = waiting(told)
                if said is not None:
                    await said
            await asyncio.sleep(self._timing.beats)

    async def keep(self) -> None:
        """Prolong the lease until cancelled. LeaseLost when another daemon has taken it."""
        loop = asyncio.get_running_loop()
        good_until = loop.time() + self._timing.holds
        while True:
            await asyncio.sleep(self._timing.beats)
            try:
                lease = await self._store.alease(self._prolong)
            except StoreBusy:
                # another process writes: the lease holds for a while yet
                if loop.time() >= good_until:
                    self.held = False
                    raise LeaseLost(
                        "the lease could not be prolonged in time: the database stayed locked"
                    ) from None
                continue
            if lease is None:
                self.held = False
                holder = await self._store.aread(lambda tx: leases.get(tx, NAME))
                raise LeaseLost(
                    f"another daemon has taken over: {holder.owner if holder else 'unknown'}",
                    hint="only one daemon works on a database; this one stops and touches nothing more",
                )
            good_until = loop.time() + self._timing.holds

    async def release(self) -> None:
        """Give the lease back, so that the next daemon need not wait for it to run out."""
        if self.held:
            self.held = False
            await self._release(self.owner)

    async def _release(self, owner: str) -> None:
        await self._store.alease(lambda tx: leases.release(tx, NAME, owner))

    def check(self, tx: Tx) -> None:
        """LeaseLost unless the lease is this daemon's, in this transaction.

        One that ran out while nobody else took it is still good: there is nobody to be in the way of.
        """
        held = leases.get(tx, NAME)
        if held is None or held.owner != self.owner:
            raise LeaseLost(f"another daemon has taken over: {held.owner if held else 'unknown'}")

    def _take(self, tx: Tx) -> leases.Lease | None:
        return leases.acquire(tx, NAME, self.owner, timedelta(seconds=self._timing.holds))

    def _prolong(self, tx: Tx) -> leases.Lease | None:
        held = leases.get(tx, NAME)
        if held is None or held.owner != self.owner:
            return None
        return self._take(tx)
