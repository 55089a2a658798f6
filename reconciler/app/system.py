"""The daemon and the system it runs under: readiness, watchdog, inherited sockets, signals.

The protocols are those of sd_notify(3), sd_watchdog_enabled(3) and sd_listen_fds(3), spoken without libsystemd. Where
nothing of it is set up, all of it is silent: the daemon runs in a terminal as well.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass

from reconciler.errors import SettingsFault

_FIRST_SOCKET = 3
"""SD_LISTEN_FDS_START."""


@dataclass(frozen=True)
class Supervisor:
    """Who started the daemon and wants to hear from it; `address` empty: nobody.

    `watchdog` is the time in seconds between two signs of life, half of what would end the daemon; None: not wanted.
    """

    address: str = ""
    watchdog: float | None = None

    @classmethod
    def of(cls, environ: MutableMapping[str, str] = os.environ) -> Supervisor:
        """The one that the environment tells of. Its variables are taken out: programs that the daemon starts are not it."""
        address = environ.pop("NOTIFY_SOCKET", "")
        within, whom = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        wanted = within.isdigit() and int(within) > 0 and whom in ("", str(os.getpid()))
        return cls(address, int(within) / 2_000_000 if wanted else None)

    def ready(self, status: str) -> bool:
        """The daemon does its work, after a start or a reload; `status` says for people how it stands."""
        return self.tell("READY=1", f"STATUS={_line(status)}", f"MAINPID={os.getpid()}")

    def status(self, status: str) -> bool:
        """How the daemon stands, in one line for people: `systemctl status` shows it."""
        return self.tell(f"STATUS={_line(status)}")

    def reloading(self) -> bool:
        """The settings are read again; `ready` ends it."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        return self.tell("RELOADING=1", f"MONOTONIC_USEC={now}")

    def stopping(self, status: str) -> bool:
        """The daemon is on its way out."""
        return self.tell("STOPPING=1", f"STATUS={_line(status)}")

    def alive(self) -> bool:
        """One sign of life."""
        return self.tell("WATCHDOG=1")

    async def keep_alive(self) -> None:
        """Signs of life for as long as the event loop turns. Returns at once when none are wanted; else run as a task."""
        while self.watchdog is not None:
            self.alive()
            await asyncio.sleep(self.watchdog)

    def tell(self, *lines: str) -> bool:
        """Sends assignments such as `READY=1`: whether they went out. Never raises: nobody may be there to hear."""
        # vsock: and the like are for virtual machines; only sockets of this machine are spoken to
        if not self.address.startswith(("/", "@")):
            return False
        address = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(1.0)  # a full queue must not hold the loop up
                sender.sendto("\n".join(lines).encode(), address)
        except OSError:
            return False
        return True


def _line(text: str) -> str:
    return " ".join(text.split())


def inherited_sockets(environ: MutableMapping[str, str] = os.environ) -> dict[str, list[socket.socket]]:
    """The sockets that the system opened for the daemon, by their name (FileDescriptorName=); none is the usual case.

    The variables are taken out and the sockets close on exec, so that nothing that the daemon starts takes them for its
    own. SettingsFault when what was handed over are no sockets.
    """
    number, whom = environ.pop("LISTEN_FDS", ""), environ.pop("LISTEN_PID", "")
    names = environ.pop("LISTEN_FDNAMES", "")
    environ.pop("LISTEN_PIDFDID", None)
    if not number or whom != str(os.getpid()):
        return {}
    if not number.isdigit():
        raise SettingsFault("$LISTEN_FDS is no number", hint="it is set by systemd, or by nothing")
    given = names.split(":") if names else []
    found: dict[str, list[socket.socket]] = {}
    for place in range(int(number)):
        name = given[place] if place < len(given) and given[place] else "unknown"
        found.setdefault(name, []).append(_socket(_FIRST_SOCKET + place, name))
    return found


def _socket(descriptor: int, name: str) -> socket.socket:
    try:
        os.set_inheritable(descriptor, False)  # noqa: FBT003 - positional only
        inherited = socket.socket(fileno=descriptor)
    except OSError as fault:
        raise SettingsFault(
            f"descriptor {descriptor} ({name}), which was handed over as a socket, is none: {fault.strerror}",
            hint="look at the socket unit, or start the daemon without one",
        ) from fault
    inherited.settimeout(0)
    return inherited


@dataclass(frozen=True)
class Reactions:
    """What the daemon does on signals: `stop` on the first SIGTERM or SIGINT, `at_once` on a second, `reload` on SIGHUP.

    `stop` and `at_once` get the signal's name. They run in the event loop and must not block.
    """

    stop: Callable[[str], None]
    at_once: Callable[[str], None]
    reload: Callable[[], None]


@contextmanager
def signals(loop: asyncio.AbstractEventLoop, reactions: Reactions) -> Iterator[None]:
    """Handles the signals of the process, from its main thread, for as long as the context lasts."""
    asked = False

    def end(name: str) -> None:
        nonlocal asked
        if asked:
            reactions.at_once(name)
        else:
            asked = True
            reactions.stop(name)

    taken = {signal.SIGTERM: signal.SIGTERM.name, signal.SIGINT: signal.SIGINT.name}
    before = {number: signal.getsignal(number) for number in (*taken, signal.SIGHUP)}
    for number, name in taken.items():
        loop.add_signal_handler(number, end, name)
    loop.add_signal_handler(signal.SIGHUP, reactions.reload)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)  # whatever it was: nohup has SIGHUP ignored, for example
