"""The machine's disk: Debian with its own kernel and policy, enforcing, every file labelled before the first boot."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..host import LabError, run
from ..images.apt import bootstrap, listed
from ..images.cache import Artefact
from .initramfs import initramfs

ADDRESS = "10.0.2.15"  # QEMU's user network gives the first guest this one
POLICY = "var/lib/selinux/default/active/modules/100"
CONTEXTS = "/etc/selinux/default/contexts/files/file_contexts"
SIZE = "4G"  # sparse: what is never written takes no space
ROOM = 5 << 30  # bytes of free memory, from which on the tree is made in memory

# What would wake up once the clock is set after days in the cache, or waits for hardware that is not there.
MASKED = (
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "console-getty.service",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@tty1.service",
    "logrotate.timer",
    "phpsessionclean.timer",
    "serial-getty@ttyS0.service",
    "systemd-networkd-wait-online.service",
    "systemd-networkd.service",
    "systemd-pstore.service",
    "systemd-random-seed.service",
    "systemd-resolved.service",
    "systemd-timesyncd.service",
    "systemd-tmpfiles-clean.timer",
    "systemd-update-utmp-runlevel.service",
    "systemd-update-utmp.service",
)

# Packages that a server may declare are there, but nobody has declared them yet: a boot does not start them.
NOT_STARTED = ("caddy.service", "redis-server.service")


def _build(out: Path, _inputs: Mapping[str, Path]) -> None:
    with _workplace(out.parent / "work") as work:
        root = work / "root"
        root.mkdir()
        bootstrap(root, listed("vm-guest"))
        (kernel,) = (root / "boot").glob("vmlinuz-*")
        shutil.copy(kernel, out / "vmlinuz")
        initramfs(root, kernel.name.removeprefix("vmlinuz-"), ADDRESS, out / "initrd")
        for needless in (root / "boot").iterdir():
            needless.unlink()
        _configure(root, out)
        _thin_policy(root)
        (root / "lost+found").mkdir(mode=0o700)  # else mkfs makes it, without a label
        _label(root)
        unlabelled = _unlabelled(root)
        if unlabelled:
            raise LabError(f"{len(unlabelled)} files have no label, {unlabelled[0]} among them")
        run("truncate", "-s", SIZE, out / "disk.img")
        # a snapshot keeps what is dirty: without journal and lazily written tables there is less of it
        options = ("-O", "^has_journal,^metadata_csum,^64bit", "-E", "lazy_itable_init=1,root_owner=0:0")
        run("mkfs.ext4", "-q", "-F", *options, "-d", root, out / "disk.img", timeout=600)


@contextlib.contextmanager
def _workplace(folder: Path) -> Iterator[Path]:
    """A folder to make the tree in, in memory where there is enough: a mount that ends with the builder."""
    folder.mkdir()
    free = next(int(x.split()[1]) << 10 for x in _lines("/proc/meminfo") if x.startswith("MemAvailable:"))
    if free > ROOM:
        run("mount", "-t", "tmpfs", "-o", "mode=755,size=3G", "vm-disk", folder)
    try:
        yield folder
    finally:
        if free > ROOM:
            run("umount", folder)
        shutil.rmtree(folder)


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def _configure(root: Path, out: Path) -> None:
    etc = root / "etc"
    config = etc / "selinux/config"
    config.write_text(config.read_text().replace("SELINUX=permissive", "SELINUX=enforcing"))
    (etc / "fstab").write_text("/dev/vda / ext4 defaults,noatime 0 0\n")
    (etc / "hostname").write_text("vm\n")
    (etc / "hosts").write_text("127.0.0.1 localhost vm\n")
    (etc / "machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    # nothing but the forwarded ports leads out: a lookup fails at once
    (etc / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    slow = etc / "systemd/system.conf.d/emulated.conf"
    slow.parent.mkdir()
    slow.write_text("[Manager]\nDefaultTimeoutStartSec=300s\nDefaultTimeoutStopSec=300s\n")
    for folder in (etc / "systemd/system").glob("*.wants"):
        for unit in (
            *MASKED,
            *NOT_STARTED,
        ):  # links that lead nowhere outside of the tree, which glob() does not find
            (folder / unit).unlink(missing_ok=True)
    for unit in MASKED:
        link = etc / "systemd/system" / unit
        link.unlink(missing_ok=True)
        link.symlink_to("/dev/null")
    # root's own systemd runs from the boot on, else every login waits for it
    linger = root / "var/lib/systemd/linger"
    linger.mkdir(parents=True, exist_ok=True)
    (linger / "root").touch()
    ssh = root / "root/.ssh"
    ssh.mkdir(mode=0o700, exist_ok=True)
    for name, target in (("id", ssh / "authorized_keys"), ("host", etc / "ssh/ssh_host_ed25519_key.pub")):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", out / name)
        shutil.copy(out / f"{name}.pub", target)
    key = shutil.move(out / "host", etc / "ssh/ssh_host_ed25519_key")
    Path(key).chmod(0o600)
    (ssh / "authorized_keys").chmod(0o600)
    (out / "known_hosts").write_text(f"vm {(out / 'host.pub').read_text()}")


def _thin_policy(root: Path) -> None:
    """Leaves the listed modules in the store and builds the policy of them: `semodule` needs no SELinux kernel."""
    wanted = set(listed("vm-policy"))
    there = {path.name for path in (root / POLICY).iterdir()}
    if absent := wanted - there:
        raise LabError(f"the policy has no module {', '.join(sorted(absent))}")
    for name in there - wanted:
        shutil.rmtree(root / POLICY / name)
    run("chroot", root, "semodule", "-n", "-B", timeout=600)


def _label(root: Path) -> None:
    """Writes the label of every file. setfiles works through /proc/self/fd: without /proc it labels nothing, quietly."""
    script = 'mount -t proc proc "$1/proc" && exec chroot "$1" setfiles -m -F -e /proc "$2" /'
    run("unshare", "-m", "sh", "-c", script, "sh", root, CONTEXTS, timeout=600)


def _unlabelled(root: Path) -> list[Path]:
    found = []
    for folder, folders, files in os.walk(root):
        for path in (Path(folder, name) for name in (*folders, *files)):
            if path == root / "proc":  # was covered meanwhile, as it is in a running machine
                continue
            try:
                os.getxattr(path, "security.selinux", follow_symlinks=False)
            except OSError as error:
                if error.errno != errno.ENODATA:
                    raise
                found.append(path.relative_to(root))
    return found


DISK = Artefact(
    "vm-disk",
    _build,
    (
        "../vm/disk.py",
        "../vm/initramfs.py",
        "apt.py",
        "packages/vm-guest.txt",
        "packages/vm-policy.txt",
    ),
)
