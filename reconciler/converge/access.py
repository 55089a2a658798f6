"""How to reach a server's node, and the secrets that its bundle needs: from the store, for one run."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress

from reconciler.blueprint import SecretSource
from reconciler.desired.fleet import Fleet, Key
from reconciler.desired.kinds import Kind, Server, SSHKey
from reconciler.errors import NotEnrolled, StoreFault, UsageFault, WrongKey
from reconciler.kit.secret import Secret
from reconciler.nodes import keys
from reconciler.nodes.target import Target
from reconciler.record import resources
from reconciler.store import Tx
from reconciler.store.queries import databases, servers, ssh_keys


def target(tx: Tx, server: Server) -> Target:
    """Where the node is and how to log in. UsageFault without a private key, NotEnrolled without a known host key."""
    spec = server.spec
    key = ssh_keys.get(tx, spec.ssh_key)
    private = ssh_keys.private_key(tx, key.id) if key else None
    if private is None:
        raise UsageFault(
            f"{server.address}: the private half of SSHKey/{spec.ssh_key} is not known",
            hint=f"reconciler servers add-key {server.name} --private-key FILE",
        )
    row = servers.get(tx, server.name)
    pinned = (spec.host_key,) if spec.host_key else tuple(row.host_keys or ()) if row else ()
    if not pinned:
        raise NotEnrolled(
            server.name,
            "the node is not enrolled: its host key is not known",
            hint=f"reconciler servers enroll {server.name} --user root --identity FILE",
        )
    return Target(server.name, spec.address, spec.port, private, pinned)


def ensure_key(tx: Tx, manifest: SSHKey) -> None:
    """Generate the pair of an SSHKey that declares no public half and has none stored yet."""
    row = ssh_keys.get(tx, manifest.name)
    if manifest.spec.public_key is None and (row is None or ssh_keys.private_key(tx, row.id) is None):
        pair = keys.generate(f"reconciler {manifest.name}")
        fingerprint = keys.fingerprint(pair.public)
        row = ssh_keys.upsert(tx, name=manifest.name, public_key=pair.public, fingerprint=fingerprint)
        ssh_keys.set_private_key(tx, row.id, pair.private)


def passwords(tx: Tx, fleet: Fleet) -> dict[str, Secret]:
    """The passwords of the fleet's databases, by manifest name, the new one where it is being replaced.

    One that cannot be opened is left out.
    """
    found = {}
    for server in fleet.servers():
        for manifest in fleet.databases(server.name):
            if (row := resources.database_row(tx, manifest)) is not None:
                with suppress(WrongKey):
                    known = databases.password_of(tx, row.id)
                    found[manifest.name] = databases.pending_of(tx, row.id) or known
    return found


def every_password(tx: Tx, on: Collection[str] | None = None) -> list[Secret]:
    """The passwords of all databases (on these servers), retained ones included: what no output may show."""
    wanted = None if on is None else {row.id for row in servers.all(tx) if row.name in on}
    found = []
    for row in databases.all(tx):
        if wanted is None or row.server_id in wanted:
            with suppress(WrongKey):
                found.append(databases.password_of(tx, row.id))
            with suppress(WrongKey):
                found += filter(None, [databases.pending_of(tx, row.id)])
    return found


def source(known: dict[str, Secret]) -> SecretSource:
    """The passwords as blueprints ask for them."""

    def secret(key: Key, field: str) -> Secret:
        if key.kind is Kind.DATABASE and field == "password" and key.name in known:
            return known[key.name]
        raise StoreFault(
            f"{key} has no {field} that APP_KEY opens",
            hint="restore the newest backup of the state directory together with its key",
        )

    return secret
