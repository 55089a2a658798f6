"""Applies a plan: records the intent, converges the nodes side by side, records what each resource came to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from reconciler.blueprint.model import Step
from reconciler.converge import access, assemble, session
from reconciler.converge.assemble import NodeWork
from reconciler.converge.journal import Journal
from reconciler.converge.progress import Progress, Result, ResultState
from reconciler.desired.fleet import Key
from reconciler.desired.kinds import Kind
from reconciler.errors import NodeFault, ReconcilerError
from reconciler.kit import ids
from reconciler.kit.secret import Secret
from reconciler.nodes.answers import Outcome, SectionOutcome
from reconciler.nodes.pool import Pool
from reconciler.plan.identity import check_fresh, identity
from reconciler.plan.model import Action, Change, Plan
from reconciler.plan.recorded import Recorded
from reconciler.record import deployments as record
from reconciler.record import inventory
from reconciler.record.deployments import Cause, Started
from reconciler.secrets.redact import Redactor
from reconciler.store import Store, Tx
from reconciler.store.queries import revisions, server_logs, servers
from reconciler.store.words import TriggeredVia

_LOST = SectionOutcome("failed", 0, "the node did not tell how this ended")


@dataclass(frozen=True)
class Limits:
    """How far an apply goes: nodes at one time, and seconds that one node may take."""

    nodes_at_once: int = 16
    apply_within: float = 1800.0


@dataclass
class _Run:
    """What one apply carries from step to step."""

    plan: Plan
    cause: Cause
    recorded: Recorded
    masked: Mapping[str, tuple[Step, ...]]
    passwords: dict[str, Secret] = field(default_factory=dict)
    started: dict[Key, Started] = field(default_factory=dict)
    since: dict[Key, float] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)

    def steps(self, change: Change) -> tuple[Step, ...]:
        return self.masked.get(str(change.key), ())


class Executor:
    """Applies plans with the nodes of a pool and records them in a store."""

    def __init__(self, store: Store, pool: Pool, progress: Progress, limits: Limits | None = None) -> None:
        self._store = store
        self._pool = pool
        self._progress = progress
        self._limits = limits or Limits()

    async def apply(self, plan: Plan, *, trigger: TriggeredVia = "cli", branch: str = "main") -> list[Result]:
        """Apply a plan whose guards are satisfied; every resource that it changes has a result.

        StalePlan when the recorded state moved since the plan was made; StoreFault's leaves. Faults of nodes are
        results, not exceptions.
        """
        recorded = await self._store.aread(inventory.recorded)
        check_fresh(plan, recorded)
        cause = Cause(identity(plan), plan.head_commit, plan.author_name, plan.author_email, trigger, branch)
        run = _Run(plan, cause, recorded, assemble.masked_steps(plan))
        work = assemble.work(plan)
        applies = {name: ids.new() for name in work}
        await self._begin(run, work, applies)
        run.passwords = await self._store.aread(access.passwords)
        gate = asyncio.Semaphore(self._limits.nodes_at_once)

        async def converge(name: str) -> None:
            async with gate:
                await self._node(run, work[name], applies[name])

        async with asyncio.TaskGroup() as group:
            for name in work:
                group.create_task(converge(name))
        await self._without_node(run, work)
        await self._conclude(run)
        return run.results

    async def _begin(self, run: _Run, work: Mapping[str, NodeWork], applies: Mapping[str, str]) -> None:
        """Write every intent before the first node is touched, so that a crash loses no deployment."""
        await self._store.awrite(lambda tx: self._accept(tx, run.plan))
        for manifest in assemble.after(run.plan).ssh_keys():
            await self._store.awrite(lambda tx, m=manifest: access.ensure_key(tx, m))  # type: ignore[misc]
        of_server = {change.key: name for name, node in work.items() for change in node.changes}
        for change in run.plan.effective:
            apply_id = applies.get(of_server.get(change.key, ""))
            run.started[change.key] = await self._store.awrite(
                lambda tx, c=change, a=apply_id: record.begin(tx, c, run.steps(c), run.cause, a)  # type: ignore[misc]
            )
        for name, node in work.items():
            for key in node.repairs:
                run.started[key] = await self._store.awrite(
                    lambda tx, k=key, n=name: record.begin_repair(tx, k, n, run.cause, applies[n])  # type: ignore[misc]
                )
        for change in run.plan.effective:
            if refused := run.started[change.key].refused:
                self._tell(run, change.key, change.action.value, "failed", refused)

    def _accept(self, tx: Tx, plan: Plan) -> None:
        if plan.head_commit and plan.head_commit != "worktree":
            revisions.accept(
                tx,
                commit=plan.head_commit,
                author_name=plan.author_name,
                author_email=plan.author_email,
                message="",
            )

    async def _node(self, run: _Run, work: NodeWork, apply_id: str) -> None:
        """Converge one node; whatever happens, each of its resources gets a result."""
        wanted = tuple(change for change in work.changes if not run.started[change.key].refused)
        work = replace(work, changes=wanted)
        if not work.touch:
            return
        actions = {c.key: c.action.value for c in wanted} | dict.fromkeys(work.repairs, "repair")
        for key, action in actions.items():
            run.since[key] = time.monotonic()
            self._progress.started(key, action)
        try:
            outcome = await self._converge(run, work, apply_id)
        except ReconcilerError as fault:
            said = fault.message
            await self._store.awrite(lambda tx: self._log(tx, work.name, said))
            for key in actions:
                await self._failed(run, key, _change(work, key), fault)
            return
        for key in actions:
            await self._settle(run, work, key, outcome)

    async def _converge(self, run: _Run, work: NodeWork, apply_id: str) -> Outcome:
        state = assemble.state(
            work.server,
            assemble.after(run.plan),
            assemble.identities(run.plan),
            access.source(run.passwords),
            assemble.removals(work, run.recorded, run.masked),
        )
        target = await self._store.aread(lambda tx: access.target(tx, work.server))
        of = {str(key): run.started[key].id for key in (*(c.key for c in work.changes), *work.repairs)}
        redact = Redactor(list(run.passwords.values()))
        journal = Journal(self._store, work.name, of, redact, self._progress)
        self._progress.node(work.name, f"connecting to {target.address}")
        async with self._pool.node(target) as node:
            hello = await node.ready()
            session.check_platform(hello, state)
            fence = await self._store.awrite(lambda tx: self._fence(tx, work.name, hello.fence, hello.agent))
            present = {section.id for section in state.bundle.sections}
            touch = [section for section in work.touch if section in present]
            try:
                return await session.apply(
                    node,
                    state,
                    touch,
                    apply_id=apply_id,
                    fence=fence,
                    on_event=journal,
                    within=self._limits.apply_within,
                )
            finally:
                await journal.flush()

    @staticmethod
    def _fence(tx: Tx, name: str, seen: int, agent: str) -> int:
        row = servers.get(tx, name)
        if row is None:
            return seen + 1
        servers.set_agent_digest(tx, row.id, agent)
        return servers.bump_fence(tx, row.id, seen=seen)

    @staticmethod
    def _log(tx: Tx, name: str, message: str) -> None:
        row = servers.get(tx, name)
        if row is not None:
            server_logs.add(tx, server_id=row.id, level="error", message=message)

    async def _settle(self, run: _Run, work: NodeWork, key: Key, outcome: Outcome) -> None:
        """Record how one section ended."""
        found = outcome.sections.get(str(key))
        if found is None:
            # nothing to undo was left, so the section was not in the bundle
            gone = any(c.key == key and c.action is Action.DELETE for c in work.changes)
            found = SectionOutcome("unchanged", 0) if gone else _LOST
        if found.state in ("succeeded", "unchanged"):
            changed = found.changed
            message = f"{changed} {'step' if changed == 1 else 'steps'} changed on {work.name}"
            await self._succeeded(run, work, key, message)
            return
        if outcome.state == "interrupted":
            message = f"interrupted on {work.name}" + (f" at {outcome.doubt}" if outcome.doubt else "")
            fault: NodeFault = NodeFault(
                work.name, message, hint="apply again: the agent settles what is in doubt"
            )
        else:
            fault = NodeFault(work.name, found.message or found.state, hint=_hint(found))
        await self._failed(
            run, key, _change(work, key), fault, "skipped" if found.state == "skipped" else "failed"
        )

    async def _succeeded(self, run: _Run, work: NodeWork, key: Key, message: str) -> None:
        change = _change(work, key)
        deployment = run.started[key].id
        if change is None:
            await self._store.awrite(
                lambda tx: record.succeed_repair(tx, key, deployment, run.cause, message)
            )
            self._tell(run, key, "repair", "succeeded", message)
            return
        if change.previous_server == work.name:
            return  # what it left is undone; its own node decides the result
        await self._store.awrite(
            lambda tx: record.succeed(tx, change, deployment, run.steps(change), run.cause, message)
        )
        self._tell(run, key, change.action.value, "succeeded", message)

    async def _failed(
        self,
        run: _Run,
        key: Key,
        change: Change | None,
        fault: ReconcilerError,
        state: ResultState = "failed",
    ) -> None:
        """Record a failure; `change` is None for a repair. The first failure of a resource counts."""
        if any(result.key == key for result in run.results):
            return
        deployment = run.started[key].id
        stalled = fault.reaction == "stall" and state != "skipped"

        def unit(tx: Tx) -> None:
            if change is None:
                record.fail_repair(tx, key, deployment, run.cause, fault.message, stalled=stalled)
            else:
                record.fail(tx, change, deployment, run.cause, fault.message, stalled=stalled)

        await self._store.awrite(unit)
        self._tell(run, key, change.action.value if change else "repair", state, fault.message, fault.hint)

    async def _without_node(self, run: _Run, work: Mapping[str, NodeWork]) -> None:
        """What needs no node: keys, people, what is only forgotten, changes of the record alone."""
        on_nodes = {change.key for node in work.values() for change in node.changes}
        for change in run.plan.effective:
            started = run.started[change.key]
            if change.key in on_nodes or started.refused:
                continue
            run.since[change.key] = time.monotonic()
            if (
                change.key.kind is Kind.SERVER
                and change.action is Action.FORGET
                and self._left_on(run, change)
            ):
                fault = ReconcilerError(f"{change.address} is kept until what is on it could be removed")
                await self._failed(run, change.key, change, fault, "skipped")
                continue
            await self._store.awrite(
                lambda tx, c=change, d=started.id: record.succeed(  # type: ignore[misc]
                    tx, c, d, run.steps(c), run.cause, "recorded; no node is concerned"
                )
            )
            self._tell(run, change.key, change.action.value, "succeeded", "recorded")

    @staticmethod
    def _left_on(run: _Run, server: Change) -> bool:
        """Whether something on a server that is to be forgotten could not be removed."""
        there = {c.key for c in run.plan.changes if server.key.name in (c.server, c.previous_server)}
        return any(result.state != "succeeded" and result.key in there for result in run.results)

    async def _conclude(self, run: _Run) -> None:
        def unit(tx: Tx) -> None:
            if revisions.get(tx, run.plan.head_commit) is not None:
                ok = all(result.state == "succeeded" for result in run.results)
                revisions.set_status(tx, run.plan.head_commit, "applied" if ok else "failed")

        await self._store.awrite(unit)

    def _tell(
        self, run: _Run, key: Key, action: str, state: ResultState, message: str, hint: str = ""
    ) -> None:
        seconds = time.monotonic() - run.since.get(key, time.monotonic())
        result = Result(key, action, state, message, run.started[key].id, seconds, hint)
        run.results.append(result)
        self._progress.finished(result)


def _change(work: NodeWork, key: Key) -> Change | None:
    return next((change for change in work.changes if change.key == key), None)


def _hint(found: SectionOutcome) -> str:
    if found.state == "skipped":
        return "it is tried again once what it needs is in order"
    return "reconciler deployments show ID prints what the node said"
