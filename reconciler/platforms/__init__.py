"""What differs between operating systems, as data: one file a platform, and `for_os` to find the right one."""

from __future__ import annotations

from dataclasses import replace

from reconciler.platforms.debian12 import DEBIAN12
from reconciler.platforms.debian13 import DEBIAN13
from reconciler.platforms.el8 import EL8
from reconciler.platforms.el9 import EL9
from reconciler.platforms.el10 import EL10
from reconciler.platforms.model import (
    Caddy,
    MariaDb,
    Nginx,
    Php,
    Platform,
    PostgreSql,
    Redis,
    Repository,
    SELinux,
    WebServer,
)

_ALMA, _ROCKY = "almalinux", "rocky"

_BY_OS: dict[str, Platform] = {
    "alma_8": replace(EL8, os_id=_ALMA),
    "alma_9": replace(EL9, os_id=_ALMA),
    "alma_10": replace(EL10, os_id=_ALMA),
    "rocky_8": replace(EL8, os_id=_ROCKY),
    "rocky_9": replace(EL9, os_id=_ROCKY),
    "rocky_10": replace(EL10, os_id=_ROCKY),
    "debian_12": DEBIAN12,
    "debian_13": DEBIAN13,
}

NAMES = tuple(_BY_OS)
"""Every value `for_os` knows, as a Server's `spec.os` spells it."""


def for_os(os: str) -> Platform:
    """The platform of a Server's `spec.os`, for example `alma_9`. Raises KeyError for a word not in `NAMES`."""
    return _BY_OS[os]


def matches(platform: Platform, os_id: str, os_version: str) -> str:
    """Compare a platform with what a node says of itself (`ID` and `VERSION_ID` of os-release(5)).

    The answer is empty when they fit; else it is a sentence that names both. Only the major version counts.
    """
    if os_id == platform.os_id and os_version.partition(".")[0] == platform.os_version:
        return ""
    wanted = f"{platform.os_id} {platform.os_version}"
    return (
        f"the manifest says {wanted}, but the node runs {os_id or 'an unnamed system'} {os_version}".rstrip()
    )


__all__ = [
    "NAMES",
    "Caddy",
    "Certbot",
    "MariaDb",
    "Nginx",
    "Php",
    "Platform",
    "PostgreSql",
    "Redis",
    "Repository",
    "SELinux",
    "WebServer",
    "for_os",
    "matches",
]
