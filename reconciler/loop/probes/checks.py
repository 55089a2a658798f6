"""The checks as values, read from the manifests' models."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from reconciler.desired.kinds.health import ServerCheck, SiteCheck
from reconciler.desired.scalars import seconds


@dataclass(frozen=True)
class HttpCheck:
    """A request to the site passes when its status is one of `status` and the answer holds `contains`.

    `timeout` is in seconds, for all of it.
    """

    path: str = "/"
    scheme: Literal["http", "https"] = "http"
    status: frozenset[int] = frozenset({200})
    contains: str | None = None
    timeout: float = 5.0

    def __str__(self) -> str:
        return f"{self.scheme} {self.path}"


@dataclass(frozen=True)
class UnitCheck:
    """A unit of the node passes when it is active."""

    unit: str

    def __str__(self) -> str:
        return f"unit {self.unit}"


@dataclass(frozen=True)
class CommandCheck:
    """A command of the daemon's settings passes when it ends with 0 in time."""

    name: str

    def __str__(self) -> str:
        return f"command {self.name}"


@dataclass(frozen=True)
class CertificateCheck:
    """The site's certificate passes when it is good for its names, and for `min_days` more."""

    min_days: int = 7

    def __str__(self) -> str:
        return "certificate"


@dataclass(frozen=True)
class AvcCheck:
    """SELinux passes when it refused at most `max` times since the change."""

    max: int = 0

    def __str__(self) -> str:
        return "avc"


Check = HttpCheck | UnitCheck | CommandCheck | CertificateCheck | AvcCheck


def from_manifest(declared: Iterable[ServerCheck]) -> tuple[Check, ...]:
    """The checks that `spec.healthChecks` of a Server or a Site declares, in its order."""
    return tuple(_one(item) for item in declared)


def _one(item: ServerCheck) -> Check:
    if isinstance(item, SiteCheck) and item.http is not None:
        http = item.http
        return HttpCheck(
            http.path, http.scheme, frozenset(http.status), http.contains, timeout=seconds(http.timeout)
        )
    if isinstance(item, SiteCheck) and item.certificate is not None:
        return CertificateCheck(item.certificate.min_days)
    if item.unit is not None:
        return UnitCheck(item.unit)
    if item.command is not None:
        return CommandCheck(item.command)
    if item.avc is not None:
        return AvcCheck(item.avc.max)
    raise ValueError("a health check of a manifest names nothing to check")  # its model refuses that
