"""The machine's saved state: booted once, all its services up, ready to be loaded."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from ..host import LabError, run
from ..images.cache import Artefact
from .disk import DISK, SIZE
from .qemu import Qemu, version
from .shell import Shell

STATE = "ready"
UNITS = "auditd nginx php8.2-fpm mariadb ssh cron dbus"
ATTEMPTS = 3
SILENCE = 60.0  # seconds without a word on the console: one start in seventy hung before the kernel
BOOT = 300.0

# Everything is settled, and what is cached need not be saved: the state is smaller.
SETTLE = f"""
systemctl is-system-running --wait
systemctl is-active {UNITS} || exit 1
journalctl --sync; sync; echo 3 >/proc/sys/vm/drop_caches
"""


def _build(out: Path, inputs: Mapping[str, Path]) -> None:
    image, state = inputs["vm-disk"], out / "state.qcow2"
    for attempt in range(1, ATTEMPTS + 1):
        run("qemu-img", "create", "-q", "-f", "qcow2", state, SIZE)
        with state.open("r+b") as disk:
            qemu = Qemu(disk, image)
            try:
                _settle(_booted(qemu, image))
                qemu.save(STATE)
                qemu.quit()
            except LabError:
                qemu.kill()
                if attempt == ATTEMPTS:
                    raise
            else:
                return


def _settle(shell: Shell) -> None:
    said = shell.run(SETTLE, "", BOOT)
    shell.close()
    if said.returncode:
        raise LabError(f"not all services came up:\n{said.stdout}{said.stderr}")
    time.sleep(1)  # sshd notices that we are gone


def _booted(qemu: Qemu, image: Path) -> Shell:
    """The first connection after the boot. Raises LabError when the console falls silent before."""
    deadline = time.monotonic() + BOOT
    written, since = qemu.console_bytes(), time.monotonic()
    while time.monotonic() < deadline and qemu.running:
        try:
            return Shell(qemu.ports[22], image, 30)
        except LabError:
            time.sleep(0.5)
        if qemu.console_bytes() != written:
            written, since = qemu.console_bytes(), time.monotonic()
        if time.monotonic() - since > SILENCE:
            break
    raise LabError(f"the machine did not boot:\n{qemu.console()}")


READY = Artefact(
    "vm-ready",
    _build,
    ("../vm/ready.py", "../vm/qemu.py"),
    (DISK,),
    version,
)
