"""Answers what operators ask: look now, stop, repair. What they record themselves (suspensions, approvals) is found here too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from reconciler.converge.executor import Executor
from reconciler.desired.fleet import Key
from reconciler.desired.kinds import Kind
from reconciler.errors import LeaseLost, ReconcilerError
from reconciler.loop import rollouts, scope
from reconciler.loop.fleet import RECORDS, FleetLoop
from reconciler.loop.worker import Worker
from reconciler.store import Store, Tx
from reconciler.store.queries import (
    deployments,
    events,
    inventory,
    plans,
    requests,
    site_sources,
    sources,
    suspensions,
)
from reconciler.store.queries import rollouts as rollout_rows
from reconciler.store.queries.requests import Request
from reconciler.telemetry import logs

log = logs.get("reconciler.loop")
_FORGET_AFTER = timedelta(days=7)
Mark = tuple[object, ...]


class Operators:
    """Follows the requests and the operators' records. `reload` reads the settings anew and says how that went."""

    def __init__(
        self,
        store: Store,
        fleets: Mapping[str, FleetLoop],
        worker: Worker,
        executor: Executor,
        reload: Callable[[], str],
    ) -> None:
        self._store = store
        self._fleets = fleets
        self._worker = worker
        self._executor = executor
        self._reload = reload
        self._mark: dict[str, Mark] = {}

    async def once(self) -> None:
        """Answer what waits, and have fleets judged again whose approvals, suspensions or acceptances changed."""
        served = tuple(self._fleets)
        news = await self._store.aread(lambda tx: _news(tx, served))
        if news.expired:
            for gone in await self._store.awrite(_expire):
                log.info("a suspension ended by itself", kind=gone.kind, name=gone.name)
        for request in news.waiting:
            await self._answer(request)
        for name, mark in news.marks.items():
            fleet, before = self._fleets.get(name), self._mark.get(name)
            self._mark[name] = mark
            if fleet is not None and before is not None and before != mark:
                _look_soon(fleet)  # a remote that hangs must not keep the other operators waiting

    async def tidy(self) -> None:
        """Forget requests that were answered long ago."""
        await self._store.awrite(lambda tx: requests.prune(tx, tx.now - _FORGET_AFTER))

    async def _answer(self, request: Request) -> None:
        try:
            done, message = await self._carry_out(request)
        except LeaseLost:
            raise
        except ReconcilerError as fault:
            done, message = False, fault.message
        except Exception:
            log.exception("a defect of this program: a request could not be carried out")
            done, message = False, "a defect of this program; the log has more"
        log.info(
            "an operator asked", verb=request.verb, subject=request.subject, by=request.actor, answer=message
        )
        await self._store.awrite(
            lambda tx: requests.answer(tx, request.id, "done" if done else "refused", message)
        )

    async def _carry_out(self, request: Request) -> tuple[bool, str]:
        match request.verb:
            case "reload":
                return True, self._reload()
            case "cancel":
                return await self._cancel(request)
            case "reconcile" | "heal":
                return await self._look(request)

    async def _look(self, request: Request) -> tuple[bool, str]:
        kind, _, name = request.subject.partition("/")
        if kind == suspensions.FLEET:
            fleet = self._fleets.get(name)
            if fleet is None:
                return False, f"no fleet {name} is served here"
            found = [(fleet, server) for server in (fleet.target.assessment.groups if fleet.target else ())]
            asyncio.get_running_loop().call_soon(_look_soon, fleet)
        else:
            found = [
                (f, s)
                for f in self._fleets.values()
                if (s := await self._server_of(f, kind, name)) is not None
            ]
            if not found:
                return False, f"{request.subject} is in no fleet that is served here"
        if (wave := request.args.get("release_wave")) and (no := await self._release(found, str(wave))):
            return False, no
        for fleet, server in found:
            if request.args.get("override_window"):
                fleet.overrides.add(server)
            fleet.add(server, "heal" if request.verb == "heal" else "cli")
        if request.args.get("override_window"):
            why = str(request.args.get("reason", ""))
            await self._store.awrite(
                lambda tx: events.add(
                    tx,
                    kind,
                    name,
                    reason="WindowOverridden",
                    message=f"{request.actor}: {why}",
                    type="Warning",
                )
            )
        return True, f"looking at {', '.join(sorted(server or 'records' for _, server in found)) or name}"

    async def _release(self, found: Sequence[tuple[FleetLoop, str]], wave: str) -> str:
        """Release a wave of the revision that is followed; why not, or empty."""
        fleets = {fleet.name: (fleet, fleet.target) for fleet, _ in found if fleet.target is not None}
        names = {name for _, target in fleets.values() for name in rollouts.wave_names(target.rollout)}
        if wave not in names:
            return f"no rollout has a wave {wave}; there {'is' if len(names) == 1 else 'are'} {', '.join(sorted(names)) or 'none'}"
        served = list(fleets.values())

        def unit(tx: Tx) -> None:
            for fleet, target in served:
                rollout_rows.release(tx, fleet.name, target.commit, wave)

        await self._store.awrite(unit)
        for fleet, target in served:
            for server in target.assessment.groups:
                fleet.add(server, "rollout")
        return ""

    async def _server_of(self, fleet: FleetLoop, kind: str, name: str) -> str | None:
        """The server that a resource is on, declared or recorded; RECORDS for one that is on none."""
        if kind not in {known.value for known in Kind}:
            return None
        key = Key(Kind(kind), name)
        entry = await self._store.aread(lambda tx: inventory.get(tx, kind, name))
        declared = fleet.target.loaded.fleet.entries.get(key) if fleet.target else None
        if declared is None and (entry is None or entry.fleet != fleet.name):
            return None
        if key.kind not in scope.ON_NODES:
            return RECORDS
        return (
            scope.declared_on(declared.manifest) if declared is not None else entry.server if entry else None
        )

    async def _cancel(self, request: Request) -> tuple[bool, str]:
        if "/" in request.subject:
            kind, _, name = request.subject.partition("/")
            servers = {await self._server_of(fleet, kind, name) for fleet in self._fleets.values()}
            wanted = [server for server in servers if server and server in self._executor.running]
            if kind == suspensions.FLEET:
                fleet = self._fleets.get(name)
                mine = fleet.target.assessment.groups if fleet is not None and fleet.target else {}
                wanted = sorted(server for server in self._executor.running if server in mine)
        else:
            row = await self._store.aread(lambda tx: deployments.get(tx, request.subject))
            wanted = [s for s, run in self._executor.running.items() if row.id in run.deployments]
        if not wanted:
            return False, f"nothing runs for {request.subject}"
        why = f"cancelled by {request.actor}; `reconciler reconcile {request.subject}` tries again"
        await asyncio.gather(*(self._worker.stop(server, why) for server in wanted))
        return True, f"stopped on {', '.join(sorted(wanted))}"


