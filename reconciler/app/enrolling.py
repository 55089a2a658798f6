"""Making a server manageable: its login key, its pinned host key, the agent on its node."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from reconciler.app import fleets
from reconciler.app.settings import Settings
from reconciler.desired.kinds import Kind, Server, SSHKey
from reconciler.errors import SettingsFault, UsageFault
from reconciler.kit.secret import Secret
from reconciler.kit.text import did_you_mean
from reconciler.nodes import enrol as nodes_enrol
from reconciler.nodes import hostkeys, keys
from reconciler.nodes.keys import KeyPair
from reconciler.nodes.target import Target
from reconciler.record import resources
from reconciler.store import Store, Tx
from reconciler.store.queries import servers, ssh_keys


@dataclass(frozen=True)
class LoginKey:
    """The daemon's key for a server. `generated` tells that it was made just now."""

    name: str
    public: str
    fingerprint: str
    generated: bool


def server_of(settings: Settings, name: str) -> tuple[Server, SSHKey]:
    """A Server of the newest commit and its SSHKey. UsageFault when the fleet declares no such server."""
    fleet = fleets.at_commit(settings).loaded.fleet
    server = fleet.server(name)
    if server is None:
        known = [found.name for found in fleet.servers()]
        raise UsageFault(
            f"the fleet's newest commit declares no valid Server {name!r}",
            hint=did_you_mean(name, known) or "reconciler validate shows what is wrong, if anything",
        )
    key = fleet.get(Kind.SSH_KEY, server.spec.ssh_key)
    if not isinstance(key, SSHKey):
        raise UsageFault(f"{server.address} names SSHKey/{server.spec.ssh_key}, which is not declared")
    return server, key


def add_key(store: Store, key: SSHKey, given: Secret | None) -> LoginKey:
    """Store the private half of a key: the given one, the one that is stored already, or a new one.

    SettingsFault when the given key is not the declared one, or the declared one's private half is neither given nor stored.
    """
    pair = keys.pair(given) if given is not None else None
    declared = key.spec.public_key
    if pair is not None and declared and keys.fingerprint(pair.public) != keys.fingerprint(declared):
        raise SettingsFault(
            f"the given key is {keys.fingerprint(pair.public)}, but {key.address} declares {keys.fingerprint(declared)}",
            hint="give the private half of the declared key, or correct spec.publicKey",
        )

    def unit(tx: Tx) -> LoginKey:
        row = ssh_keys.get(tx, key.name)
        stored = ssh_keys.private_key(tx, row.id) if row else None
        same = row is not None and (declared is None or keys.fingerprint(declared) == row.fingerprint)
        if pair is None and row is not None and stored is not None and same:
            return LoginKey(key.name, row.public_key, row.fingerprint, generated=False)
        chosen = pair
        if chosen is None:
            if declared is not None:
                raise SettingsFault(
                    f"the private half of {key.address} is not stored",
                    hint="give it with --private-key FILE; the manifest holds only the public half",
                )
            chosen = keys.generate(f"reconciler {key.name}")
        fingerprint = keys.fingerprint(chosen.public)
        row = ssh_keys.upsert(tx, name=key.name, public_key=chosen.public, fingerprint=fingerprint)
        ssh_keys.set_private_key(tx, row.id, chosen.private)
        return LoginKey(key.name, chosen.public, fingerprint, generated=pair is None)

    return store.write(unit)


def key_pair(store: Store, name: str) -> KeyPair:
    """The stored pair of an SSHKey. UsageFault when there is none."""

    def unit(tx: Tx) -> KeyPair:
        row = ssh_keys.get(tx, name)
        private = ssh_keys.private_key(tx, row.id) if row else None
        if row is None or private is None:
            raise UsageFault(f"the private half of SSHKey/{name} is not stored")
        return KeyPair(private, row.public_key)

    return store.read(unit)


def pin(store: Store, server: Server, host_keys: Sequence[str]) -> None:
    """Record a server and the host keys that its node must show from now on."""

    def unit(tx: Tx) -> None:
        resources.put(tx, server, {})
        row = servers.get(tx, server.name)
        if row is not None:
            servers.set_host_keys(tx, row.id, host_keys)

    store.write(unit)


def setup_script(store: Store, key: SSHKey) -> str:
    """The script that makes a node manageable, to be run there as root."""
    return nodes_enrol.render_setup_script(key_pair(store, key.name).public)


def scan(server: Server) -> tuple[str, ...]:
    """The host keys that the node shows; the declared one alone when the manifest pins it."""
    if server.spec.host_key:
        return (" ".join(server.spec.host_key.split()[:2]),)
    return asyncio.run(hostkeys.scan(server.spec.address, server.spec.port))


@dataclass(frozen=True)
class Operator:
    """The person's own access to a node: user and private key files, best first."""

    user: str
    identities: tuple[Path, ...]


def enroll(
    store: Store,
    server: Server,
    key: SSHKey,
    operator: Operator,
    accept: Callable[[Sequence[str]], bool],
) -> nodes_enrol.Enrolled | None:
    """Enrol a node over the operator's access. None when the person does not accept the host keys.

    `accept` gets lines `type SHA256:…` of keys that nothing vouches for yet. SettingsFault, NodeFault's leaves.
    """
    add_key(store, key, None)
    row = store.read(lambda tx: servers.get(tx, server.name))
    known = tuple(row.host_keys or ()) if row else ()
    shown = known or scan(server)
    if not known and not server.spec.host_key:
        lines = [f"{line.split()[0]} {keys.fingerprint(line)}" for line in shown]
        if not accept(lines):
            return None
    if not operator.identities:
        raise SettingsFault("there is no key to log in with", hint="name one with --identity FILE")
    private = [keys.read_identity(path) for path in operator.identities]
    target = Target(
        server=server.name,
        address=server.spec.address,
        port=server.spec.port,
        user=operator.user,
        private_key=private[0],
        host_keys=tuple(shown),
    )
    done = asyncio.run(nodes_enrol.enrol(target, key_pair(store, key.name), identities=private[1:]))
    pin(store, server, done.host_keys)
    return done
