"""One QEMU process: started with nothing but inherited descriptors, so that nothing of it is left when it ends."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import IO

from ..host import LabError, clean_env

PROGRAM = "qemu-system-x86_64"
# Emulated: the same on every host, and the state of one host can be loaded on another with the same QEMU.
HARDWARE = (
    *("-accel", "tcg,thread=multi,tb-size=512"),
    *("-cpu", "max", "-m", "1024", "-smp", "2"),
    *("-nodefaults", "-no-user-config", "-display", "none"),
)
# `audit=1`: also what happens before auditd runs is recorded
KERNEL = "root=/dev/vda rw console=ttyS0 security=selinux audit=1 net.ifnames=0"
FORWARD = re.compile(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)\s+\S+\s+(\d+)")


def version() -> str:
    """What QEMU says it is, and the hardware it is asked for; empty without QEMU. A saved state needs the same."""
    try:
        said = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return "\n".join([said.stdout.splitlines()[0], *HARDWARE, KERNEL])


class Qemu:
    """A running machine. `disk` is an open file with an overlay in it over the image of the folder `image`.

    `ports` are the machine's TCP ports that are reachable from the host's loopback. With `load` it begins from that
    saved state, else with the boot.
    """

    def __init__(
        self, disk: IO[bytes], image: Path, *, ports: tuple[int, ...] = (22, 80), load: str = ""
    ) -> None:
        self._console = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        ours, theirs = socket.socketpair()
        forwards = "".join(f",hostfwd=tcp:127.0.0.1:0-:{port}" for port in ports)
        words = [
            *("setpriv", "--pdeathsig", "KILL", PROGRAM, *HARDWARE),
            *("-kernel", str(image / "vmlinuz"), "-initrd", str(image / "initrd"), "-append", KERNEL),
            "-drive",
            f"if=virtio,format=qcow2,file=/proc/self/fd/{disk.fileno()},cache=unsafe,discard=unmap,"
            f"backing.driver=raw,backing.file.driver=file,backing.file.filename={image}/disk.img",
            *(
                "-netdev",
                f"user,id=net,restrict=on{forwards}",
                "-device",
                "virtio-net-pci,netdev=net,romfile=",
            ),
            *("-chardev", f"socket,id=monitor,fd={theirs.fileno()}", "-mon", "chardev=monitor,mode=control"),
            *("-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"),
            *(("-loadvm", load) if load else ()),
        ]
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=self._console,
            stderr=self._console,
            pass_fds=(disk.fileno(), theirs.fileno()),
            env=clean_env(),
            start_new_session=True,
        )
        theirs.close()
        ours.settimeout(120)
        self._socket = ours
        self._monitor = ours.makefile("rwb")
        try:
            self._hear()  # the greeting
            self._ask("qmp_capabilities")
            self.ports = self._forwarded()
        except BaseException:
            self.kill()
            raise

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process.poll() is None

    def console(self, size: int = 3000) -> str:
        """The end of what kernel and systemd wrote on the console, QEMU's own complaints included."""
        whole = os.fstat(self._console.fileno()).st_size
        return os.pread(self._console.fileno(), size, max(0, whole - size)).decode(errors="replace")

    def console_bytes(self) -> int:
        """How much was written on the console so far."""
        return os.fstat(self._console.fileno()).st_size

    def save(self, name: str) -> None:
        """Keeps memory and disk as `name`, in the disk's file."""
        self._paused(f"savevm {name}")

    def load(self, name: str) -> None:
        """Back to what was kept as `name`. Raises LabError when there is none."""
        self._paused(f"loadvm {name}")

    def _paused(self, line: str) -> None:
        self._ask("stop")
        self._command(line)
        self._ask("cont")

    def quit(self) -> None:
        """Ends it in order: what is in the disk's file is whole afterwards."""
        with contextlib.suppress(LabError, OSError):
            self._ask("quit")
        try:
            self._process.wait(60)
        finally:
            self.kill()

    def kill(self) -> None:
        """Ends it."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(30)
        with contextlib.suppress(OSError):
            self._monitor.close()
        self._socket.close()
        self._console.close()

    def _forwarded(self) -> dict[int, int]:
        found = FORWARD.findall(self._command("info usernet"))
        return {int(inside): int(outside) for outside, inside in found}

    def _command(self, line: str) -> str:
        """A line of the human monitor, which says nothing when `savevm` and `loadvm` went well."""
        said = self._ask("human-monitor-command", {"command-line": line})
        text = said if isinstance(said, str) else ""
        if text.startswith("Error"):
            raise LabError(f"qemu: {line}: {text.strip()}")
        return text

    def _ask(self, what: str, arguments: dict[str, str] | None = None) -> object:
        question = {"execute": what, **({"arguments": arguments} if arguments else {})}
        self._monitor.write(json.dumps(question).encode() + b"\n")
        self._monitor.flush()
        while True:
            answer = self._hear()
            if "error" in answer:
                raise LabError(f"qemu: {what}: {answer['error']}")
            if "return" in answer:  # else an event
                return answer["return"]

    def _hear(self) -> dict[str, object]:
        try:
            line = self._monitor.readline()
        except OSError as error:
            raise LabError(f"qemu does not answer: {error}\n{self.console()}") from error
        if not line:
            raise LabError(f"qemu ended\n{self.console()}")
        heard: dict[str, object] = json.loads(line)
        return heard
