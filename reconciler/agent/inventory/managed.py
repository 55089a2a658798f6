"""What Reconciler itself put on this node, from the bundle that the agent kept: steps as digests, unit files of ours, and
the configuration files of ours that an import reads back."""

import hashlib
import re
from typing import Any, Dict, List, Optional

from .. import bundle, canonical
from ..steps import firewall, sshd
from ..vocabulary import Step
from . import bounded

MOST_FILE = 256 * 1024
MOST_FILES = 4 * 1024 * 1024
_KEYS = ("MemoryMax", "CPUQuota", "TasksMax", "ExecStart", "TimeoutStartSec")
_UNIT = re.compile(r"/etc/systemd/system/(panel-(?:site|cron|worker|fpm)-[A-Za-z0-9_@.-]+)\Z")
_SCHEDULE = re.compile(r"# ([0-9*@][^\n]{0,200})\Z")
# Fields of steps that are told beside the digest. None is a secret: secrets are bodies, of which there are only digests.
_TOLD = {
    "timezone": ("zone",),
    "swap": ("size",),
    "hostname": ("name",),
    "unit": ("active",),
    "certificate": ("issuer", "names", "email", "directory", "trust"),
    "release": ("commit", "sha256", "size", "root", "shared", "seconds", "keep", "check"),
    "selinux_booleans": ("booleans",),
    "mariadb_database": ("adopt",),
    "postgresql_database": ("adopt",),
    "mariadb_grant": ("privileges",),
    "postgresql_grant": ("privileges",),
    "sshd": ("unit",),
    "firewall": ("backend",),
}
# Files of ours that an import makes fields of manifests from; all of it came from manifests, in clear.
_FILES = re.compile(
    r"/etc/nginx/(?:conf\.d|sites-available)/[^/]+\.conf\Z"
    r"|/etc/panel/caddy/[^/]+\.caddy\Z"
    r"|/etc/panel/redis/[^/]+\.conf\Z"
    r"|/etc/panel/(?:dnf-automatic\.conf|acme/trust\.pem|selinux/panel_local\.te)\Z"
    r"|/etc/panel/tls/[^/]+/fullchain\.pem\Z"
    r"|/etc/apt/apt\.conf\.d/52panel-updates\Z"
    r"|/etc/sudoers\.d/panel-logins\Z"
    r"|/etc/systemd/system/panel-(?:build|after)-[^/]+\.service\Z"
    r"|/home/[^/]+/\.ssh/authorized_keys\Z"
    r"|/(?:etc|var)/[^\n]*/pg_hba\.conf\Z"
)


def find(notes: List[str]) -> Dict[str, Any]:
    """`server`: the name in the kept bundle (empty: none is kept); `sections` with steps; `units`: values of unit files;
    `files`: texts of configuration files of ours that are as they were applied, by path.

    A step is its key, the digest of its canonical JSON without password, and for a secret file its size instead of its
    digest, so that nothing here can be guessed at. `values` are those of its fields that are named above.
    """
    kept = bundle.load(bundle.KEPT)
    if kept is None:
        if bounded.exists(bundle.KEPT):
            notes.append("the kept bundle is of another version of the agent")
        return {"server": "", "sections": [], "units": {}, "files": {}}
    sections = []
    units: Dict[str, Dict[str, str]] = {}
    files = _Files(notes)
    for section in kept.sections:
        steps = []
        for step in section.steps:
            if step.get("state", "present") != "present":
                continue  # what was removed
            steps.append(_told(step))
            files.take(step)
            match = _UNIT.match(str(step.get("path", "")))
            if match:
                units[match.group(1)] = _values(str(step["path"]))
        sections.append({"id": section.id, "needs": section.needs, "steps": steps})
    return {"server": kept.value["server"], "sections": sections, "units": units, "files": files.texts}


def _told(step: Step) -> Dict[str, Any]:
    shown = {name: value for name, value in step.items() if name != "password"}
    if shown.get("secret"):
        shown.pop("sha256", None)
    told: Dict[str, Any] = {
        "key": step["key"],
        "digest": canonical.digest(shown),
        "size": step.get("size", step.get("bytes", 0)),
    }
    values = {name: step[name] for name in _TOLD.get(step["type"], ()) if name in step}
    if values:
        told["values"] = values
    return told


class _Files:
    """Texts of files of ours. One that is not as it was applied has somebody else's text in it, and is only named."""

    def __init__(self, notes: List[str]) -> None:
        self.texts: Dict[str, str] = {}
        self._notes = notes
        self._left = MOST_FILES

    def take(self, step: Step) -> None:
        path = _path(step)
        if path is None or step.get("once") or step.get("secret") or "sha256" not in step:
            return
        text = bounded.read(path, min(MOST_FILE, self._left))
        if text is None:
            self._notes.append("{}: ours, and not there, or too large to be read back".format(path))
        elif hashlib.sha256(text.encode("utf-8")).hexdigest() != step["sha256"]:
            self._notes.append("{}: ours, and changed since it was applied; it is not read back".format(path))
        else:
            self.texts[path] = text
            self._left -= len(text)


def _path(step: Step) -> Optional[str]:
    if step["type"] == "sshd":
        return sshd.PATH
    if step["type"] == "firewall":
        return firewall.PLACES[str(step["backend"])].path
    path = str(step.get("path", ""))
    return path if step["type"] == "file" and _FILES.match(path) else None


def _values(path: str) -> Dict[str, str]:
    text = bounded.read(path, 65536) or ""
    found: Dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        schedule = _SCHEDULE.match(line)
        if equals and name in _KEYS:
            found[name] = value[:4096]
        elif schedule and "schedule" not in found:
            found["schedule"] = schedule.group(1)
    return found
