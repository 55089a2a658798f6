"""An OpenSSH server of the tests' own on the loopback interface: own configuration, keys and port, ended by its pid."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from reconciler.nodes import keys
from reconciler.nodes.keys import KeyPair
from reconciler.nodes.target import Target

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def children(pid: int) -> list[int]:
    """Direct children of a process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            if int(stat.rpartition(")")[2].split()[1]) == pid:
                found.append(int(entry.name))
    return found


def descendants(pid: int) -> list[int]:
    return [deep for child in children(pid) for deep in (child, *descendants(child))]


def running(words: str) -> list[int]:
    """Processes whose command line holds `words`, without those of the shell that only names them."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if words in line and state != "Z":
                found.append(int(entry.name))
    return found


@dataclass
class Loopback:
    """A running sshd. `client` is the pair that may log in as root, `host` the server's own."""

    folder: Path
    port: int
    host: KeyPair
    client: KeyPair
    process: subprocess.Popen[bytes]

    @property
    def target(self) -> Target:
        return Target(
            server="web1",
            address="127.0.0.1",
            port=self.port,
            user="root",
            private_key=self.client.private,
            host_keys=(self.host.public,),
        )

    def sessions(self) -> list[int]:
        """The sshd processes that serve a connection."""
        return children(self.process.pid)

    def kill_sessions(self) -> None:
        """Ends every connection from the server's side, as a crash of sshd's session process would."""
        for pid in self.sessions():
            os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        for pid in [*descendants(self.process.pid), self.process.pid]:
            try:
                os.kill(pid, signal.SIGCONT)
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait(10)


def start(folder: Path, *settings: str) -> Loopback:
    """Starts a server in `folder`; `settings` are lines of sshd_config that win over the usual ones."""
    assert SSHD is not None
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    host, client = keys.generate("host"), keys.generate("client")
    port = free_port()
    (folder / "host_key").touch(0o600)
    (folder / "host_key").write_text(host.private.reveal())
    (folder / "authorized_keys").write_text(client.public + "\n")
    config = [
        *settings,
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f"HostKey {folder}/host_key",
        f"AuthorizedKeysFile {folder}/authorized_keys",
        f"PidFile {folder}/pid",
        "PermitRootLogin yes",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "UsePAM no",
        "StrictModes no",
        "MaxSessions 10",
        "MaxStartups 100",
        "PrintLastLog no",
    ]
    (folder / "config").write_text("\n".join(config) + "\n")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [SSHD, "-D", "-e", "-f", str(folder / "config")], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return Loopback(folder, port, host, client, process)
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                process.wait()
                raise RuntimeError((folder / "log").read_text()) from None
            time.sleep(0.02)


async def until(condition: Callable[[], object], seconds: float = 10) -> None:
    """Waits until the condition holds, or fails."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)
