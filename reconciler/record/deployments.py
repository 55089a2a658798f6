"""A reconcile of one resource from its beginning to its end, each in one transaction with everything it changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from reconciler.blueprint.model import Step
from reconciler.desired.fleet import Key
from reconciler.desired.kinds import Database, Kind, Resource, Server, Site
from reconciler.errors import Conflict
from reconciler.kit.canonical import Json
from reconciler.plan.manifests import parse
from reconciler.plan.model import Action, Change
from reconciler.record import conditions, inventory, resources, software
from reconciler.store import Tx
from reconciler.store.queries import conditions as condition_rows
from reconciler.store.queries import (
    deployments,
    events,
    history,
    loop_state,
    servers,
    site_sources,
    sites,
    users,
)
from reconciler.store.queries import inventory as inventory_rows
from reconciler.store.queries.deployments import NewDeployment
from reconciler.store.words import TriggeredVia


@dataclass(frozen=True)
class Cause:
    """What set a run of reconciles off: the plan, the commit and its author, and how it was asked for.

    `engine` is what rendered the steps, so that a later plan knows whether it must render them again.
    """

    plan_id: str
    commit: str
    author_name: str
    author_email: str
    trigger: TriggeredVia
    branch: str = "main"
    fleet: str = inventory.MAIN
    engine: str = ""

    @property
    def origin(self) -> inventory.Origin:
        """What the inventory keeps of it."""
        return inventory.Origin(self.commit, self.fleet, self.engine)


@dataclass(frozen=True)
class Started:
    """A deployment that is recorded. `refused` says why its node need not be asked; empty when it goes on."""

    id: str
    refused: str = ""


def begin(tx: Tx, change: Change, steps: Sequence[Step], cause: Cause, apply_id: str | None) -> Started:
    """Record the intent of one change before its node is touched: row, attempt, conditions, a pending deployment.

    A value that another resource holds (Conflict) ends the deployment at once; the other changes go on.
    """
    refused = ""
    try:
        with tx.connection.begin_nested():
            _prepare(tx, change, steps, cause)
    except Conflict as fault:
        refused = fault.message
    deployment = _create(tx, change.key, change.server, cause, apply_id, manifest=change.after)
    if refused:
        deployments.append_output(tx, deployment, "stderr", refused + "\n")
        if inventory_rows.get(tx, change.key.kind.value, change.key.name) is not None:
            conditions.fail(tx, change.key, cause.commit, refused, stalled=True)
        _end(tx, change.key, deployment, refused, ok=False)
    return Started(deployment, refused)


def begin_repair(tx: Tx, key: Key, server: str, cause: Cause, apply_id: str) -> Started:
    """Record that drift of a resource is about to be repaired. Nobody's commit asked for it, so it has no actor."""
    conditions.begin(tx, key, cause.commit)
    return Started(_create(tx, key, server, cause, apply_id, corrective=True))


def moved_away(tx: Tx, server: Key, steps: Sequence[Step], cause: Cause) -> None:
    """A resource runs on another server now: the one that it left answers for what is still there."""
    inventory.leave_behind(tx, server.name, steps)
    ready = condition_rows.get(tx, server.kind.value, server.name, "Ready")
    if ready is not None and ready.status == "True":
        conditions.begin(tx, server, cause.commit)


def begin_clearing(tx: Tx, server: Key, cause: Cause, apply_id: str) -> Started:
    """Record that what moved away from a server is about to be removed from its node."""
    return Started(_create(tx, server, server.name, cause, apply_id))


def end_clearing(
    tx: Tx, server: Key, deployment: str, cause: Cause, left: Sequence[Step], failure: str
) -> None:
    """Record how that ended. `left` is what was to go; `failure` is empty when it went.

    A server that had failed for another reason stays so.
    """
    if failure:
        conditions.fail(tx, server, cause.commit, failure, stalled=False)
    else:
        inventory.cleared(tx, server.name, left)
        ready = condition_rows.get(tx, server.kind.value, server.name, "Ready")
        if ready is not None and ready.status == "Unknown":
            conditions.succeed(tx, server, cause.commit, "what moved away is removed")
    _end(tx, server, deployment, failure, ok=not failure)


