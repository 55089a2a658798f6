"""Listening sockets: `host:port`, `[address]:port` or `unix:/path`."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

from reconciler.errors import SettingsFault

MODE = 0o660
"""Of a unix socket: the daemon's user and group may connect. A proxy's user is made a member of the group."""

_BACKLOG = 128


@dataclass(frozen=True)
class Listener:
    """A bound socket. `path` is of a unix socket that we made and take away again."""

    sock: socket.socket
    path: Path | None = None

    @property
    def address(self) -> str:
        """The address as the settings write it, with the port that the system chose for port 0."""
        return address_of(self.sock)

    def close(self) -> None:
        """Closes the socket, and removes its file unless another process listens there by now."""
        self.sock.close()
        if self.path is not None:
            with contextlib.suppress(OSError):
                if _deserted(self.path):
                    self.path.unlink()


def address_of(sock: socket.socket) -> str:
    """The address that a socket listens on: `127.0.0.1:8420`, `[::1]:8420` or `unix:/path`."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{name}"
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def listen(address: str) -> tuple[Listener, ...]:
    """Binds every address that `address` means. SettingsFault when it is malformed, unknown or taken.

    A name such as `localhost` may mean two addresses. It resolves names, so it may take a moment.
    """
    if address.startswith("unix:"):
        return (_unix(Path(address.removeprefix("unix:"))),)
    host, port = _split(address)
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as why:
        raise SettingsFault(
            f"cannot listen on {address}: {why.strerror}", hint="name an address of this machine"
        ) from why
    made: list[Listener] = []
    try:
        for family, _, _, _, where in dict.fromkeys(found):
            made.append(_tcp(family, where))
            if port == 0:
                break
    except OSError as why:
        for listener in made:
            listener.close()
        raise SettingsFault(f"cannot listen on {address}: {why.strerror}", hint=_hint(why)) from why
    return tuple(made)


def _split(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise SettingsFault(
            f"{address!r} is no address to listen on",
            hint="write 127.0.0.1:8420, [::1]:8420 or unix:/run/reconciler/http.sock",
        )
    return host, int(port)


def _tcp(family: int, where: tuple[object, ...]) -> Listener:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(where)
        sock.listen(_BACKLOG)
        sock.setblocking(False)  # noqa: FBT003 - the standard library's signature
    except BaseException:
        sock.close()
        raise
    return Listener(sock)


def _unix(path: Path) -> Listener:
    if not path.is_absolute():
        raise SettingsFault(f"unix:{path} is no absolute path", hint="write unix:/run/reconciler/http.sock")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _clear(path)
        os.fchmod(
            sock.fileno(), MODE
        )  # Linux makes the file with this mode: it is never open to more than that
        sock.bind(str(path))
        path.chmod(MODE)  # whatever the umask took away
        sock.listen(_BACKLOG)
        sock.setblocking(False)  # noqa: FBT003 - the standard library's signature
        return Listener(sock, path)
    except OSError as why:
        sock.close()
        words = why.strerror or str(why)  # a path that is too long has no number
        raise SettingsFault(f"cannot listen on unix:{path}: {words}", hint=_hint(why)) from why
    except BaseException:
        sock.close()
        raise


def _clear(path: Path) -> None:
    """Removes a socket that nobody listens on any more."""
    try:
        facts = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(facts.st_mode):
        raise SettingsFault(
            f"cannot listen on unix:{path}: it is no socket", hint="name another path, or remove it"
        )
    if not _deserted(path):
        raise SettingsFault(
            f"cannot listen on unix:{path}: another process does", hint="is the daemon running already?"
        )
    path.unlink(missing_ok=True)


def _deserted(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
        except TimeoutError:  # its queue is full: somebody listens
            return False
    return False


def _hint(why: OSError) -> str:
    match why.errno:
        case errno.EADDRINUSE:
            return "another process listens there; is the daemon running already?"
        case errno.EADDRNOTAVAIL:
            return "name an address of this machine"
        case errno.EACCES | errno.EPERM:
            return "take a port above 1023 or a folder that the daemon may write to"
        case errno.ENOENT:
            return "the folder must exist"
        case _:
            return "name another address"
