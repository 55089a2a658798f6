"""Where things are on a node, and the fixed environment of every program that the agent starts.

For tests all paths can be moved below a folder with `PANEL_ROOT`; the variable has no effect through sudo.
"""

import os
from typing import Dict

STATE = "/var/lib/panel"
BLOBS = "/run/panel/blobs"
ARCHIVE = STATE + "/archive"
JOURNAL = STATE + "/journal"
_SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def _root_from_environment() -> str:
    if "SUDO_UID" in os.environ or os.geteuid() != os.getuid():
        return ""
    return os.environ.get("PANEL_ROOT", "").rstrip("/")


ROOT = _root_from_environment()


def real(path: str) -> str:
    """The path on this machine of an absolute path of the node."""
    return ROOT + path


def testing() -> bool:
    """True when the paths are moved, that is, in a test."""
    return bool(ROOT)


def environment() -> Dict[str, str]:
    """The environment of child processes: nothing of the caller's gets through."""
    search = _SYSTEM_PATH
    if ROOT:
        search = "{0}/usr/sbin:{0}/usr/bin:{1}".format(ROOT, _SYSTEM_PATH)
    environment = {
        "PATH": search,
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "LANGUAGE": "C",
        "TERM": "dumb",
        "DEBIAN_FRONTEND": "noninteractive",
        "APT_LISTCHANGES_FRONTEND": "none",
        "NEEDRESTART_MODE": "a",
        "SYSTEMD_PAGER": "",
        # Debian's links in /etc/rc*.d mean nothing to systemd where a unit has its name, and are not ours to change
        "SYSTEMCTL_SKIP_SYSV": "1",
        "SYSTEMD_COLORS": "0",
    }
    if ROOT:
        environment["PANEL_ROOT"] = ROOT
    return environment


def has_systemd() -> bool:
    """True when systemd is the first process of this node (sd_booted(3))."""
    return os.path.isdir(real("/run/systemd/system"))


def boot_id() -> str:
    """The kernel's random id of this boot."""
    with open("/proc/sys/kernel/random/boot_id") as source:
        return source.read().strip()


def make_state_folders() -> None:
    """Create the agent's own folders, 0700, if they are missing. Raises OSError."""
    for path in (STATE, JOURNAL, ARCHIVE, os.path.dirname(BLOBS), BLOBS):
        folder = real(path)
        if ROOT:
            os.makedirs(folder, 0o700, exist_ok=True)
        else:
            try:
                os.mkdir(folder, 0o700)
            except FileExistsError:
                if os.path.islink(folder):
                    raise
        os.chmod(folder, 0o700)
