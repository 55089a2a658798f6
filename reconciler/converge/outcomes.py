"""What an apply writes into the store: the intents before the first node is touched, and how everything ended."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.converge import access, assemble
from reconciler.converge.assemble import NodeWork
from reconciler.converge.run import Run
from reconciler.converge.verdict import Verdict
from reconciler.desired.fleet import Key
from reconciler.desired.kinds import Database, Kind
from reconciler.plan.exits import errored
from reconciler.plan.kinds import spec_of
from reconciler.plan.model import Action, Change, Plan
from reconciler.record import deployments as record
from reconciler.record import resources
from reconciler.store import Tx
from reconciler.store.queries import revisions, server_logs, servers

_GONE = (Action.DELETE, Action.FORGET)


def begin(tx: Tx, run: Run, work: Mapping[str, NodeWork]) -> None:
    """Write every intent before the first node is touched, so that a crash loses no deployment."""
    plan = run.plan
    if plan.head_commit not in ("", "worktree"):
        author = {"author_name": plan.author_name, "author_email": plan.author_email}
        revisions.accept(tx, commit=plan.head_commit, message="", fleet=run.cause.fleet, **author)
    for manifest in run.fleet.ssh_keys():
        access.ensure_key(tx, manifest)
    for key in _givers(plan):
        resources.release(tx, key)
    of_node = {change.key: run.applies[name] for name, node in work.items() for change in node.changes}
    for change in plan.effective:
        run.started[change.key] = record.begin(
            tx, change, run.steps(change), run.cause, of_node.get(change.key)
        )
    for name, node in work.items():
        for key in node.repairs:
            run.started[key] = record.begin_repair(tx, key, name, run.cause, run.applies[name])


def _givers(plan: Plan) -> list[Key]:
    """The recorded sites whose domain another site gets by this plan."""
    takers = {
        spec_of(c.after).get("domain"): c.key for c in plan.effective if c.key.kind is Kind.SITE and c.after
    }
    return [
        change.previous or change.key
        for change in plan.effective
        if change.key.kind is Kind.SITE
        and change.before is not None
        and takers.get(spec_of(change.before).get("domain"), change.key) != change.key
    ]


def succeed(tx: Tx, run: Run, key: Key, change: Change | None, found: Verdict) -> None:
    """The resource got where the plan wanted it. Conflict when the record cannot say so; `change` is None for a repair."""
    deployment, message = run.started[key].id, found.message
    if key.kind is Kind.DATABASE and (change is None or (change.steps and change.action not in _GONE)):
        manifest = run.fleet.get(key.kind, key.name)
        if isinstance(manifest, Database):
            resources.confirm_password(tx, manifest, run.passwords.get(key.name))
    if change is None:
        record.succeed_again(tx, key, deployment, run.cause, message)
        return
    old = run.recorded.resources.get(key)
    if change.reason_code == "suspended" and old is not None and old.failed:
        record.note(tx, change, deployment, run.cause, message)
        return
    record.succeed(tx, change, deployment, run.steps(change), run.cause, message, found.versions)
    if key.kind is Kind.SERVER and change.action is not Action.FORGET:
        _answer_on(tx, run, key)
        # what is no longer wanted goes when everything else has followed
        if leaving := run.leaving.get(key.name):
            record.answer_for(tx, key, [step for step in run.left(change) if step.key in leaving])
    if (left := assemble.left_server(run.plan, change)) is not None:
        record.moved_away(tx, Key(Kind.SERVER, left), run.left(change), run.cause)


def _answer_on(tx: Tx, run: Run, server: Key) -> None:
    """Keep a server answering for the sites of this run that are on their way to it, or have left it uncleared.

    Recording the server anew drops everything of others that it answered for, which is right for what this apply undid
    and wrong for what it has only begun.
    """
    for change in run.plan.effective:
        if (
            change.key.kind is not Kind.SITE
            or change.previous_server is None
            or run.started[change.key].refused
        ):
            continue
        arrived = record.is_on(tx, change.key, change.server)
        if change.server == server.name and not arrived:
            record.answer_for(tx, server, run.steps(change))
        elif assemble.left_server(run.plan, change) == server.name and arrived:
            record.answer_for(tx, server, run.left(change))


def fail(tx: Tx, run: Run, key: Key, change: Change | None, found: Verdict) -> None:
    """It did not; `change` is None for a repair."""
    deployment = run.started[key].id
    if change is None:
        record.fail_again(tx, key, deployment, run.cause, found.message, stalled=found.stalled)
    else:
        record.fail(tx, change, deployment, run.cause, found.message, found.versions, stalled=found.stalled)


def conclude(tx: Tx, run: Run) -> None:
    """How the revision stands; a repair says nothing about it."""
    changed = {change.key for change in run.plan.effective}
    fleet = run.cause.fleet
    if changed and revisions.get(tx, run.plan.head_commit, fleet) is not None:
        ok = not errored(run.plan) and not any(run.failed(key) for key in changed)
        revisions.set_status(tx, run.plan.head_commit, "applied" if ok else "failed", fleet=fleet)


def fence(tx: Tx, name: str, seen: int, agent: str) -> int:
    """The number of this apply on the node, greater than any before, and which agent runs there. `seen` is the node's own."""
    row = servers.get(tx, name)
    if row is None:
        return seen + 1
    servers.set_agent_digest(tx, row.id, agent)
    return servers.bump_fence(tx, row.id, seen=seen)


def log(tx: Tx, name: str, message: str) -> None:
    """Keep an error in the server's log."""
    row = servers.get(tx, name)
    if row is not None:
        server_logs.add(tx, server_id=row.id, level="error", message=message)
