"""Host keys: asking a node for them (trust on first use, at enrolment) and reading the pinned ones."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import asyncssh

from reconciler.errors import HostKeyMismatch, NodeUnreachable, NotEnrolled, SettingsFault

from . import keys

# One handshake shows one key, so each kind is asked for by itself. Best first; DSA and RSA with SHA-1 are never asked.
KINDS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "rsa-sha2-512")


async def scan(address: str, port: int, within: float = 10.0) -> tuple[str, ...]:
    """The public host keys a node shows, best kind first, each `type base64`. Nothing is trusted by this.

    Each is to be shown to a person with `keys.fingerprint`. Raises NodeUnreachable (`server` is the address)
    when nothing answers within `within` seconds or what answers is not an SSH server.
    """
    where = f"port {port}"
    try:
        async with asyncio.timeout(within):
            found = [await _first(address, port)]
            if found[0] is not None:  # something speaks SSH: ask for the other kinds
                found += await asyncio.gather(*(_one(address, port, kind) for kind in KINDS))
    except TimeoutError:
        raise NodeUnreachable(
            address,
            f"no SSH answer on {where} within {within:g} s",
            hint="check the address and the firewall",
        ) from None
    except OSError as error:
        raise NodeUnreachable(
            address, f"cannot connect to {where}: {error.strerror or error}", hint="check that sshd runs"
        ) from error
    except asyncssh.Error as error:
        raise NodeUnreachable(
            address,
            f"{where} does not complete an SSH handshake: {error.reason}",
            hint="check the port number",
        ) from error
    lines = dict.fromkeys(line for line in found if line is not None)
    return tuple(sorted(lines, key=_rank))


async def _first(address: str, port: int) -> str | None:
    return _public(await asyncssh.get_server_host_key(address, port, config=None))


async def _one(address: str, port: int, kind: str) -> str | None:
    try:
        key = await asyncssh.get_server_host_key(address, port, server_host_key_algs=[kind], config=None)
    except (OSError, asyncssh.Error):
        return None  # the node has no key of this kind
    return _public(key)


def _public(key: asyncssh.SSHKey | None) -> str | None:
    return " ".join(key.export_public_key("openssh").decode("utf-8").split()[:2]) if key else None


def _rank(line: str) -> int:
    kind = line.split(maxsplit=1)[0]
    return KINDS.index(kind) if kind in KINDS else len(KINDS)


def pinned(server: str, lines: tuple[str, ...]) -> list[asyncssh.SSHKey]:
    """The pinned keys of a node as keys. Raises NotEnrolled when there are none, HostKeyMismatch when one cannot be read."""
    if not lines:
        raise NotEnrolled(
            server, "no host key is pinned", hint="enrol the server, or set spec.hostKey in its manifest"
        )
    try:
        return [keys.parse_public(line, where="a pinned host key") for line in lines]
    except SettingsFault as error:
        raise HostKeyMismatch(
            server, error.message, hint="correct spec.hostKey or enrol the server again"
        ) from None


def preference(trusted: Sequence[asyncssh.SSHKey]) -> list[str]:
    """Signature algorithms to ask a node for: those of the pinned keys first.

    The others follow, so that a node without a pinned kind shows the key it has and can be named, instead of hanging up.
    """
    own = {"rsa-sha2-512" if key.get_algorithm() == "ssh-rsa" else key.get_algorithm() for key in trusted}
    return [kind for kind in KINDS if kind in own] + [kind for kind in KINDS if kind not in own]