_kept: set[asyncio.Task[bool]] = set()
"""Looks under way: the loop itself keeps no task alive."""


def _look_soon(fleet: FleetLoop) -> None:
    task = asyncio.create_task(fleet.look("cli", again=True))
    _kept.add(task)
    task.add_done_callback(_looked)


def _looked(task: asyncio.Task[bool]) -> None:
    _kept.discard(task)
    if not task.cancelled() and (fault := task.exception()) is not None:
        log.warning("a look that an operator asked for failed", fault=str(fault))


@dataclass(frozen=True)
class _News:
    """What there is to be found in the database, read at once: it is looked for every second."""

    expired: bool
    waiting: Sequence[Request]
    marks: Mapping[str, Mark]


def _news(tx: Tx, fleets: Sequence[str]) -> _News:
    return _News(
        suspensions.any_expired(tx), requests.waiting(tx), {name: _mark(tx, name) for name in fleets}
    )


def _expire(tx: Tx) -> list[suspensions.Suspension]:
    gone = suspensions.expire(tx)
    for one in gone:
        events.add(tx, one.kind, one.name, reason="Resumed", message="the suspension's time is over")
    return gone


def _mark(tx: Tx, fleet: str) -> Mark:
    """Changes whenever an operator recorded something that a judgement rests on."""
    found = sources.get(tx, fleet)
    held = [(one.kind, one.name, one.reason) for one in suspensions.listed(tx)]
    approved = [
        (one.id, one.approved_at) for one in plans.listed(tx, fleet=fleet, status="approved", limit=20)
    ]
    seen = [(one.id, one.reviewed_at) for one in plans.listed(tx, fleet=fleet, status="reviewed", limit=20)]
    back = tuple(sorted(site_sources.held(tx).items()))
    return (found.accept_commit if found else None, tuple(held), tuple(approved), tuple(seen), back)
