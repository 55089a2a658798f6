"""Applying a part of a revision to a group of servers: gates, the run itself, its end, and how it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from reconciler.converge import access, settle
from reconciler.converge.executor import Part, Running
from reconciler.converge.progress import Result
from reconciler.desired.fleet import Key
from reconciler.desired.kinds import Kind, Server
from reconciler.errors import AgentFault, NodeFault, ReconcilerError, StalePlan, UsageFault
from reconciler.loop import memory, rollouts, watching
from reconciler.loop.look import Look, Means, unchanged, wanted
from reconciler.plan.manifests import parse
from reconciler.plan.model import Action, Plan
from reconciler.plan.recorded import Recorded
from reconciler.record import conditions, inventory
from reconciler.store import Tx
from reconciler.store.queries import conditions as condition_rows
from reconciler.store.queries import inventory as inventory_rows
from reconciler.store.queries import suspensions
from reconciler.store.words import TriggeredVia

_STOP = 3.0
"""Seconds that a node may take to stop at a safe point."""
_CUT_OFF = 1.5
"""Seconds to ask it how far it came, if it did not."""


Came = Literal["ran", "waits", "unreachable"]
"""What came of wanting to apply."""


@dataclass(frozen=True)
class Stop:
    """Why a run is stopped; by a person, or since its window closed: then it goes on by itself later."""

    why: str
    by_window: bool = False


class Runs:
    """Applies, and stops applies when an operator or a window says so."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._store = means.store
        self._runs: dict[str, asyncio.Task[Sequence[Result]]] = {}
        self._asked: dict[str, Stop] = {}
        """Servers whose run is being stopped."""
        self._owed: dict[str, Running] = {}
        """Applies, by server, that their nodes were to stop and did not answer about."""

    async def apply(self, look: Look, plan: Plan) -> Came:
        """Pass the gates and apply; what comes of it is recorded, and why it has to wait is too."""
        target = look.target
        if look.fleet.target is not target:
            raise StalePlan("another revision is followed by now")
        keys = [*(change.key for change in plan.effective), *(item.key for item in plan.drift)]
        gate = await self._store.aread(lambda tx: self._gate(tx, look, plan))
        if not gate.open:
            await self._wait(look, plan, gate)
            return "waits"
        for name in sorted(look.servers):
            if not await self._answers(look, name, keys):
                look.fleet.overrides -= look.servers
                return "unreachable"
        if plan.effective:
            before = await self._failing_before(look, plan)
            await self._store.awrite(lambda tx: rollouts.started(tx, target.rollout, look.servers, before))
        results = await self._run(look, plan, gate.stop_at)
        await self._account(look, plan, results)
        look.arrived = all(result.state == "succeeded" for result in results)
        if look.fleet.target is not target or not look.arrived:
            # others waited for this one to end, if they are of a newer revision, or are told that it failed
            rollout = look.fleet.target.rollout
            for name in await self._store.aread(lambda tx: rollouts.pending(tx, rollout)):
                look.fleet.add(name, "rollout")
        return "ran"

    async def _wait(self, look: Look, plan: Plan, gate: rollouts.Gate) -> None:
        keys = {*(change.key for change in plan.effective), *(item.key for item in plan.drift)}

        def unit(tx: Tx) -> None:
            for key in sorted(keys):
                conditions.waits(tx, key, look.target.commit, gate.reason, gate.message)

        await self._store.awrite(unit)
        if gate.wake_at is not None:
            # a repair is made only of what the nodes show by then
            reason = "drift" if plan.drift else "window" if gate.reason == "WindowClosed" else "rollout"
            self._wake(look, reason, gate.wake_at)

    async def _failing_before(self, look: Look, plan: Plan) -> dict[str, list[str]]:
        """The checks that fail before the revision has changed anything: only what gets worse is its doing.

        Those of resources that are new count as failing: a site without an application yet is no fault of the commit.
        """
        target = look.target
        fleet = target.loaded.fleet
        fresh = frozenset(change.key for change in plan.effective if change.action is Action.CREATE)
        found = {}
        for name in await self._store.aread(lambda tx: rollouts.unstarted(tx, target.rollout, look.servers)):
            new = watching.all_checks(fleet, name, fresh)
            if len(new) == len(watching.all_checks(fleet, name)):
                found[name] = new
                continue
            failing = await self._means.faults(
                fleet,
                name,
                prober=watching.NodeProber(self._store, self._means.pool, fleet, self._means.collector),
                clock=self._means.clock,
                since=self._means.clock(),
                commands=self._means.settings.commands,
                redact=self._means.redact,
            )
            found[name] = sorted({*new, *failing})
        return found

    def _gate(self, tx: Tx, look: Look, plan: Plan) -> rollouts.Gate:
        asking = rollouts.Asking(
            look.servers,
            changes=bool(plan.effective) and not look.target.rollback,
            regardless=bool(look.fleet.overrides & look.servers),
            busy=frozenset(self._runs),
            idle=frozenset(one.name for one in suspensions.listed(tx) if one.kind == Kind.SERVER.value),
        )
        return rollouts.gate(tx, look.target.rollout, asking, self._means.clock())

    async def _answers(self, look: Look, name: str, keys: Sequence[Key]) -> bool:
        """Whether the node can be talked to; asked before anything is recorded, so that a dead node makes no deployments."""
        manifest = look.target.loaded.fleet.server(name) or _recorded_server(look.recorded, name)
        if manifest is None:
            return True
        try:
            target = await self._store.aread(lambda tx: access.target(tx, manifest))
            async with self._means.pool.node(target):
                pass
        except (NodeFault, UsageFault) as fault:
            message, stalled, reason = fault.message, fault.reaction == "stall", type(fault).__name__
            hint = f"; {fault.hint}" if fault.hint else ""

            def unit(tx: Tx) -> None:
                for key in keys:
                    if stalled:
                        conditions.held(tx, key, look.target.commit, reason, message + hint)
                    else:
                        conditions.waits(tx, key, look.target.commit, "NodeUnreachable", message)
                rollouts.failed(tx, look.target.rollout, name, message)

            await self._store.awrite(unit)
            await self._means.reachable(name, message, look.target.commit)
            await self._means.put_off(look.fleet, name, message, stalled=stalled)
            return False
        await self._means.reachable(name, "", look.target.commit)
        return True

    async def _run(self, look: Look, plan: Plan, stop_at: datetime | None) -> Sequence[Result]:
        fleet = look.fleet
        part = Part(
            fleet.name,
            lambda tx: inventory.recorded(tx, fleet.name, look.servers),
            _still(look),
            concludes=False,
        )
        trigger: TriggeredVia = "drift" if not plan.effective else self._trigger(look)
        handle = None
        if stop_at is not None:
            left = max(0.0, (stop_at - self._means.clock()).total_seconds())
            loop = asyncio.get_running_loop()
            handle = loop.call_later(left, self._window_closed, sorted(look.servers))
        # a task of its own: an operator ends it without ending the worker
        run = asyncio.create_task(
            self._means.executor.apply(plan, trigger=trigger, branch=fleet.spec.branch, part=part)
        )
        self._runs |= dict.fromkeys(look.servers, run)
        try:
            return await run
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            return await self._cut_off(look, plan)
        finally:
            for name in look.servers:
                self._runs.pop(name, None)
            if not (run.done() and not run.cancelled() and isinstance(run.exception(), StalePlan)):
                fleet.overrides -= look.servers
            if handle is not None:
                handle.cancel()

    async def _cut_off(self, look: Look, plan: Plan) -> Sequence[Result]:
        """The run was ended because its node did not stop in time: record what is known without waiting for the node."""
        why = next((self._asked[name].why for name in look.servers if name in self._asked), "stopped")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CUT_OFF):
                await settle.settle(
                    self._store, self._means.pool, self._means.progress, _CUT_OFF, look.servers
                )
        await settle.end(self._store, look.servers, why)
        look.fleet.add(min(look.servers), "settle", self._means.settings.limits.retry_first)
        keys = [*(change.key for change in plan.effective), *(item.key for item in plan.drift)]
        return [Result(key, "cancel", "failed", why, "", 0.0) for key in dict.fromkeys(keys)]

    async def call_off(self, look: Look) -> None:
        """Have nodes that answer again stop what they were to stop. NodeFault's leaves when one does not answer yet."""
        for name in sorted(look.servers & self._owed.keys()):
            owed = self._owed[name]
            async with self._means.pool.node(owed.target) as node:
                await node.cancel(owed.apply_id, owed.fence)
                with contextlib.suppress(AgentFault):  # it never got there
                    await node.status(owed.apply_id, within=self._means.settings.limits.apply_within)
            self._owed.pop(name, None)

    def _trigger(self, look: Look) -> TriggeredVia:
        repeated = look.reasons & {"retry"} and not look.reasons & {"revision"}
        if repeated:
            return "retry"
        if "cli" in look.reasons:
            return "cli"
        return look.target.trigger

    def _window_closed(self, servers: Sequence[str]) -> None:
        for name in servers:
            if name in self._means.executor.running:
                stop = Stop("its maintenance window closed; it goes on when it opens again", by_window=True)
                task = asyncio.ensure_future(self._stop(name, stop))
                task.add_done_callback(lambda done: done.exception())

    async def _account(self, look: Look, plan: Plan, results: Sequence[Result]) -> None:
        """Remember how it went, and when to try again what failed."""
        target, limits = look.target, self._means.settings.limits
        stopped = {name: self._asked.pop(name) for name in look.servers if name in self._asked}
        changed = {change.key: change for change in plan.effective}

        def unit(tx: Tx) -> None:
            memory.remember(tx, plan, results)
            for result in results:
                if result.state == "succeeded":
                    memory.succeeded(tx, result.key)
                    if result.action == "repair":
                        memory.repaired(tx, result.key)
                elif stopped:
                    _stopped(tx, result.key, target.commit, next(iter(stopped.values())))
                else:
                    _tell_if_new(tx, result, target.commit)
                    memory.failed(tx, result.key, limits, stalled=_is_stalled(tx, result.key))
            for name in look.servers:
                bad = [r for r in results if r.state != "succeeded" and r.key in changed]
                mine = [r for r in bad if _server_of(plan, r.key) in (name, None)]
                if not stopped:
                    memory.together(tx, Key(Kind.SERVER, name), [r.key for r in mine])
                by_window = any(stop.by_window for stop in stopped.values())
                if not bad:
                    rollouts.applied(tx, target.rollout, name)
                elif mine and not by_window:
                    rollouts.failed(tx, target.rollout, name, f"{mine[0].key}: {mine[0].message}"[:500])

        await self._store.awrite(unit)
        if any(stop.by_window for stop in stopped.values()):
            look.fleet.add(min(look.servers), "window", 1.0)  # its gate says when it opens again
        self._measure(look, results)

    def _measure(self, look: Look, results: Sequence[Result]) -> None:
        for result in results:
            self._means.meter.reconciled(result.key.kind.value, result.state, result.seconds)
            if result.state == "succeeded":
                look.fleet.failed_as.pop(result.key, None)
            else:
                look.fleet.failed_as[result.key] = wanted(look.target, result.key)
            if result.key.kind is Kind.SERVER and result.action == Action.CREATE.value:
                self._means.meter.provisioned(result.state == "succeeded")

    def _wake(self, look: Look, reason: str, at: datetime) -> None:
        left = max(0.05, (at - self._means.clock()).total_seconds())
        for name in sorted(look.servers)[:1]:
            look.fleet.add(name, reason, left)

    async def stop(self, server: str, why: str) -> bool:
        """Stop what runs on a server's node: at a safe point if the node answers in time, else without it. Whether anything ran."""
        return await self._stop(server, Stop(why))

    async def _stop(self, server: str, stop: Stop) -> bool:
        running = self._means.executor.running.get(server)
        if running is None:
            return False
        self._asked[server] = stop
        self._means.executor.say_why(running.apply_id, stop.why)
        run = self._runs.get(server)
        self._owed[server] = running
        with contextlib.suppress(ReconcilerError, TimeoutError):
            async with asyncio.timeout(_STOP):
                async with self._means.pool.node(running.target) as node:
                    await node.cancel(running.apply_id, running.fence)
                if run is not None:
                    await asyncio.wait([run])
                del self._owed[server]
        if run is not None and not run.done():
            run.cancel()
        return True