def _prepare(tx: Tx, change: Change, steps: Sequence[Step], cause: Cause) -> None:
    if change.previous is not None:
        resources.rename(tx, change.key.kind, change.previous.name, change.key.name)
        inventory.rename(tx, change.key.kind, change.previous.name, change.key.name)
        condition_rows.rename(tx, change.key.kind.value, change.previous.name, change.key.name)
    manifest = _parsed(change.key, change.after)
    # A database's row comes before its node: the password must be safe here first. The row of anything else that
    # exists changes only when the node has followed.
    new = change.action is Action.CREATE
    replaced = change.action is Action.REPLACE and isinstance(manifest, Database)
    if manifest is not None and (new or replaced):
        resources.put(tx, manifest, change.identity)
    if change.server is not None:
        resources.reserve(tx, change.server, change.identity)
    # A replaced database is no part of the record of the one before: what it finds may be older than this attempt.
    if change.previous_server is not None and change.server is not None and not replaced:
        # until it has arrived, the server that it comes to answers for what is begun there
        inventory.leave_behind(tx, change.server, steps)
    elif change.after is not None and change.action is not Action.FORGET and not replaced:
        inventory.put_attempt(tx, change, steps, cause.origin)
    if isinstance(manifest, Server):
        software.begin(tx, manifest)
    if new:
        resources.set_state(tx, change.key, "creating")
    conditions.begin(tx, change.key, cause.commit)


def _create(
    tx: Tx,
    key: Key,
    server: str | None,
    cause: Cause,
    apply_id: str | None,
    *,
    corrective: bool = False,
    manifest: Mapping[str, Json] | None = None,
) -> str:
    row = servers.get(tx, server) if server else None
    site = sites.get(tx, key.name) if key.kind is Kind.SITE else None
    named = cause.author_email and not corrective
    actor = users.by_email(tx, cause.author_email) if named else None
    branch, commit = _application(key, manifest)
    return deployments.create(
        tx,
        NewDeployment(
            kind=key.kind.value,
            name=key.name,
            triggered_via=cause.trigger,
            branch=cause.branch,
            commit_hash=cause.commit or None,
            source_branch=branch,
            source_commit=commit,
            server_id=row.id if row else None,
            site_id=site.id if site else None,
            actor_id=actor.id if actor else None,
            plan_id=cause.plan_id or None,
            apply_id=apply_id,
            corrective=corrective,
        ),
    ).id


def _application(key: Key, manifest: Mapping[str, Json] | None) -> tuple[str | None, str | None]:
    """What is followed of a site's own repository, and the commit that it is to have."""
    found = _parsed(key, manifest) if key.kind is Kind.SITE else None
    source = found.spec.source if isinstance(found, Site) else None
    if source is None or source.revision is None:
        return None, None
    return source.followed, source.revision.commit


def start(tx: Tx, deployment: str) -> None:
    """The work on the node begins."""
    if deployments.get(tx, deployment).status == "pending":
        deployments.start(tx, deployment)


def succeed(
    tx: Tx,
    change: Change,
    deployment: str,
    steps: Sequence[Step],
    cause: Cause,
    message: str,
    versions: Mapping[str, str] | None = None,
) -> None:
    """The node has followed: bring rows, inventory and conditions to what the change says, and end the deployment.

    `versions` is what a server's node has of the software that it declares.
    """
    key = change.key
    if change.action in (Action.DELETE, Action.FORGET):
        inventory_rows.forget(tx, key.kind.value, key.name)
        condition_rows.forget(tx, key.kind.value, key.name)
        # what comes under this name later is another object: it inherits no failures and no open breaker
        loop_state.forget(tx, key.kind.value, key.name)
        history.forget(tx, key.kind.value, key.name)
        if key.kind is Kind.SITE:
            site_sources.forget(tx, key.name)
        resources.remove(tx, key, _parsed(change.key, change.before), retained=change.action is Action.FORGET)
    else:
        manifest = _parsed(key, change.after)
        if manifest is not None:
            resources.put(tx, manifest, change.identity)
        if isinstance(manifest, Database):
            before = _parsed(key, change.before) if change.destroys else None
            resources.keep_only(tx, key.name, manifest, before)
        inventory.put(tx, change, steps, cause.origin)
        if change.previous_server is not None and change.server is not None:
            inventory.cleared(tx, change.server, steps)
        suspended = isinstance(manifest, Site) and manifest.spec.state == "suspended"
        resources.set_state(tx, key, "ready", suspended=suspended)
        if isinstance(manifest, Server):
            software.finish(tx, manifest.name, versions or {})
        conditions.succeed(tx, key, cause.commit, message)
    _end(tx, key, deployment, message, ok=True)


