"""Whether this node has to be rebooted before what was installed is in use. Files are looked at; no program is started."""

import os
import re
from typing import Any, Dict, List, Tuple

from . import places

_ASKED = "/run/reboot-required"
_PACKAGES = "/run/reboot-required.pkgs"
_MODULES = "/lib/modules"
_CONTAINERS = ("/run/systemd/container", "/run/.containerenv", "/.dockerenv")
"""What systemd, podman and docker leave in a container, which has no kernel of its own."""


def needed() -> Dict[str, Any]:
    """The field `reboot` of the `hello` answer: `needed`, in a few words `why`, and the `packages` that ask for it.

    On Debian packages ask by writing /run/reboot-required, for kernels through a hook of unattended-upgrades; where
    nothing does, a kernel that is installed and newer than the one that runs is reason enough.
    """
    if any(os.path.exists(places.real(path)) for path in _CONTAINERS):
        return _answer("", [])
    packages = _packages()
    if os.path.exists(places.real(_ASKED)):
        return _answer("packages that were installed ask for it", packages)
    running = os.uname().release
    newest = max(_kernels(running), key=version, default=running)
    if version(newest) > version(running):
        return _answer("kernel {} is installed, {} runs".format(newest, running)[:300], packages)
    return _answer("", [])


def _answer(why: str, packages: List[str]) -> Dict[str, Any]:
    return {"needed": bool(why), "why": why, "packages": packages}


def _packages() -> List[str]:
    try:
        with open(places.real(_PACKAGES), "rb") as source:
            lines = source.read(65536).decode("utf-8", "replace").split("\n")
    except OSError:
        return []
    return sorted({line.strip()[:100] for line in lines if line.strip()})[:100]


def _kernels(running: str) -> List[str]:
    """Releases of the kernels that are installed, of the variant that runs (`+debug` is one). A folder of modules without
    a kernel is what a removed package left behind."""
    try:
        found = os.listdir(places.real(_MODULES))
    except OSError:
        return []
    return [
        name
        for name in found
        if name.partition("+")[2] == running.partition("+")[2]
        and (
            os.path.exists(places.real("{}/{}/vmlinuz".format(_MODULES, name)))
            or os.path.exists(places.real("/boot/vmlinuz-" + name))
        )
    ]


def version(release: str) -> List[Tuple[int, int, str]]:
    """A key that orders kernel releases as rpm does: number by number, and a number is newer than a word."""
    parts = re.findall(r"[0-9]+|[A-Za-z]+", release)
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts]
