"""Where a node is and how to get in."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.kit.secret import Secret

PANEL_USER = "panel"
"""The login user that the set-up creates; it may run the agent with sudo, nothing else."""


@dataclass(frozen=True)
class Target:
    """One node as a place to log in to.

    `server` is the manifest name, used in messages. `private_key` is in OpenSSH format, not encrypted.
    `host_keys` are the pinned public keys (`ssh-ed25519 AAAA…`); a connection is refused while there are none.
    `connect_timeout` is in seconds and spans name lookup, TCP, key exchange and login.
    """

    server: str
    address: str
    port: int
    private_key: Secret
    host_keys: tuple[str, ...]
    user: str = PANEL_USER
    connect_timeout: float = 10.0
