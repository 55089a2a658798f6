"""Finds out what became of deployments that a run left unfinished: the nodes went on without us and know."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from reconciler.converge import access, assemble
from reconciler.converge.journal import Journal
from reconciler.converge.progress import Progress
from reconciler.desired.fleet import Key
from reconciler.desired.kinds import Kind
from reconciler.errors import AgentFault, ReconcilerError
from reconciler.nodes.answers import Outcome
from reconciler.nodes.pool import Pool
from reconciler.record import conditions, inventory
from reconciler.secrets.redact import Redactor
from reconciler.store import Store, Tx
from reconciler.store.queries import deployments, servers
from reconciler.store.queries import inventory as inventory_rows
from reconciler.store.queries.deployments import Deployment

_NEVER = "the run ended before its node was asked; nothing was changed"


async def settle(store: Store, pool: Pool, progress: Progress, within: float) -> int:
    """End every unfinished deployment with what its node says; returns how many there were.

    The resources keep their failed mark, so that the next plan looks at them again: what the node did is then found
    in place and nothing is repeated. One whose node cannot be reached is ended as failed, for the same reason.
    """
    left = await store.aread(deployments.unfinished)
    groups: dict[tuple[str, str], list[Deployment]] = defaultdict(list)
    for deployment in left:
        groups[deployment.server_id or "", deployment.apply_id or ""].append(deployment)
    for (server_id, apply_id), members in groups.items():
        outcome, why = None, _NEVER
        if server_id and apply_id:
            outcome, why = await _ask(store, pool, progress, server_id, apply_id, members, within)
        await store.awrite(lambda tx, o=outcome, w=why, m=members: _end(tx, m, o, w))  # type: ignore[misc]
    return len(left)


async def _ask(
    store: Store,
    pool: Pool,
    progress: Progress,
    server_id: str,
    apply_id: str,
    members: list[Deployment],
    within: float,
) -> tuple[Outcome | None, str]:
    row = await store.aread(lambda tx: servers.get_by_id(tx, server_id))
    fleet = assemble.of_record(await store.aread(inventory.recorded))
    server = fleet.server(row.name)
    if server is None:
        return None, _NEVER
    progress.node(row.name, "settling an unfinished run")
    redact = Redactor(list((await store.aread(access.passwords)).values()))
    of: Mapping[str, str] = {f"{d.kind}/{d.name}": d.id for d in members}
    journal = Journal(store, row.name, of, redact, progress)
    try:
        target = await store.aread(lambda tx: access.target(tx, server))
        async with pool.node(target) as node:
            outcome = await node.status(apply_id, 0, journal, within=within)
            await journal.flush()
            return outcome, ""
    except AgentFault as fault:
        return None, _NEVER if fault.code == "unknown_deployment" else fault.message
    except ReconcilerError as fault:
        return None, f"the run ended early and the node could not be asked: {fault.message}"


def _end(tx: Tx, members: list[Deployment], outcome: Outcome | None, why: str) -> None:
    for deployment in members:
        if deployments.get(tx, deployment.id).status not in deployments.UNFINISHED:
            continue
        section = outcome.sections.get(f"{deployment.kind}/{deployment.name}") if outcome else None
        done = section is not None and section.state in ("succeeded", "unchanged")
        message = why or (section.message if section else "") or (outcome.state if outcome else "")
        if deployments.get(tx, deployment.id).status == "pending":
            deployments.start(tx, deployment.id)
        note = "settled after an interruption" + (f": {message}" if message and not done else "")
        deployments.append_output(tx, deployment.id, "stdout" if done else "stderr", note + "\n")
        deployments.finish(
            tx, deployment.id, "success" if done else "failed", reason=None if done else message
        )
        key = Key(Kind(deployment.kind), deployment.name)
        if inventory_rows.get(tx, deployment.kind, deployment.name) is not None:
            said = "to be looked at again after an interruption"
            conditions.fail(tx, key, deployment.commit_hash or "", said, stalled=False)