def _stopped(tx: Tx, key: Key, commit: str, stop: Stop) -> None:
    if stop.by_window:
        conditions.waits(tx, key, commit, "WindowClosed", stop.why)
    else:
        memory.succeeded(tx, key)  # no time is set for another try: a person says when
        conditions.stopped(tx, key, commit, memory.CANCELLED, stop.why)


def _tell_if_new(tx: Tx, result: Result, commit: str) -> None:
    """What could not even be recorded, since another has its domain for example, is told on it all the same."""
    key = result.key
    if inventory_rows.get(tx, key.kind.value, key.name) is None:
        conditions.fail(tx, key, commit, result.message, stalled=True)


def _still(look: Look) -> Callable[[Plan, Recorded], None]:
    """A check that neither the record nor the revision that is followed has moved."""
    same = unchanged(look.recorded)

    def check(plan: Plan, now: Recorded) -> None:
        if look.fleet.target is not look.target:
            raise StalePlan("another revision is followed by now")
        same(plan, now)

    return check


def _server_of(plan: Plan, key: Key) -> str | None:
    return next((change.server for change in plan.changes if change.key == key), None)


def _recorded_server(recorded: Recorded, name: str) -> Server | None:
    found = recorded.resources.get(Key(Kind.SERVER, name))
    manifest = parse(Kind.SERVER, found.manifest) if found is not None else None
    return manifest if isinstance(manifest, Server) else None


def _is_stalled(tx: Tx, key: Key) -> bool:
    known = condition_rows.get(tx, key.kind.value, key.name, "Stalled")
    return known is not None and known.status == "True"
