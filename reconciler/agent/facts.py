"""What kind of node this is."""

import os
import shutil
from typing import Dict

from . import places, selinux
from .faults import StepFault


def _os_release() -> Dict[str, str]:
    """The fields of os-release(5), which quotes values as a shell does."""
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        try:
            with open(places.real(path), "rb") as source:
                text = source.read(65536).decode("utf-8", "replace")
        except OSError:
            continue
        values = {}
        for line in text.splitlines():
            name, equals, value = line.strip().partition("=")
            if equals and not name.startswith("#"):
                values[name] = value.strip().strip("\"'")
        return values
    return {}


def _first_line(path: str) -> str:
    try:
        with open(places.real(path), "rb") as source:
            return source.read(4096).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _module() -> str:
    try:
        return selinux.installed_module("panel") if selinux.enabled() else ""
    except StepFault:
        return ""


def package_manager() -> str:
    """`dnf` or `apt`: the one that is installed."""
    search = places.environment()["PATH"]
    return "dnf" if shutil.which("dnf", path=search) else "apt"


def gather() -> Dict[str, str]:
    """The facts of the `hello` answer."""
    release = _os_release()
    system = os.uname()
    return {
        "os_id": release.get("ID", ""),
        "os_version": release.get("VERSION_ID", ""),
        "os_like": release.get("ID_LIKE", ""),
        "hostname": system.nodename,
        "kernel": system.release,
        "arch": system.machine,
        "package_manager": package_manager(),
        "selinux": selinux.mode(),
        "selinux_policy": selinux.policy() if selinux.enabled() else "",
        "selinux_policy_version": selinux.policy_version(),
        "selinux_module": _module(),
        "boot_id": places.boot_id(),
        "machine_id": _first_line("/etc/machine-id"),
    }
