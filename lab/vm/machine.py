"""The virtual machine as tests use it: there in seconds from a saved state, and back in that state when asked."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from ..host import ImageMissing, LabError, LabUnavailable
from .disk import DISK
from .needs import why_not
from .qemu import Qemu
from .ready import READY, STATE
from .shell import Completed, Shell, argv

ATTEMPTS = 3  # a start has been seen to hang once in some seventy
PATIENCE = 60.0  # seconds until a machine that was just loaded must have let somebody in


class Machine:
    """A Debian 12 server that enforces SELinux, freshly installed, reachable on the host's loopback only.

    It ends with the process that made it, whichever way that ends, and leaves no file. Raises LabUnavailable where it
    cannot run, ImageMissing where it is not built.
    """

    name = "vm"
    address = "127.0.0.1"

    def __init__(self) -> None:
        if reasons := why_not():
            raise LabUnavailable("; ".join(reasons))
        if not (DISK.ready and READY.ready):
            raise ImageMissing("the virtual machine is not built: run `python3 -m lab images`")
        self.image = DISK.tree
        """The folder of the disk: `id` is the administrator's private key, `known_hosts` has the machine's."""
        self._held = [_hold(artefact.folder) for artefact in (DISK, READY)]
        begun = time.monotonic()
        self._disk: IO[bytes] = _scratch_file(READY.tree / "state.qcow2")
        self._shell: Shell | None = None
        self._qemu = self._started()
        self.seconds = time.monotonic() - begun
        """How long it took until the first command could be given."""

    def _started(self) -> Qemu:
        for attempt in range(1, ATTEMPTS + 1):
            qemu = Qemu(self._disk, self.image, load=STATE)
            try:
                self._shell = _entered(qemu, self.image)
            except LabError:
                qemu.kill()
                if attempt == ATTEMPTS:
                    raise
            else:
                return qemu
        raise AssertionError("unreachable")

    def __repr__(self) -> str:
        return f"<Machine {self.address}:{self.ssh_port}>"

    @property
    def ssh_port(self) -> int:
        """Where its sshd is reachable."""
        return self._qemu.ports[22]

    @property
    def http_port(self) -> int:
        """Where its web server is reachable."""
        return self._qemu.ports[80]

    @property
    def identity(self) -> Path:
        """The private key of its administrator, root."""
        return self.image / "id"

    @property
    def pid(self) -> int:
        """The process that emulates it."""
        return self._qemu.pid

    # -- commands

    def run(self, command: str, *, check: bool = True, stdin: str = "", timeout: float = 120) -> Completed:
        """Runs a shell command as root, who came by ssh. Raises LabError when it fails, unless `check` is false."""
        assert self._shell is not None, "it was closed"
        done = self._shell.run(command, stdin, timeout)
        if check and done.returncode:
            said = f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
            raise LabError(f"vm$ {command[:500]}: status {done.returncode}\n{said}")
        return done

    def output(self, command: str, timeout: float = 120) -> str:
        """What a command prints, without the blanks around it."""
        return self.run(command, timeout=timeout).stdout.strip()

    def write(self, path: str, text: str) -> None:
        """Writes a file as root does."""
        self.run(f"cat >'{path}'", stdin=text)

    def ssh_argv(self, *options: str, user: str = "root") -> list[str]:
        """The OpenSSH client's argument list for it, up to where the remote command goes."""
        return argv(self.ssh_port, self.image, *options, user=user)

    # -- states

    def snapshot(self, name: str) -> None:
        """Keeps memory and disk under a name, for this machine. Connections from outside do not outlive it."""
        self._leave()
        self._qemu.save(name)
        self._shell = _entered(self._qemu, self.image)

    def restore(self, name: str) -> None:
        """Back to what was kept under a name; the clock is right again. Raises LabError when there is none."""
        self._leave()
        self._qemu.load(name)
        self._shell = _entered(self._qemu, self.image)

    def reset(self) -> None:
        """Back to the freshly installed server."""
        self.restore(STATE)

    def console(self) -> str:
        """The end of what was written on its console."""
        return self._qemu.console()

    def _leave(self) -> None:
        if self._shell is not None:
            self._shell.close()
            self._shell = None

    def close(self) -> None:
        """Ends it."""
        self._leave()
        self._qemu.kill()
        self._disk.close()
        for descriptor in self._held:
            os.close(descriptor)
        self._held = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _entered(qemu: Qemu, image: Path) -> Shell:
    """A connection to a machine that may still be waking up, and its clock set."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            shell = Shell(qemu.ports[22], image, deadline - time.monotonic())
        except LabError:
            if not qemu.running or time.monotonic() > deadline:
                raise
            time.sleep(0.2)
            continue
        # a loaded state brings its clock along
        shell.run(f"date -s @{time.time():.3f}", "", 30)
        return shell


def _hold(folder: Path) -> int:
    """Keeps a builder from pruning what the machine runs on; the descriptor is the lock."""
    descriptor = os.open(folder / "lock", os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def _scratch_file(source: Path) -> IO[bytes]:
    """A copy without a name, which is gone with the last process that has it open."""
    size = source.stat().st_size
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 4 * size + (2 << 30)
    folder = memory if roomy else Path("/var/tmp")
    made = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - it is what is returned
    with source.open("rb") as whole:
        offset = 0
        while sent := os.sendfile(made.fileno(), whole.fileno(), offset, size - offset):
            offset += sent
    return made
