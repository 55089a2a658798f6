"""What a platform has for the host itself: firewall, sshd, updates, fail2ban."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Host:
    """Names of packages, units and paths.

    `firewall` is the backend, `sshd_unit` the unit of OpenSSH's server, which reads drop-ins where `ssh_drop_ins` says so
    (OpenSSH 8.2 and later). `updates` is how packages are updated by themselves, `update_timer` the timer that has to be
    switched on for it, or an empty text. `fail2ban_packages` come from EPEL where `fail2ban_epel`.
    """

    firewall: str
    firewall_packages: tuple[str, ...]
    sshd_unit: str
    ssh_drop_ins: bool
    updates: str
    update_packages: tuple[str, ...]
    update_timer: str
    fail2ban_packages: tuple[str, ...]
    fail2ban_epel: bool


DEBIAN = Host(
    firewall="nftables",
    firewall_packages=("nftables",),
    sshd_unit="ssh.service",
    ssh_drop_ins=True,
    updates="unattended-upgrades",
    update_packages=("unattended-upgrades",),
    update_timer="",  # apt's own timers are on; the settings decide what they do
    # Debian 12 has no rsyslog by default, so the journal is read, which takes python3-systemd
    fail2ban_packages=("fail2ban", "python3-systemd", "nftables"),
    fail2ban_epel=False,
)


def enterprise_linux(major: int) -> Host:
    """Enterprise Linux `major`. EL 8 has OpenSSH 8.0, which knows no Include."""
    return Host(
        firewall="firewalld",
        firewall_packages=("firewalld",),
        sshd_unit="sshd.service",
        ssh_drop_ins=major >= 9,
        updates="dnf-automatic",
        update_packages=("dnf-automatic",),
        update_timer="dnf-automatic.timer",
        fail2ban_packages=("fail2ban", "nftables"),
        fail2ban_epel=True,
    )
