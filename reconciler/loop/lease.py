"""The lease: of several daemons on one database one works, the others wait; one that lost it writes nothing any more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from reconciler.errors import LeaseLost, StoreFault
from reconciler.store import Store, Tx
from reconciler.store.queries import leases
from reconciler.telemetry import logs

log = logs.get("reconciler.loop")
NAME = "daemon"
_LOOK = 1.0
"""Seconds between two looks of a daemon that waits."""


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
        self.ran_out = ""
        """Whom this daemon took the lease from because it ran out: that one hung, or is gone without a word."""
        self._refused = ""
        """Why it could not be prolonged, until that is told."""

    async def acquire(
        self,
        waiting: Callable[[str], Awaitable[None] | None],
        dead: Callable[[str], bool] = lambda owner: False,
    ) -> None:
        """Take the lease, however long another daemon holds it; `waiting` is told its owner, once for each.

        `dead` says of an owner that its process is surely gone: its lease need not run out first. Nor need it when nobody
        has prolonged it for as long as it holds, by this program's own count: the clock that it ends by may have been
        set back.
        """
        told = ""
        loop = asyncio.get_running_loop()
        known, since = None, loop.time()
        while True:
            holder, free = await self._store.aread(self._standing)
            # whoever gives it back lets it end sooner than it would have
            given_back = (
                free and known is not None and holder is not None and holder.expires_at < known.expires_at
            )
            if holder != known:
                known, since = holder, loop.time()
            left = loop.time() - since > self._timing.holds
            if holder is None or free or left or dead(holder.owner):
                try:
                    taken = await self._store.alease(partial(self._take_from, known))
                except StoreFault as fault:
                    # locked by another process, or no room on the disk: that may pass
                    if not self._refused:
                        log.warning("the lease cannot be taken yet", fault=fault.message)
                    self._refused = fault.message
                else:
                    if taken is not None:
                        self.held = True
                        self.ran_out = "" if given_back else told
                        self._store.guard(self.check)
                        return
            elif holder.owner != told:
                told = holder.owner
                said = waiting(told)
                if said is not None:
                    await said
            await asyncio.sleep(min(_LOOK, self._timing.beats))

    def _standing(self, tx: Tx) -> tuple[leases.Lease | None, bool]:
        """The lease, and whether it has run out or is ours from before."""
        holder = leases.get(tx, NAME)
        return holder, holder is None or holder.expires_at <= tx.now or holder.owner == self.owner

    def _take_from(self, known: leases.Lease | None, tx: Tx) -> leases.Lease | None:
        """Take it, unless somebody else has prolonged or taken it since it was seen to be `known`."""
        if known is not None and leases.get(tx, NAME) == known:
            leases.release(tx, NAME, known.owner)
        return self._take(tx)

    async def keep(self, mended: Callable[[Tx, str], None] = lambda tx, why: None) -> None:
        """Prolong the lease until cancelled. LeaseLost when another daemon has taken it.

        While the database cannot be written to, nobody can take it either: the lease holds until somebody does. `mended`
        is part of the first write that succeeds again, with the reason for which none did.
        """
        while True:
            await asyncio.sleep(self._timing.beats)
            try:
                lease = await self._store.alease(lambda tx: self._prolong(tx, mended))
            except StoreFault as fault:
                log.warning("the lease could not be prolonged", fault=fault.message)
                self._refused = self._refused or fault.message
                continue
            self._refused = ""
            if lease is None:
                self.held = False
                holder = await self._store.aread(lambda tx: leases.get(tx, NAME))
                raise LeaseLost(
                    f"another daemon has taken over: {holder.owner if holder else 'unknown'}",
                    hint="only one daemon works on a database; this one stops and touches nothing more",
                )

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
            self.held = False
            raise LeaseLost(f"another daemon has taken over: {held.owner if held else 'unknown'}")

    def _take(self, tx: Tx) -> leases.Lease | None:
        return leases.acquire(tx, NAME, self.owner, timedelta(seconds=self._timing.holds))

    def _prolong(self, tx: Tx, mended: Callable[[Tx, str], None]) -> leases.Lease | None:
        held = leases.get(tx, NAME)
        if held is None or held.owner != self.owner:
            return None
        if self._refused:
            mended(tx, self._refused)
        return self._take(tx)
