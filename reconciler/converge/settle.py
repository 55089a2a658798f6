"""Finds out what became of deployments that a run left unfinished: the nodes went on without us and know."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from reconciler.converge import access, outcomes, session, verdict
from reconciler.converge.journal import Journal
from reconciler.converge.progress import Progress
from reconciler.converge.verdict import Verdict
from reconciler.desired.fleet import Key
from reconciler.desired.kinds import Kind, Server
from reconciler.errors import AgentFault, ReconcilerError, StoreFault
from reconciler.nodes.answers import Outcome
from reconciler.nodes.node import Node
from reconciler.nodes.pool import Pool
from reconciler.plan.manifests import parse
from reconciler.record import age, conditions, software
from reconciler.record import deployments as record
from reconciler.secrets.redact import Redactor
from reconciler.store import Store, Tx
from reconciler.store.queries import deployments, servers
from reconciler.store.queries import inventory as inventory_rows
from reconciler.store.queries.deployments import Deployment, Stream

_NEVER = "the run ended before its node was asked; nothing was changed"


@dataclass(frozen=True)
class _Left:
    """What one node was doing when the run ended. `server` is None when it is not recorded any more."""

    name: str
    server: Server | None
    apply_id: str
    members: tuple[Deployment, ...]


async def settle(
    store: Store, pool: Pool, progress: Progress, within: float, only: Collection[str] | None = None
) -> int:
    """End every unfinished deployment (on the servers `only`) with what its node says; returns how many there were.

    The resources keep their failed mark, so that the next plan looks at them again: what the node did is then found
    in place and nothing is repeated. One whose node cannot be reached is ended as failed, for the same reason.
    """
    left = await store.aread(lambda tx: _unfinished(tx, only))

    async def one(group: _Left) -> None:
        answer = await _ask(store, pool, progress, group, within)
        await store.awrite(lambda tx: _end(tx, group, answer))

    for outcome in await asyncio.gather(*(one(group) for group in left), return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
    return sum(len(group.members) for group in left)


async def end(store: Store, only: Collection[str], why: str) -> int:
    """End every unfinished deployment on the servers `only` as failed for this reason, without asking their nodes.

    For nodes that do not answer. How many there were.
    """

    def unit(tx: Tx) -> int:
        left = _unfinished(tx, only)
        for group in left:
            _end(tx, group, Verdict("failed", why))
        return sum(len(group.members) for group in left)

    return await store.awrite(unit)


def _unfinished(tx: Tx, only: Collection[str] | None) -> list[_Left]:
    groups: dict[tuple[str, str], list[Deployment]] = defaultdict(list)
    for deployment in deployments.unfinished(tx):
        groups[deployment.server_id or "", deployment.apply_id or ""].append(deployment)
    names = {row.id: row.name for row in servers.all(tx)} if groups else {}
    return [
        _Left(name, _server(tx, name), apply_id, tuple(members))
        for (server, apply_id), members in groups.items()
        for name in (names.get(server, ""),)
        if only is None or name in only
    ]


def _server(tx: Tx, name: str) -> Server | None:
    """The server as it is recorded: only it is read, since others are worked on all the while."""
    entry = inventory_rows.get(tx, Kind.SERVER.value, name) if name else None
    manifest = parse(Kind.SERVER, entry.spec) if entry is not None else None
    return manifest if isinstance(manifest, Server) else None


async def _ask(store: Store, pool: Pool, progress: Progress, left: _Left, within: float) -> Outcome | Verdict:
    server = left.server
    if server is None or not left.apply_id:
        return Verdict("failed", _NEVER)
    progress.node(left.name, "settling an unfinished run")
    of = {f"{d.kind}/{d.name}": d.id for d in left.members}
    redact = Redactor(await store.aread(lambda tx: access.every_password(tx, {left.name})))
    redact.add(*await store.aread(age.recorded_texts))
    journal = Journal(store, left.name, of, redact, progress, await store.aread(lambda tx: _written(tx, of)))
    never = False
    try:
        target = await store.aread(lambda tx: access.target(tx, server))
        async with pool.node(target) as node:
            try:
                outcome = await node.status(left.apply_id, 0, journal, within=within)
                return await session.confirmed(node, left.apply_id, outcome)
            except AgentFault as fault:
                never = fault.code == "unknown_deployment"
                if never:
                    await _never_again(store, node, server.name, left.apply_id)
                raise
            finally:
                await journal.flush()
    except AgentFault as fault:
        return Verdict("failed", _NEVER if never else fault.message)
    except StoreFault:
        raise  # the node was not asked: it is, once something can be recorded
    except ReconcilerError as fault:
        return Verdict("failed", f"the run ended early and its node could not be asked: {fault.message}")


async def _never_again(store: Store, node: Node, server: str, apply_id: str) -> None:
    """Have the node refuse the apply should its request still arrive, from a program that stood still meanwhile."""
    hello = await node.ready()
    fence = await store.awrite(lambda tx: outcomes.fence(tx, server, hello.fence, hello.agent))
    await node.cancel(apply_id, fence)


def _written(tx: Tx, of: Mapping[str, str]) -> dict[tuple[str, Stream], str]:
    """What the deployments hold already: the apply is told anew from its first event."""
    streams: Sequence[Stream] = ("stdout", "stderr")
    return {
        (section, stream): deployments.output_of(tx, deployment, stream).shown()
        for section, deployment in of.items()
        for stream in streams
    }


def _end(tx: Tx, left: _Left, answer: Outcome | Verdict) -> None:
    if any(deployment.kind == Kind.SERVER.value for deployment in left.members):
        if isinstance(answer, Outcome) and answer.state == "succeeded":
            software.finish(tx, left.name, answer.versions)
        software.interrupted(tx, left.name)
    for deployment in left.members:
        if deployments.get(tx, deployment.id).status not in deployments.UNFINISHED:
            continue
        found = _judge(left.name, deployment, answer)
        done = found.state == "succeeded"
        note = "settled after an interruption" + ("" if done else f": {found.message}")
        record.start(tx, deployment.id)
        deployments.append_output(tx, deployment.id, "stdout" if done else "stderr", note + "\n")
        reason = None if done else found.message
        deployments.finish(tx, deployment.id, "success" if done else "failed", reason=reason)
        if inventory_rows.get(tx, deployment.kind, deployment.name) is not None:
            key = Key(Kind(deployment.kind), deployment.name)
            said = "to be looked at again after an interruption"
            if not conditions.is_cancelled(tx, key):  # that stays until a person says otherwise
                conditions.fail(tx, key, deployment.commit_hash or "", said, stalled=False)


def _judge(node: str, deployment: Deployment, answer: Outcome | Verdict) -> Verdict:
    if isinstance(answer, Verdict):
        return answer
    address = f"{deployment.kind}/{deployment.name}"
    if address not in answer.sections and answer.state == "succeeded":
        return verdict.nothing_to_do(node)
    return verdict.of_section(node, address, answer, deployment.id)
