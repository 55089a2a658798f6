"""Applies a plan: records the intent, converges the nodes side by side, records what each resource came to."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from reconciler.blueprint.model import Section
from reconciler.converge import access, assemble, outcomes, session, verdict
from reconciler.converge.assemble import NodeWork
from reconciler.converge.journal import Journal
from reconciler.converge.progress import Progress, Result
from reconciler.converge.run import Run
from reconciler.converge.verdict import Verdict
from reconciler.desired import archive
from reconciler.desired.fleet import Fleet, Key
from reconciler.desired.kinds import Kind, Server
from reconciler.errors import Conflict, ReconcilerError, StoreFault
from reconciler.kit import ids
from reconciler.kit.secret import Secret
from reconciler.nodes.answers import Outcome
from reconciler.nodes.conversation import CONFIRM_WITHIN
from reconciler.nodes.pool import Pool
from reconciler.nodes.target import Target
from reconciler.plan.identity import check_fresh, identity
from reconciler.plan.model import Action, Change, Plan
from reconciler.plan.recorded import Recorded
from reconciler.record import age, inventory, software
from reconciler.record import deployments as record
from reconciler.record.deployments import Cause
from reconciler.secrets.redact import Redactor
from reconciler.store import Store, Tx
from reconciler.store.words import TriggeredVia


@dataclass(frozen=True)
class Limits:
    """How far an apply goes: nodes at one time, seconds that one node may take, and seconds after which a node undoes
    what could have locked us out, unless it is confirmed."""

    nodes_at_once: int = 16
    apply_within: float = 1800.0
    confirm_within: int = CONFIRM_WITHIN


@dataclass(frozen=True)
class Part:
    """The part of the recorded state that a plan is about, for applies that run side by side.

    `read` gives that part as it is recorded now, `check` raises StalePlan when it is not what the plan was made from.
    `concludes`: the revision is applied, or has failed, with this apply.
    """

    fleet: str = inventory.MAIN
    read: Callable[[Tx], Recorded] = inventory.recorded
    check: Callable[[Plan, Recorded], None] = check_fresh
    concludes: bool = True


EVERYTHING = Part()


@dataclass(frozen=True)
class Running:
    """An apply that a node works on: its id and fence there, and the deployments that it is for."""

    server: str
    apply_id: str
    fence: int
    deployments: tuple[str, ...]
    target: Target = field(repr=False)


class Executor:
    """Applies plans with the nodes of a pool and records them in a store.

    `learn` is told the texts that manifests hold encrypted, before anything is done with them: no log may show them.
    """

    def __init__(
        self,
        store: Store,
        pool: Pool,
        progress: Progress,
        limits: Limits | None = None,
        learn: Callable[[Iterable[Secret]], None] = lambda texts: None,
    ) -> None:
        self._store = store
        self._learn = learn
        self._pool = pool
        self._progress = progress
        self._limits = limits or Limits()
        self._gate = asyncio.Semaphore(self._limits.nodes_at_once)
        self._running: dict[str, Running] = {}
        self._stops: dict[str, str] = {}

    @property
    def running(self) -> Mapping[str, Running]:
        """What runs on nodes now, by server: for an operator who wants to stop it."""
        return self._running

    def say_why(self, apply_id: str, why: str) -> None:
        """An apply that runs is being cancelled: what it leaves undone is told with this reason."""
        self._stops[apply_id] = why

    async def apply(
        self, plan: Plan, *, trigger: TriggeredVia = "cli", branch: str = "main", part: Part = EVERYTHING
    ) -> list[Result]:
        """Apply a plan whose guards are satisfied; every resource that it changes has a result.

        StalePlan when the recorded state moved since the plan was made; StoreFault's leaves. Faults of nodes are
        results, not exceptions. Cancelled from outside it stops at once; what a node has begun goes on there, and its
        deployments stay unfinished until they are settled.
        """
        recorded = await self._store.aread(part.read)
        part.check(plan, recorded)
        cause = Cause(
            identity(plan),
            plan.head_commit,
            plan.author_name,
            plan.author_email,
            trigger,
            branch,
            part.fleet,
            plan.engine,
        )
        run = Run.of(plan, cause, recorded, self._progress)
        work = assemble.work(plan, run.servers)
        run.applies = {name: ids.new() for name in work}
        await self._store.awrite(lambda tx: outcomes.begin(tx, run, work))
        for change in plan.effective:
            if refused := run.started[change.key].refused:
                run.tell(change.key, change.action.value, Verdict("failed", refused))
        run.passwords = await self._store.aread(lambda tx: access.passwords(tx, run.fleet))
        run.redact = Redactor(await self._store.aread(lambda tx: access.every_password(tx, set(run.servers))))
        run.opened = await self._store.aread(lambda tx: age.opened(tx, run.nodes))
        run.redact.add(*run.opened.texts)
        self._learn(run.opened.texts)
        await self._each(self._node(run, work[name]) for name in work)
        # a move is done where it arrives before anything is taken away where it was
        leaving = assemble.departures(plan, run.servers)
        await self._each(self._clear(run, name, leaving[name]) for name in sorted(leaving))
        await self._each(self._uninstall(run, name) for name in sorted(run.leaving))
        await self._without_node(run, work)
        if part.concludes:
            await self._store.awrite(lambda tx: outcomes.conclude(tx, run))
        return run.results

    async def _each(self, nodes: Iterable[Awaitable[None]]) -> None:
        """All at once, within the limit. What one of them raises is raised when the others have come to their end."""

        async def one(node: Awaitable[None]) -> None:
            async with self._gate:
                await node

        for outcome in await asyncio.gather(*(one(node) for node in nodes), return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def _node(self, run: Run, work: NodeWork) -> None:
        """Converge one node; whatever happens, each of its resources gets a result."""
        work = replace(work, changes=tuple(c for c in work.changes if not run.started[c.key].refused))
        if not work.keys:
            return
        for key in work.keys:
            run.begins(key, _action(work.change(key)))
        of = {str(key): run.started[key].id for key in work.keys}
        undo = assemble.together(
            assemble.removals(work, run.recorded, run.masked),
            assemble.upgrades(work, run.recorded, run.nodes.get(work.name, Fleet())),
        )
        apply_id = run.applies[work.name]
        answer = await self._ask(run, work.server, of, undo, apply_id)
        why = self._stops.pop(apply_id, "")
        for key in work.keys:
            found = _judge(answer, work, key, of[str(key)], run.opened.locked)
            if why and found.state != "succeeded":
                found = replace(found, message=why, stalled=True)
            await self._settle(run, key, work.change(key), found)

    async def _clear(self, run: Run, name: str, changes: Sequence[Change]) -> None:
        """Remove from a node what has arrived elsewhere; until that is done the server answers for it."""
        moved = [change for change in changes if run.succeeded(change.key)]
        undo = assemble.leavings(moved, run.recorded)
        if not undo:
            return
        server = run.servers[name]
        key, apply_id = Key(Kind.SERVER, name), ids.new()
        started = await self._store.awrite(lambda tx: record.begin_clearing(tx, key, run.cause, apply_id))
        run.begins(key, "clear", started.id)
        of = {section.id: started.id for section in undo}
        answer = await self._ask(run, server, of, undo, apply_id)
        found = [
            verdict.of_section(name, section.id, answer, started.id)
            if not isinstance(answer, Verdict)
            else answer
            for section in undo
        ]
        worst = next((one for one in found if one.state != "succeeded"), found[0])
        failure = "" if worst.state == "succeeded" else run.redact(worst.message)
        left = [step for change in moved for step in run.left(change)]
        await self._store.awrite(
            lambda tx: record.end_clearing(tx, key, started.id, run.cause, left, failure)
        )
        run.tell(key, "clear", worst, started.id)

    async def _uninstall(self, run: Run, name: str) -> None:
        """Take off a node what its server no longer declares, once nothing on it uses that any more.

        It is an apply of its own: until the one before has come to its end, sites may run on what is to go. Until it is
        done the server answers for it, so that the next plan goes on here.
        """
        key, leaving = Key(Kind.SERVER, name), run.leaving[name]
        if not run.succeeded(key):
            return
        if behind := [r.key for r in run.results if r.state != "succeeded" and self._on(run, r.key, name)]:
            why = f"it stays until {behind[0]} has followed"
            await self._store.awrite(lambda tx: software.finish_removal(tx, name, why))
            return
        apply_id = ids.new()
        started = await self._store.awrite(lambda tx: record.begin_clearing(tx, key, run.cause, apply_id))
        run.begins(key, "uninstall", started.id)
        undo = [Section(str(key), tuple(leaving.values()))]
        answer = await self._ask(run, run.servers[name], {str(key): started.id}, undo, apply_id)
        found = (
            answer if isinstance(answer, Verdict) else verdict.of_section(name, str(key), answer, started.id)
        )
        failure = "" if found.state == "succeeded" else run.redact(found.message)
        steps = tuple(leaving.values())

        def end(tx: Tx) -> None:
            record.end_clearing(tx, key, started.id, run.cause, steps, failure)
            software.finish_removal(tx, name, failure)

        await self._store.awrite(end)
        run.tell(key, "uninstall", found, started.id)

    @staticmethod
    def _on(run: Run, key: Key, server: str) -> bool:
        return any(change.key == key and change.server == server for change in run.plan.changes)

    async def _ask(
        self, run: Run, server: Server, of: Mapping[str, str], undo: Sequence[Section], apply_id: str
    ) -> Outcome | Verdict:
        """Have the node apply the sections `of` (section to deployment): its outcome, or the verdict when there is none."""
        try:
            return await self._converge(run, server, of, undo, apply_id)
        except StoreFault:
            # nothing can be recorded: what the node comes to is found out once that is possible again
            raise
        except ReconcilerError as fault:
            found = verdict.of_fault(fault)
        except Exception as fault:  # noqa: BLE001 - the other nodes go on, and each resource gets its result
            found = verdict.of_defect(server.name, fault, run.redact(str(fault)))
        await self._store.awrite(lambda tx: outcomes.log(tx, server.name, found.message))
        return found

    async def _converge(
        self, run: Run, server: Server, of: Mapping[str, str], undo: Sequence[Section], apply_id: str
    ) -> Outcome:
        fleet = run.opened.nodes.get(server.name, Fleet())
        state = assemble.state(
            server, fleet, run.known, access.source(run.passwords), undo, run.opened.locked
        )
        state = replace(state, archive=functools.partial(archive.kept, self._store.path.parent))
        target = await self._store.aread(lambda tx: access.target(tx, server))
        journal = Journal(
            self._store,
            server.name,
            of,
            run.redact,
            self._progress,
            software=assemble.software_of(state.bundle),
        )
        self._progress.node(server.name, f"connecting to {target.address}")
        async with self._pool.node(target) as node:
            hello = await session.introduce(node, state)
            fence = await self._store.awrite(
                lambda tx: outcomes.fence(tx, server.name, hello.fence, hello.agent)
            )
            present = {section.id for section in state.bundle.sections}
            self._running[server.name] = Running(server.name, apply_id, fence, tuple(of.values()), target)
            try:
                return await session.apply(
                    node,
                    state,
                    [section for section in of if section in present],
                    apply_id=apply_id,
                    fence=fence,
                    on_event=journal,
                    patience=self._limits,
                )
            finally:
                del self._running[server.name]
                await journal.flush()

    async def _settle(self, run: Run, key: Key, change: Change | None, found: Verdict) -> None:
        """Record how one resource ended; `change` is None for a repair."""
        found = replace(found, message=run.redact(found.message))
        if found.state == "succeeded":
            try:
                await self._store.awrite(lambda tx: outcomes.succeed(tx, run, key, change, found))
            except Conflict as conflict:
                # what the node has is right, but the record cannot say so
                found = verdict.of_fault(conflict)
        if found.state != "succeeded":
            await self._store.awrite(lambda tx: outcomes.fail(tx, run, key, change, found))
        run.tell(key, _action(change), found)

    async def _without_node(self, run: Run, work: Mapping[str, NodeWork]) -> None:
        """What needs no node: keys, people, what is only forgotten, changes of the record alone."""
        on_nodes = {key for node in work.values() for key in node.keys}
        for change in run.plan.effective:
            if change.key in on_nodes or run.started[change.key].refused:
                continue
            run.begins(change.key, change.action.value)
            await self._settle(run, change.key, change, _without(run, change))


def _without(run: Run, change: Change) -> Verdict:
    """What becomes of a change that no node is asked for."""
    if change.steps and change.action is not Action.FORGET:
        return Verdict("failed", f"{change.address}: Server/{change.server} is not known", stalled=True)
    if change.key.kind is Kind.SERVER and change.action is Action.FORGET:
        there = {c.key for c in run.plan.changes if change.key.name in (c.server, c.previous_server)}
        if any(run.failed(key) for key in there):
            hint = f"if its node is gone for good: reconciler servers forget {change.key.name}"
            return Verdict("skipped", f"{change.address} is kept until what is on it could be removed", hint)
    return Verdict("succeeded", "recorded")


def _judge(
    answer: Outcome | Verdict, work: NodeWork, key: Key, deployment: str, locked: Mapping[Key, str]
) -> Verdict:
    if key in locked:
        return Verdict("failed", locked[key], stalled=True)
    if isinstance(answer, Verdict):
        return answer
    change = work.change(key)
    gone = change is not None and change.action is Action.DELETE
    if gone and str(key) not in answer.sections:
        return verdict.nothing_to_do(work.name)
    return verdict.of_section(work.name, str(key), answer, deployment)


def _action(change: Change | None) -> str:
    return change.action.value if change is not None else "repair"
