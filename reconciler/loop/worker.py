"""One look at one server: settle, compare, plan, pass the gates, apply, watch. Level-triggered: why it looks matters little."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import replace

from reconciler.converge import settle
from reconciler.converge.executor import Part
from reconciler.desired.fleet import Key, Loaded
from reconciler.desired.kinds import Kind
from reconciler.errors import Conflict, LeaseLost, ReconcilerError, StalePlan, StoreFault
from reconciler.kit.clock import stamp
from reconciler.loop import drift, memory, rollouts, scope
from reconciler.loop.aftercare import Aftercare
from reconciler.loop.fleet import RECORDS, FleetLoop
from reconciler.loop.look import Look, Means, unchanged, wanted
from reconciler.loop.queue import Item
from reconciler.loop.runs import Runs
from reconciler.loop.target import Target
from reconciler.plan.draft import references
from reconciler.plan.make import make_plan
from reconciler.plan.model import Action, DriftItem, Plan
from reconciler.plan.recorded import Recorded
from reconciler.record import conditions, inventory
from reconciler.store import Tx
from reconciler.store.queries import suspensions
from reconciler.telemetry import logs

log = logs.get("reconciler.loop")

AGAIN = "again"
"""Reason for another look at what is on no node, which concerns no server."""

LOOKS = frozenset({"drift", "schedule", "start", "cli", "heal", "retry"})
"""Reasons for which the nodes are asked whether they still show what was applied."""


class Worker:
    """Does the looks. One instance serves all fleets; looks at different servers run side by side."""

    def __init__(self, means: Means, fleets: Mapping[str, FleetLoop]) -> None:
        self._means = means
        self._store = means.store
        self._fleets = fleets
        self._runs = Runs(means)
        self._aftercare = Aftercare(means)
        self._locks: dict[str, asyncio.Lock] = {}
        self._said: dict[str, str] = {}
        """Servers whose last look a fault ended, with the reason in their conditions."""
        self._unrecorded: set[str] = set()
        """Fleets whose keys and people could not be recorded, and whose conditions say so."""

    async def stop(self, server: str, why: str) -> bool:
        """As `Runs.stop`."""
        return await self._runs.stop(server, why)

    async def process(self, item: Item) -> None:
        """Look. Every fault but a lost lease ends in conditions and another look later."""
        name, _, server = item.key.partition("/")
        fleet = self._fleets[name]
        if fleet.target is None:
            return
        changed = True
        try:
            if server == RECORDS:
                changed = await self._records(fleet, fleet.target, frozenset(item.reasons))
            else:
                changed = await self._server(fleet, fleet.target, server, frozenset(item.reasons))
                await self._unsay(fleet, server)
        except LeaseLost:
            raise
        except Conflict as fault:
            await self._say(fleet, server, fault)
            await self._means.put_off(fleet, server, fault.message, stalled=True)
        except StoreFault as fault:  # no fault of this server, and soon over: nothing of the look is lost
            log.warning("the database refused", fault=fault.message)
            for reason in item.reasons:
                fleet.add(server, reason, self._means.settings.limits.retry_first)
            changed = False
        except StalePlan:
            for reason in item.reasons:  # each still counts: somebody may have asked for a repair
                fleet.add(server, reason, 0.05)
        except ReconcilerError as fault:
            await self._say(fleet, server, fault)
            await self._means.put_off(fleet, server, fault.message, stalled=fault.reaction == "stall")
        finally:
            if changed:
                await fleet.settle_revision()

    async def _say(self, fleet: FleetLoop, server: str, fault: ReconcilerError) -> None:
        """A fault that concerns a look as a whole is a condition of its server, or of the fleet."""
        commit = fleet.target.commit if fleet.target else ""
        message = f"{fault.message}; {fault.hint}" if fault.hint else fault.message
        reason = type(fault).__name__

        if server == RECORDS:
            self._unrecorded.add(fleet.name)
        else:
            self._said[server] = reason

        def unit(tx: Tx) -> None:
            if server == RECORDS:
                conditions.fleet(tx, fleet.name, "Stalled", "True", reason, message, commit)
            elif fault.reaction == "stall":
                conditions.held(tx, Key(Kind.SERVER, server), commit, reason, message)
            else:
                conditions.waits(tx, Key(Kind.SERVER, server), commit, reason, message)

        await self._store.awrite(unit)

    async def _unsay(self, fleet: FleetLoop, server: str) -> None:
        """A look came to its end: what ended the one before is over."""
        reason = self._said.pop(server, "")
        if reason:
            commit = fleet.target.commit if fleet.target else ""
            key = Key(Kind.SERVER, server)
            await self._store.awrite(lambda tx: conditions.freed_of(tx, key, reason, commit))

    # -- what is on no node

    async def _records(self, fleet: FleetLoop, target: Target, reasons: frozenset[str]) -> bool:
        """Keys, people and rollouts: recorded before the servers are looked at, removed when none needs them.

        Whether anything changed.
        """
        changed = False
        if not await self._store.aread(lambda tx: _fleet_suspended(tx, fleet.name)):
            async with self._alone(
                {RECORDS}
            ):  # of all fleets: what one left unfinished cannot be told from another's
                await settle.settle(self._store, self._means.pool, self._means.progress, 1.0, {RECORDS})
                changed = await self._record(fleet, target)
            await self._recorded(fleet)
        if reasons != {AGAIN}:
            # all of the fleet's: a server that the plan does not change may be one that failed, or was left in between
            for server in sorted(target.assessment.groups):
                fleet.add(server, "revision")
        return changed

    async def _recorded(self, fleet: FleetLoop) -> None:
        """It went well: what was said of it before is taken back."""
        key = Key(Kind.SERVER, f"records.{fleet.name}")
        if fleet.name in self._unrecorded:
            await self._store.awrite(lambda tx: memory.succeeded(tx, key))
            self._unrecorded.discard(fleet.name)
            await fleet.judge_again()

    async def _record(self, fleet: FleetLoop, target: Target) -> bool:
        recorded = await self._store.aread(lambda tx: inventory.recorded(tx, fleet.name))
        loaded, mine = scope.part(target.loaded, recorded, (), recorded.resources.keys())
        needed = _keys_in_use(recorded)
        hold = {key: h.message for key, h in target.assessment.holds.items()}
        hold |= {
            key: f"{needed[key]} still logs in with it"
            for key in mine.resources.keys() - loaded.fleet.entries.keys()
            if key in needed
        }
        plan = await asyncio.to_thread(self._plan, target, loaded, mine, hold, ())
        if plan.effective:
            part = Part(
                fleet.name,
                lambda tx: inventory.recorded(tx, fleet.name, ()),
                unchanged(mine),
                concludes=False,
            )
            results = await self._means.executor.apply(
                plan, trigger=target.trigger, branch=fleet.spec.branch, part=part
            )
            await self._store.awrite(lambda tx: memory.remember(tx, plan, results))
        return bool(plan.effective)

    # -- servers

    async def _server(self, fleet: FleetLoop, target: Target, server: str, reasons: frozenset[str]) -> bool:
        """Look at a server and those that go with it. Whether that changed anything that the revision's standing rests on."""
        servers = _together(target, server)
        async with self._alone(servers):
            newest = fleet.target or target
            if _together(newest, server) != servers:
                for reason in reasons:  # another revision came meanwhile, and binds other servers together
                    fleet.add(server, reason)
                return False
            look = Look(fleet, newest, servers, reasons, began=self._means.clock())
            if await self._suspended(look):
                fleet.overrides -= servers
                return False
            if reasons == {"health"}:  # a server that soaks is watched, not planned anew
                return await self._aftercare.watch(look)
            await self._runs.call_off(look)
            settled = await self._settle(look)
            applied = await self._compare_and_apply(look)
            watched = await self._aftercare.watch(look)
            await self._again_later(look)
            return settled or applied or watched or bool(reasons & LOOKS)

    @contextlib.asynccontextmanager
    async def _alone(self, servers: Collection[str]) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            for name in sorted(servers):
                await stack.enter_async_context(self._locks.setdefault(name, asyncio.Lock()))
            yield

    async def _suspended(self, look: Look) -> bool:
        """Whether an operator suspended the fleet or one of the servers; its conditions say so then."""

        def unit(tx: Tx) -> bool:
            for one in suspensions.listed(tx):
                fleet = (one.kind, one.name) == (suspensions.FLEET, look.fleet.name)
                if fleet or (one.kind == Kind.SERVER.value and one.name in look.servers):
                    why = f"suspended by {one.owner}: {one.reason}"
                    for key in look.keys:
                        conditions.held(tx, key, look.target.commit, "Suspended", why)
                    return True
            return False

        return await self._store.awrite(unit)

    async def _settle(self, look: Look) -> bool:
        within = self._means.settings.limits.apply_within
        ended = await settle.settle(self._store, self._means.pool, self._means.progress, within, look.servers)
        if ended:
            self._means.progress.node(
                ", ".join(sorted(look.servers)), f"{ended} interrupted deployments settled"
            )
        return ended > 0

    async def _compare_and_apply(self, look: Look) -> bool:
        """Whether anything was applied, or has to wait."""
        fleet, target = look.fleet, look.target
        mine = await self._store.aread(lambda tx: inventory.recorded(tx, fleet.name, look.servers))
        loaded, mine = scope.part(target.loaded, mine, look.servers, target.recorded_then)
        look.recorded = mine
        hold = {key: h.message for key, h in target.assessment.holds.items()}
        hold |= dict.fromkeys(
            scope.without_nodes({*loaded.fleet.entries, *mine.resources}), "not on this node"
        )
        if not look.reasons & {"cli"}:
            hold |= await self._backing_off(look, mine)
        seen, fault = await self._observe(look, mine) if look.reasons & LOOKS else ([], "")
        heal = [item for item in seen if not _is_suspended(target, item.key)]
        plan = await asyncio.to_thread(self._plan, target, loaded, mine, hold, ())
        look.plan = plan
        look.arrived = not plan.effective and not fault
        if fault and not plan.effective:
            fleet.overrides -= look.servers
            await self._means.put_off(fleet, min(look.servers), fault, stalled=False)
            return True
        if not plan.effective and not heal:
            fleet.overrides -= look.servers
            return await self._store.awrite(lambda tx: self._nothing(tx, look, plan))
        if beyond := _removes_more(target, plan):
            # the record moved since the revision was judged: no guard has seen these removals yet
            log.info("judged again", beyond=", ".join(beyond))
            await fleet.judge_again()
            return False
        came = await self._runs.apply(look, plan) if plan.effective else "waits"
        if fault and came == "waits":
            await self._means.put_off(fleet, min(look.servers), fault, stalled=False)
        if not heal or came == "unreachable":
            return True
        if came == "ran":
            # a repair is nobody's commit, and has a run of its own: of what still differs
            fleet.add(min(look.servers), "heal" if "heal" in look.reasons else "drift")
            return True
        hold |= {change.key: "its change waits" for change in plan.effective}
        repairs = await asyncio.to_thread(self._plan, target, loaded, mine, hold, heal)
        await self._runs.apply(look, repairs)
        return True

    def _plan(
        self,
        target: Target,
        loaded: Loaded,
        recorded: Recorded,
        hold: Mapping[Key, str],
        heal: Sequence[DriftItem],
    ) -> Plan:
        plan = make_plan(
            loaded,
            recorded,
            head=target.snapshot,
            created_at=stamp(self._means.clock()),
            engine=target.assessment.plan.engine,
            drift=heal,
            refreshed=bool(heal),
            hold=hold,
        )
        # guards are judged over the whole fleet, where a part would look like mass deletion
        return replace(plan, findings=(), problems=())

    async def _backing_off(self, look: Look, mine: Recorded) -> dict[Key, str]:
        """What failed lately and is not to be tried yet, unless something else is wanted of it by now."""
        target, marks, limits = look.target, look.fleet.failed_as, self._means.settings.limits
        failed = [key for key, found in mine.resources.items() if found.failed and key.kind in scope.ON_NODES]

        def unit(tx: Tx) -> dict[Key, str]:
            same = [key for key in failed if (marks.get(key) or memory.tried(tx, key)) == wanted(target, key)]
            return memory.backing_off(tx, same, target.commit, limits)

        return await self._store.aread(unit) if failed else {}

    async def _observe(self, look: Look, mine: Recorded) -> tuple[list[DriftItem], str]:
        """Compare nodes with what was applied: the drift to repair; or why a node does not answer."""
        observed = await self._means.observer.observe(mine, look.servers)
        fault = "; ".join(observed.unreachable.values())
        for name in observed.asked:
            await self._means.reachable(name, "", look.target.commit)
        for name in sorted(observed.unfit):
            await self._means.reachable(name, "", look.target.commit)
            raise observed.unfit[name]
        if fault:
            for name, why in observed.unreachable.items():
                await self._means.reachable(name, why, look.target.commit)
            return [], fault
        judged = await self._store.awrite(
            lambda tx: drift.record(tx, mine, observed, heal_all="heal" in look.reasons)
        )
        for item in judged:
            self._means.meter.drift(item.key.kind.value, "heal")
        return judged, ""

    def _nothing(self, tx: Tx, look: Look, plan: Plan) -> bool:
        """There is nothing to do; what waited for this look waits no more. Whether anything did."""
        free = [
            change.key
            for change in plan.changes
            if change.key not in look.target.assessment.holds and change.reason_code == "unchanged"
        ]
        freed = conditions.freed_all(tx, free, look.target.commit)
        begun = rollouts.nothing_to_do(tx, look.target.rollout, look.servers)
        if "start" in look.reasons:  # nobody watched meanwhile
            for server in look.servers:
                rollouts.applied(tx, look.target.rollout, server)
        return freed or begun

    # -- afterwards

    async def _again_later(self, look: Look) -> None:
        """Retries of what failed, and the next look for drift."""
        keys = [key for key in look.recorded.resources if key.kind in scope.ON_NODES]
        if look.plan is not None:
            keys += [change.key for change in look.plan.effective]
        limits = self._means.settings.limits
        wait = await self._store.aread(lambda tx: memory.next_try(tx, sorted(set(keys)), limits, look.began))
        for name in sorted(look.servers)[:1]:
            if wait is not None:
                look.fleet.add(name, "retry", wait)
        moved = any(c.key.kind is Kind.SERVER for c in (look.plan.effective if look.plan else ()))
        if moved and any(k.kind is Kind.SSH_KEY for k in _records_left(look)):
            look.fleet.add(RECORDS, AGAIN, 1.0)


