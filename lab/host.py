"""What the lab needs of the machine it runs on: tools, cgroup trees, namespaces, and whether they are there."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000

# (program, Debian package that brings it)
RUN_TOOLS = (
    ("systemd-nspawn", "systemd-container"),
    ("ip", "iproute2"),
    ("ss", "iproute2"),
    ("tc", "iproute2"),
    ("nft", "nftables"),
    ("ssh", "openssh-client"),
    ("ssh-keygen", "openssh-client"),
    ("setpriv", "util-linux"),
    ("nsenter", "util-linux"),
    ("mount", "mount"),
)


class LabError(RuntimeError):
    """Something the lab tried on this machine failed."""


class LabUnavailable(LabError):
    """This machine cannot run a lab; the message says what is missing."""


class ImageMissing(LabUnavailable):
    """An image is not built yet."""


def run(
    *argv: str | Path,
    check: bool = True,
    stdin: str | None = None,
    timeout: float = 120,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs a program with captured output; a failure carries what the program said."""
    words = [str(a) for a in argv]
    done = subprocess.run(
        words,
        check=False,
        stdin=subprocess.DEVNULL if stdin is None else None,
        input=stdin,
        text=True,
        errors="replace",
        capture_output=True,
        timeout=timeout,
        env=env,
        cwd=cwd,
    )
    if check and done.returncode:
        said = (done.stderr.strip() or done.stdout.strip())[-3000:]
        raise LabError(f"{' '.join(words)[:300]}: status {done.returncode}: {said}")
    return done


def mounts() -> list[tuple[str, str, str]]:
    """(mount point, type, options) of everything mounted in this process's mount namespace, in order."""
    found = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        fields = line.split()
        point = fields[1].encode().decode("unicode_escape")  # blanks are written as \040
        found.append((point, fields[2], fields[3]))
    return found


def cgroup2_root() -> Path | None:
    """Where the unified cgroup tree is mounted."""
    return next((Path(point) for point, kind, _ in mounts() if kind == "cgroup2"), None)


def cgroup_roots() -> list[Path]:
    """The trees a node needs a group of its own in: cgroup2 first, and v1 `name=systemd` where the host has it."""
    unified = cgroup2_root()
    roots = [unified] if unified else []
    roots += [Path(p) for p, kind, opts in mounts() if kind == "cgroup" and "name=systemd" in opts.split(",")]
    return roots


def _is_on_overlay(path: Path) -> bool:
    """Whether `path` is on an overlay, which cannot hold the upper directory of another one."""
    best, kind = "", ""
    for point, fstype, _ in mounts():
        if path.is_relative_to(point) and len(point) >= len(best):
            best, kind = point, fstype
    return kind == "overlay"


def scratch_dir() -> Path | None:
    """A place for the nodes' disks: a file system that can be the upper side of an overlay."""
    chosen = os.environ.get("RECONCILER_LAB_TMP")
    candidates = [Path(chosen)] if chosen else [Path("/var/tmp"), Path("/dev/shm")]
    return next((c for c in candidates if c.is_dir() and not _is_on_overlay(c.resolve())), None)


def _load(module: str) -> bool:
    """Loads a kernel module: one that was never used is not listed yet."""
    return bool(shutil.which("modprobe")) and run("modprobe", "-q", module, check=False).returncode == 0


def why_not() -> list[str]:
    """Why this machine cannot run a lab, one line per missing thing; empty when it can."""
    reasons = []
    if os.geteuid() != 0:
        reasons.append(
            "not root: mounting overlayfs and making network namespaces need CAP_SYS_ADMIN on the host"
        )
    reasons += [f"{tool} missing: install {package}" for tool, package in RUN_TOOLS if not shutil.which(tool)]
    try:
        if "overlay" not in Path("/proc/filesystems").read_text().split() and not _load("overlay"):
            reasons.append("the kernel has no overlayfs")
    except OSError as error:
        reasons.append(f"cannot tell whether the kernel has overlayfs: {error}")
    if cgroup2_root() is None:
        reasons.append(
            "no cgroup2 mount: systemd in a node cannot start and nodes cannot be frozen or cut off"
        )
    if scratch_dir() is None:
        reasons.append(
            "neither /var/tmp nor /dev/shm can hold an overlay's upper side: set RECONCILER_LAB_TMP"
        )
    return reasons


def go_private(*, network: bool = True) -> None:
    """Moves this process into a mount namespace and, if asked, a network namespace of its own.

    Everything it starts afterwards sees the lab's network and nothing else: a test cannot reach the
    outside, and two test processes can use the same addresses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS | CLONE_NEWNET if network else CLONE_NEWNS):
        number = ctypes.get_errno()
        raise LabError(f"unshare: {os.strerror(number)}")
    run("mount", "--make-rprivate", "/")
    if not network:
        return
    for folder in ("/run/netns", "/run/systemd/nspawn"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", folder)


def clean_env(**extra: str) -> dict[str, str]:
    """An environment for programs started for the lab: nothing of the caller's shell leaks in."""
    base: dict[str, str] = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
    }
    return {**base, "LC_ALL": "C.UTF-8", **extra}
