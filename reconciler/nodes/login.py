"""Why a login did not succeed: what asyncssh and the system say, as one of our errors."""

from __future__ import annotations

from collections.abc import Sequence

import asyncssh

from reconciler.errors import AccessDenied, HostKeyMismatch, NodeFault, NodeUnreachable

from .target import Target


class Client(asyncssh.SSHClient):
    """Listens to one connection: the host key that was not the pinned one, and why the connection ended."""

    def __init__(self) -> None:
        self.shown: asyncssh.SSHKey | None = None
        self.ended = False
        self.reason = ""
        self.banner = ""

    def auth_banner_received(self, msg: str, lang: str) -> None:
        """Called by asyncssh with what the node says before the login, such as that it is booting or shutting down."""
        self.banner = (self.banner + msg)[:500]

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Called by asyncssh only when the key is none of the pinned ones: remembered for the message, refused."""
        self.shown = key
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncssh once, at the end of the connection."""
        self.ended = True
        self.reason = str(exc) if exc else ""


def refusal(
    target: Target, pinned: Sequence[asyncssh.SSHKey], client: Client, error: BaseException
) -> NodeFault:
    """The error to raise for a login that failed with `error`."""
    place = f"{target.address} port {target.port}"
    expected = ", ".join(key.get_fingerprint() for key in pinned)
    if client.shown is not None:
        return HostKeyMismatch(
            target.server,
            f"{place} shows the host key {client.shown.get_fingerprint()}, pinned is {expected}",
            hint="if the server was installed anew, enrol it again; if not, someone may be in between",
        )
    if isinstance(error, asyncssh.PermissionDenied):
        return AccessDenied(
            target.server,
            f"{place} refused the key of user {target.user}",
            hint="enrol the server again; if that does not help, see AllowUsers and PubkeyAuthentication in `sshd -T`",
        )
    if isinstance(error, TimeoutError):
        return NodeUnreachable(
            target.server,
            f"{place} did not complete a login within {target.connect_timeout:g} s",
            hint="check the address, the firewall and the load of the node",
        )
    if isinstance(error, OSError):
        return NodeUnreachable(
            target.server,
            f"cannot connect to {place}: {error.strerror or error}",
            hint="check the address and that sshd runs on the node",
        )
    said = " ".join(client.banner.split())
    return NodeUnreachable(
        target.server,
        f"{place} ended the SSH login: {getattr(error, 'reason', '') or error}"
        + (f" ({said})" if said else ""),
        hint="see sshd's log on the node: journalctl -t sshd",
    )