def is_on(tx: Tx, key: Key, server: str | None) -> bool:
    """Whether a resource is recorded as being on this server."""
    entry = inventory_rows.get(tx, key.kind.value, key.name)
    return entry is not None and entry.server == server


def answer_for(tx: Tx, server: Key, steps: Sequence[Step]) -> None:
    """A server answers for what another resource has, or may have got, on its node."""
    inventory.leave_behind(tx, server.name, steps)


def note(tx: Tx, change: Change, deployment: str, cause: Cause, message: str) -> None:
    """Only the record of something that failed last time changes, say that it is suspended: it stays as failed as it was."""
    entry = inventory_rows.get(tx, change.key.kind.value, change.key.name)
    steps = steps_of(entry.steps) if entry else ()
    inventory.put(tx, change, steps, replace(cause.origin, engine=""))
    conditions.fail(tx, change.key, cause.commit, message, stalled=True)
    _end(tx, change.key, deployment, message, ok=True)


def fail(
    tx: Tx,
    change: Change,
    deployment: str,
    cause: Cause,
    message: str,
    versions: Mapping[str, str] | None = None,
    *,
    stalled: bool,
) -> None:
    """The attempt failed: say so on the deployment, the row and the conditions; the next plan tries again."""
    key = change.key
    before = _parsed(key, change.before)
    if before is not None:
        resources.take_back(tx, key, before)
    if isinstance(before, Database) and change.action is Action.REPLACE:
        resources.keep_only(tx, key.name, before)
    resources.set_state(tx, key, "error")
    manifest = _parsed(key, change.after)
    if isinstance(manifest, Server):
        software.finish(tx, manifest.name, versions or {}, message)
        software.finish_removal(tx, manifest.name, message)
    if inventory_rows.get(tx, key.kind.value, key.name) is not None:
        conditions.fail(tx, key, cause.commit, message, stalled=stalled)
    _end(tx, key, deployment, message, ok=False)


def succeed_again(tx: Tx, key: Key, deployment: str, cause: Cause, message: str) -> None:
    """A repair or a clearing came to its end: the node shows again what is recorded."""
    conditions.succeed(tx, key, cause.commit, message)
    _end(tx, key, deployment, message, ok=True)


def fail_again(tx: Tx, key: Key, deployment: str, cause: Cause, message: str, *, stalled: bool) -> None:
    """A repair or a clearing failed: the next plan tries again."""
    conditions.fail(tx, key, cause.commit, message, stalled=stalled)
    _end(tx, key, deployment, message, ok=False)


def _end(tx: Tx, key: Key, deployment: str, message: str, *, ok: bool) -> None:
    start(tx, deployment)
    deployments.finish(tx, deployment, "success" if ok else "failed", reason=None if ok else message)
    events.add(
        tx,
        key.kind.value,
        key.name,
        type="Normal" if ok else "Warning",
        reason="ReconciliationSucceeded" if ok else "ReconciliationFailed",
        message=message,
        deployment_id=deployment,
    )


def _parsed(key: Key, manifest: Mapping[str, Json] | None) -> Resource | None:
    return parse(key.kind, manifest) if manifest else None


def steps_of(value: Sequence[dict[str, Json]]) -> tuple[Step, ...]:
    """Steps from their recorded form."""
    return tuple(Step.from_json(step) for step in value)
