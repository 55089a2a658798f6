"""Taking a server out of the record, with everything that is recorded on it."""

from __future__ import annotations

from reconciler.desired.fleet import Key
from reconciler.desired.kinds import Kind
from reconciler.store import Tx
from reconciler.store.queries import conditions, deployments, events, inventory, servers

_REASON = "its server was given up"


def recorded_on(tx: Tx, server: str) -> list[Key]:
    """The server and the resources on it, those that need others first."""
    order = (Kind.SITE, Kind.DATABASE, Kind.SERVER)
    found = [Key(Kind(entry.kind), entry.name) for entry in inventory.all(tx) if entry.server == server]
    return sorted(found, key=lambda key: (order.index(key.kind), key.name))


def forget_server(tx: Tx, name: str) -> None:
    """Remove the server's row, which takes those of its sites and databases along, and all that is recorded on it.

    Deployments and events stay as history; those that had not ended are ended as failed.
    """
    row = servers.get(tx, name)
    if row is None:
        return
    for deployment in deployments.unfinished(tx):
        if deployment.server_id == row.id:
            deployments.finish(tx, deployment.id, "failed", reason=_REASON)
    for key in recorded_on(tx, name):
        inventory.forget(tx, key.kind.value, key.name)
        conditions.forget(tx, key.kind.value, key.name)
        events.add(tx, key.kind.value, key.name, type="Warning", reason="GivenUp", message=_REASON)
    servers.delete(tx, row.id)
