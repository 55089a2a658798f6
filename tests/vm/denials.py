"""What the machine's kernel and its daemons refused, as its audit log tells it."""

from __future__ import annotations

from lab.vm import Machine
from reconciler.selinux import audit
from reconciler.selinux.audit import Denial

LOG = "/var/log/audit/audit.log"

Refusal = tuple[str, str, str, str]
"""Type of who asked, type of what it was about, class, permissions with blanks between."""

BOOT: frozenset[Refusal] = frozenset(
    {
        # what Debian's policy forgets, with systemd 252; all goes on without
        ("systemd_tmpfiles_t", "etc_t", "lnk_file", "relabelfrom"),
        ("udev_t", "sysctl_fs_t", "dir", "search"),
        ("udev_t", "udev_t", "process", "setrlimit"),
    }
)


def mark(machine: Machine) -> int:
    """Where the audit log ends now, in lines: auditd is asked to write what it has."""
    return int(machine.output(f"sync; wc -l <{LOG}"))


def since(machine: Machine, marked: int = 0) -> tuple[Denial, ...]:
    """The denials of the lines after a mark, or of the whole log."""
    return audit.parse(machine.run(f"tail -n +{marked + 1} {LOG}").stdout.splitlines())


def refusal(denial: Denial) -> Refusal:
    """A denial without what differs from one time to the next."""
    source, target = denial.source, denial.target
    assert source is not None, denial
    assert target is not None, denial
    return (source.type, target.type, denial.tclass, " ".join(denial.permissions))
