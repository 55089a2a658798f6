"""The Enterprise Linux look-alike: dnf and rpm put in charge of the tree, with EL's names, paths and defaults."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from ..host import run
from .apt import overlay
from .cache import Artefact
from .el_base import BASE
from .el_packages import records
from .el_repo import REPO
from .rpmkit import FILES, PUBLIC_KEY, put_static

# Debian's own ways that have no place on an EL node: apt, dpkg, and what the RPMs bring instead.
FOREIGN = (
    "etc/apt",
    "etc/cron.daily/apt-compat",
    "etc/cron.daily/dpkg",
    "etc/debian_version",
    "etc/dnf/plugins/local.conf",
    "etc/dpkg",
    "etc/init.d/*",  # else systemd makes units under Debian's names from them
    "etc/rc?.d/*",
    "etc/systemd/system/*/firewalld.service",
    "etc/systemd/system/dbus-org.fedoraproject.FirewallD1.service",
    "etc/systemd/system/timers.target.wants/apt*",
    "etc/systemd/system/timers.target.wants/dpkg*",
    "root/.rpmdb",
    "usr/bin/apt*",
    "usr/bin/dpkg*",
    "usr/bin/firewall-cmd",
    "usr/bin/firewall-offline-cmd",
    "usr/lib/apt",
    "usr/lib/dpkg",
    "usr/lib/firewalld",
    "usr/lib/python3/dist-packages/dnf-plugins/local.py",  # Debian only; it calls createrepo_c
    "usr/lib/systemd/system/apt-*",
    "usr/lib/systemd/system/dpkg-*",
    "usr/lib/systemd/system/firewalld.service",
    "usr/sbin/firewalld",
    "usr/sbin/policy-rc.d",
    "usr/sbin/semanage",
    "usr/sbin/update-rc.d",
    "usr/share/dpkg",
    "var/cache/apt",
    "var/lib/apt",
    "var/lib/dpkg",
)

DEBIAN_USERS = ("_apt", "backup", "games", "gnats", "irc", "list", "news", "proxy", "uucp", "www-data")
DEBIAN_GROUPS = (*DEBIAN_USERS, "sudo", "tape", "wheel")


def _build_el9(out: Path, inputs: Mapping[str, Path]) -> None:
    """A layer that makes the tree look and behave like EL, with its records written by the real dnf."""
    repo = inputs["el-repo"]
    with overlay([inputs["el-base"]], out, [(repo, "/srv/el")]) as root:
        _remove_foreign(root)
        for name in ("etc/os-release", "usr/lib/os-release"):
            (root / name).unlink()
        put_static(FILES / "base", root, {})
        (root / "etc/os-release").symlink_to("../usr/lib/os-release")
        keys = root / "etc/pki/rpm-gpg"
        keys.mkdir(parents=True)
        shutil.copy(repo / PUBLIC_KEY, keys)
        _el_names(root)
        _el_users(root)
        run("chroot", root, "rpm", "--import", f"/etc/pki/rpm-gpg/{PUBLIC_KEY}")
        names = ("almalinux-release", *records())
        run("chroot", root, "dnf", "-y", "-q", "--releasever=9", "install", *names, timeout=600)
        run("chroot", root, "dnf", "-q", "makecache", timeout=600)
        _units(root)


def _remove_foreign(root: Path) -> None:
    for pattern in FOREIGN:
        for path in sorted(root.glob(pattern)):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def _el_names(root: Path) -> None:
    """Paths that EL has and Debian calls otherwise."""
    for folder in ("etc/sysconfig", "usr/libexec/openssh", "usr/lib64", "var/lib/rpm", "var/log/audit"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "var/log/audit").chmod(0o700)
    for place, goal in (
        ("usr/bin/yum", "dnf"),
        ("usr/libexec/platform-python", "/usr/bin/python3"),
        ("usr/libexec/openssh/sftp-server", "/usr/lib/openssh/sftp-server"),
    ):
        (root / place).unlink(missing_ok=True)
        (root / place).symlink_to(goal)


def _el_users(root: Path) -> None:
    """EL's wheel; Debian's own accounts go, two of their groups have the numbers of EL's database groups."""
    for user in DEBIAN_USERS:
        run("chroot", root, "userdel", user, check=False)
    for group in DEBIAN_GROUPS:
        run("chroot", root, "groupdel", group, check=False)
    run("chroot", root, "groupadd", "-g", "10", "wheel")
    run("chroot", root, "groupadd", "-g", "33", "tape")
    basic = root / "usr/lib/sysusers.d/basic.conf"  # systemd would make them again at the next boot
    kept = [x for x in basic.read_text().splitlines() if not {*x.split()[1:2]} & set(DEBIAN_GROUPS)]
    basic.write_text("\n".join([*kept, "g wheel 10 -", "g tape 33 -", ""]))
    sudoers = root / "etc/sudoers"
    sudoers.write_text(sudoers.read_text().replace("%sudo\tALL=(ALL:ALL)", "%wheel\tALL=(ALL)"))
    defs = root / "etc/login.defs"
    kept = [
        x for x in defs.read_text().splitlines() if not x.lstrip("#").startswith(("CREATE_HOME", "HOME_MODE"))
    ]
    defs.write_text("\n".join([*kept, "CREATE_HOME yes", "HOME_MODE 0700", ""]))
    useradd = root / "etc/default/useradd"
    kept = [x for x in useradd.read_text().splitlines() if not x.startswith("SHELL=")]
    useradd.write_text("\n".join([*kept, "SHELL=/bin/bash", ""]))


def _units(root: Path) -> None:
    """sshd and crond under EL's names. Enabled last: the presets know them by these names."""
    units = root / "usr/lib/systemd/system"
    for old, new in (("ssh.service", "sshd.service"), ("cron.service", "crond.service")):
        text = (units / old).read_text().replace("Alias=sshd.service\n", "")
        for link in (root / "etc/systemd/system").rglob(old):
            link.unlink()
        (units / old).unlink()
        (units / new).write_text(text)
    (root / "etc/systemd/system/sshd.service").unlink(missing_ok=True)
    run("systemctl", f"--root={root}", "enable", "sshd.service", "crond.service")


EL9 = Artefact("el9", _build_el9, ("el9.py", "el_packages.py", "rpmkit.py", "el_files/base"), (BASE, REPO))
