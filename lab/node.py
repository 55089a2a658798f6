"""One node: a systemd container with a disk, a network cable and an sshd of its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .cable import CONTROLLER, Cable
from .host import LabError, cgroup_roots, clean_env, run
from .images.cache import Image
from .sweep import kill_cgroup, remove_cgroup

if TYPE_CHECKING:
    from .core import Lab

REBOOT_STATUS = 133  # systemd-nspawn's way to say that the node asked for a reboot
NODE_NAME = re.compile(r"[a-z][a-z0-9-]{0,40}")

# $1 is the list of control groups to enter, the rest the program; restarted when the node reboots itself.
SUPERVISE = f"""
for group in $1; do echo $$ > "$group/cgroup.procs" || exit 1; done
shift
while :; do "$@"; status=$?; [ $status -eq {REBOOT_STATUS} ] || exit $status; done
"""
ENTER = 'echo $$ > "$1/cgroup.procs" || exit 1; shift; exec "$@"'

Completed = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Key:
    """How to log in to the nodes of a lab: the private key and the file that pins the nodes' host key."""

    private: Path
    known_hosts: Path


class Node:
    """A node of a lab. Made by `Lab.add`, started by `Lab.up` or `start`."""

    def __init__(self, lab: Lab, name: str, ip: str, image: Image) -> None:
        if not NODE_NAME.fullmatch(name):
            raise ValueError(f"not a node name: {name!r}")
        self.lab = lab
        self.name = name
        self.ip = ip
        self.image = image
        self.dir = lab.dir / name
        self.root = self.dir / "root"
        """The node's file system, as seen from here; it can be read and written while the node runs."""
        self.upper = self.dir / "upper"
        self.link = Cable(name, ip, lab.bridge)
        self.boot_seconds = 0.0
        self._groups = [root / lab.dir.name / name for root in cgroup_roots()]
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._started = 0.0

    def __repr__(self) -> str:
        return f"<Node {self.name} {self.ip} {self.image.name}>"

    # -- life -----------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether the node has power."""
        return self._supervisor is not None and self._supervisor.poll() is None

    def prepare(self) -> None:
        """Makes the node's disk: the image below, a layer of its own above, and its identity written into it."""
        for part in ("upper", "work", "root"):
            (self.dir / part).mkdir(parents=True)
        # redirect_dir: else renaming a folder of the image fails with EXDEV, as on no real disk.
        # volatile: no syncs; the price is that it cannot be mounted twice, so a power cut keeps it mounted.
        options = (
            f"lowerdir={':'.join(map(str, self.image.layers))},upperdir={self.upper},workdir={self.dir}/work,"
            "index=off,metacopy=off,redirect_dir=on,volatile"
        )
        run("mount", "-t", "overlay", "overlay", "-o", options, self.root)
        etc = self.root / "etc"
        _replace(etc / "hostname", self.name + "\n")  # beats nspawn's --hostname
        _replace(etc / "machine-id", os.urandom(16).hex() + "\n")
        _replace(etc / "hosts", self.lab.hosts_file())
        _replace(etc / "resolv.conf", f"nameserver {CONTROLLER}\noptions timeout:1 attempts:1\n")
        ssh = self.root / "root/.ssh"
        ssh.mkdir(mode=0o700, exist_ok=True)
        _replace(ssh / "authorized_keys", self.lab.public_key, mode=0o600)
        # one host key for all nodes, so that the known_hosts file is exact before any of them exists
        for suffix, mode in (("", 0o600), (".pub", 0o644)):
            source = self.lab.host_key.with_name(self.lab.host_key.name + suffix)
            _replace(etc / f"ssh/ssh_host_ed25519_key{suffix}", source.read_text(), mode=mode)

    def start(self) -> None:
        """Turns the node on; `wait_ssh` says when it answers. Makes the disk if there is none yet."""
        if self.running:
            raise LabError(f"{self.name} is already running")
        if threading.current_thread() is not threading.main_thread():
            # the parent-death signal is sent when the forking *thread* ends, and only the main thread
            # is sure to be in the lab's namespaces
            raise LabError("nodes are started from the main thread only")
        if not self.root.exists():
            self.prepare()
        self.link.plug_in()
        for group in self._groups:
            # two nodes in one group would share the groups systemd makes below it
            group.mkdir(parents=True, exist_ok=True)
        with (self.dir / "console.log").open("ab") as console:
            groups = " ".join(map(str, self._groups))
            self._supervisor = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "sh", "-c", SUPERVISE, "sh", groups, *self._nspawn()],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                env=clean_env(
                    SYSTEMD_NSPAWN_UNIFIED_HIERARCHY="1", SYSTEMD_NSPAWN_API_VFS_WRITABLE="network"
                ),
                start_new_session=True,
            )
        self._started = time.monotonic()

    def _nspawn(self) -> list[str]:
        return [
            "systemd-nspawn",
            "--quiet",
            f"--directory={self.root}",
            "--boot",
            "--register=no",
            "--keep-unit",
            f"--network-namespace-path=/run/netns/{self.name}",
            f"--machine={self.name}",
            f"--hostname={self.name}",
            "--resolv-conf=off",
            "--timezone=off",
            "--link-journal=no",
            "--console=pipe",
            "--suppress-sync=yes",  # else package managers and databases wait for the shared disk
            "--capability=CAP_NET_ADMIN",  # else nft and firewalld fail
            *[f"--bind-ro={source}:{target}" for source, target in self.image.binds],
        ]

    def wait_ssh(self, timeout: float = 90) -> float:
        """Waits for the sshd's banner; the seconds since the start."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if not self.running:
                raise LabError(f"{self.name} did not start:\n{self.console()}")
            try:
                with socket.create_connection((self.ip, 22), timeout=1) as link:
                    link.settimeout(5)
                    if link.recv(4) == b"SSH-":
                        self.boot_seconds = time.monotonic() - self._started
                        return self.boot_seconds
            except OSError:
                pass
            time.sleep(0.02)
        raise LabError(f"{self.name}: no answer from sshd in {timeout} s:\n{self.console()}")

    def console(self, size: int = 2000) -> str:
        """The end of what the node wrote on its console."""
        log = self.dir / "console.log"
        return log.read_text(errors="replace")[-size:] if log.exists() else ""

    def poweroff(self, timeout: float = 60) -> None:
        """Shuts the node down in order. `start` turns it on again with the same disk."""
        if self._supervisor and self.running:
            try:
                os.kill(self.init_pid(), signal.SIGRTMIN + 4)  # systemd's "poweroff.target"
                self._supervisor.wait(timeout)
            except (OSError, LabError, subprocess.TimeoutExpired):
                self.crash()
        self.link.unplug()

    def crash(self) -> None:
        """A power cut: every process of the node dies at once. `start` turns it on again with the same disk."""
        kill_cgroup(self._groups[0])
        if self._supervisor:
            self._supervisor.wait(30)
        deadline = time.monotonic() + 30
        while self.pids() and time.monotonic() < deadline:  # killed, and still being taken apart
            time.sleep(0.005)
        self.link.unplug()

    def reboot(self, timeout: float = 90) -> float:
        """Reboots from the inside and waits for sshd; the seconds it took."""
        begun, before = time.monotonic(), self.boot_id()
        self.run("systemctl reboot", check=False)
        while time.monotonic() < begun + timeout:
            try:
                if self.boot_id() != before:
                    self.wait_ssh(timeout)
                    return time.monotonic() - begun
            except (OSError, LabError):
                pass
            time.sleep(0.02)
        raise LabError(f"{self.name} did not come back in {timeout} s:\n{self.console()}")

    def remove(self) -> None:
        """Ends the node and takes away all it left: mounts, namespace, control groups, disk."""
        self.crash()
        run("umount", "-l", self.root, check=False)
        shutil.rmtree(self.dir, ignore_errors=True)
        for group in self._groups:
            remove_cgroup(group)
        self.lab.forget(self)

    # -- cheap faults that change the node's own state; the others are in `lab.faults` --------------------

    def freeze(self) -> None:
        """Stops every process of the node: connections are accepted by the kernel, nobody answers."""
        self._freezer("1")

    def thaw(self) -> None:
        """Lets a frozen node go on."""
        self._freezer("0")

    def _freezer(self, state: str) -> None:
        group = self._groups[0]
        (group / "cgroup.freeze").write_text(state)
        deadline = time.monotonic() + 10
        while f"frozen {state}" not in (group / "cgroup.events").read_text():
            if time.monotonic() > deadline:
                raise LabError(f"{self.name}: the freezer did not reach state {state}")
            time.sleep(0.005)

    def cable(self, *, up: bool) -> None:
        """Plugs the node's network cable in or out."""
        self.link.set("up" if up else "down")

    # -- commands -------------------------------------------------------------------------------------

    def ssh_argv(self, user: str = "root", *options: str) -> list[str]:
        """The OpenSSH client's argument list for this node, up to where the remote command goes."""
        fixed = ("StrictHostKeyChecking=yes", "BatchMode=yes", "LogLevel=ERROR", "ConnectTimeout=10")
        argv = ["ssh", "-F", "none", "-i", str(self.lab.key.private)]
        # OpenSSH takes the first value of an option, so the caller's go first
        for option in (*options, f"UserKnownHostsFile={self.lab.key.known_hosts}", *fixed):
            argv += ["-o", option]
        return [*argv, f"{user}@{self.ip}"]

    def ssh(
        self,
        command: str,
        user: str = "root",
        *,
        check: bool = True,
        stdin: str | None = None,
        timeout: float = 180,
    ) -> Completed:
        """Runs a shell command through the node's sshd, over a new connection."""
        done = run(*self.ssh_argv(user), command, check=False, stdin=stdin, timeout=timeout)
        return self._judge(command, done, check=check)

    def run(
        self, command: str, *, check: bool = True, stdin: str | None = None, timeout: float = 180
    ) -> Completed:
        """Runs a shell command as root in the node without its network or sshd: for setting up and looking."""
        return self.run_argv(["/bin/sh", "-c", command], check=check, stdin=stdin, timeout=timeout)

    def run_argv(
        self, argv: Sequence[str], *, check: bool = True, stdin: str | None = None, timeout: float = 180
    ) -> Completed:
        """Like `run`, for an argument list."""
        group = self._groups[0] / "entered"  # inside the node's group: a power cut ends these commands too
        group.mkdir(exist_ok=True)
        # -r and -w: on a machine whose root is no mount of its own (a chroot) the namespace's root is another one
        enter = [
            "sh",
            "-c",
            ENTER,
            "sh",
            str(group),
            "nsenter",
            "-a",
            "-r",
            "-w",
            "-t",
            str(self.init_pid()),
            "--",
        ]
        done = run(*enter, *argv, check=False, stdin=stdin, timeout=timeout, env=clean_env())
        return self._judge(" ".join(argv), done, check=check)

    def _judge(self, command: str, done: Completed, *, check: bool) -> Completed:
        if check and done.returncode:
            raise LabError(
                f"{self.name}$ {command[:500]}: status {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
            )
        return done

    def output(self, command: str) -> str:
        """What a command (see `run`) prints, without the blanks around it."""
        return self.run(command).stdout.strip()

    def write(self, path: str, text: str, *, mode: int = 0o644) -> None:
        """Writes a file on the node's disk, making its folder; for absolute paths without links on the way."""
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        _replace(target, text, mode=mode)

    def read(self, path: str) -> str:
        """Reads a file of the node."""
        return self.run_argv(["cat", path]).stdout

    def wait_active(self, *units: str, timeout: float = 60) -> None:
        """Waits until all the units are active."""
        deadline = time.monotonic() + timeout
        while True:
            states = self.run_argv(["systemctl", "is-active", *units], check=False).stdout.split()
            if states == ["active"] * len(units):
                return
            if time.monotonic() > deadline:
                failed = self.run("systemctl --no-legend --failed", check=False).stdout
                raise LabError(
                    f"{self.name}: {dict(zip(units, states, strict=False))} after {timeout} s\n{failed}"
                )
            time.sleep(0.1)

    # -- looking --------------------------------------------------------------------------------------

    def init_pid(self) -> int:
        """The node's process 1, by the id it has out here."""
        try:
            members = (self._groups[0] / "payload/init.scope/cgroup.procs").read_text().split()
            for pid in members:
                status = Path(f"/proc/{pid}/status").read_text()
                if re.search(r"^NSpid:.*\t1$", status, re.MULTILINE):
                    return int(pid)
        except OSError as error:
            raise LabError(f"{self.name} has no running init: {error}") from error
        raise LabError(f"{self.name} has no running init")

    def boot_id(self) -> str:
        """Changes with every boot of the node."""
        return Path(f"/proc/{self.init_pid()}/root/proc/sys/kernel/random/boot_id").read_text().strip()

    def pids(self) -> list[int]:
        """Every process of the node, by the ids they have out here."""
        found: set[int] = set()
        for folder, _, _ in os.walk(self._groups[0]):
            try:
                found.update(map(int, Path(folder, "cgroup.procs").read_text().split()))
            except OSError:  # a group that vanished while we looked
                continue
        return sorted(found)

    def memory_mib(self) -> float:
        """Memory of all the node's processes, shared pages counted by their share (PSS)."""
        total = 0
        for pid in self.pids():
            try:
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:
                continue
            match = re.search(r"^Pss:\s+(\d+)", rollup, re.MULTILINE)
            total += int(match[1]) if match else 0
        return total / 1024


def _replace(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Writes a file anew; a link at its place is replaced, never followed out of the node's disk."""
    path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(mode)