def _removes_more(target: Target, plan: Plan) -> list[str]:
    """The addresses that a part of a revision removes, and that the judgement of the whole did not know of."""
    removals = (Action.DELETE, Action.FORGET, Action.REPLACE)
    judged = {(change.key, change.action) for change in target.assessment.plan.effective}
    return [c.address for c in plan.effective if c.action in removals and (c.key, c.action) not in judged]


def _together(target: Target, server: str) -> frozenset[str]:
    return target.assessment.groups.get(server, frozenset({server}))


def _is_suspended(target: Target, key: Key) -> bool:
    hold = target.assessment.holds.get(key)
    return hold is not None and hold.reason == "Suspended"


def _fleet_suspended(tx: Tx, fleet: str) -> bool:
    return any((one.kind, one.name) == (suspensions.FLEET, fleet) for one in suspensions.listed(tx))


def _records_left(look: Look) -> list[Key]:
    """Resources on no node that the revision removes and that are recorded still."""
    declared = look.target.loaded.fleet.entries
    return [key for key in look.recorded.resources if key.kind not in scope.ON_NODES and key not in declared]


def _keys_in_use(recorded: Recorded) -> dict[Key, Key]:
    return {
        needed: key
        for key, found in recorded.resources.items()
        if key.kind is Kind.SERVER
        for needed in references(key, found.manifest)
    }
