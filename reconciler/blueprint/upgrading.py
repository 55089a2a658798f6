"""Upgrades of software that were asked for: the steps that carry them out once, and what they mean for what is running."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reconciler.blueprint import software
from reconciler.blueprint.model import Step
from reconciler.blueprint.places import fpm_unit, redis_unit
from reconciler.desired.fleet import Fleet
from reconciler.desired.kinds import Server
from reconciler.kit.canonical import Json
from reconciler.platforms import Platform

_SERIES = {"mariadb": 2, "postgresql": 1}
"""How many numbers of a version name the series of a database server; another series needs its data converted."""
_EFFECTS = {
    "php": "its sites go over to it, requests under way are finished",
    "nginx": "it goes over to it as its package does, else it restarts",
    "caddy": "it restarts: a moment without connections",
    "mariadb": "it restarts: some seconds without databases",
    "postgresql": "it restarts: some seconds without databases",
    "redis": "the Redis of each site restarts: a moment without it",
}


@dataclass(frozen=True)
class Upgrade:
    """A piece of software (`php-8.2`) and its packages that are to be upgraded, each with its version and the one that
    was offered when the upgrade was asked for. The first package is the one that gives the piece its version."""

    software: str
    packages: Mapping[str, tuple[str, str]]

    @property
    def words(self) -> str:
        """`nginx 1.22.1-9 -> 1.22.1-10`."""
        before, after = next(iter(self.packages.values()))
        return f"{self.software} {before} -> {after}"


def restarts(piece: str) -> bool:
    """Whether what runs a piece of software is restarted for it."""
    return piece.partition("-")[0] in ("caddy", "mariadb", "postgresql", "redis")


def effect(piece: str) -> str:
    """What an upgrade of a piece of software does to what it serves."""
    return _EFFECTS[piece.partition("-")[0]]


def is_major(piece: str, before: str, after: str) -> bool:
    """Whether an upgrade leads a database server into another series, and so its data too."""
    numbers = _SERIES.get(piece, 0)
    return _series(before, numbers) != _series(after, numbers)


def _series(version: str, numbers: int) -> list[str]:
    return re.findall(r"[0-9]+", version.rpartition(":")[2])[:numbers]


def steps(server: Server, fleet: Fleet, platform: Platform, wanted: Sequence[Upgrade]) -> tuple[Step, ...]:
    """The steps of the upgrades, in the order in which the pieces are installed; software that `server` does not declare
    any more is left out. `fleet` has the sites that run on it."""
    asked = {one.software: one for one in wanted}
    return tuple(
        _step(asked[piece], server, fleet, platform)
        for piece in software.pieces(server, platform)
        if piece in asked
    )


def _step(wanted: Upgrade, server: Server, fleet: Fleet, platform: Platform) -> Step:
    params: dict[str, Json] = {
        "software": wanted.software,
        "packages": {name: versions[0] for name, versions in wanted.packages.items()},
    }
    sites = sorted(fleet.sites(server.name), key=lambda site: site.name)
    kind, _, series = wanted.software.partition("-")
    match kind:
        case "php":
            params["reload"] = [fpm_unit(site.name) for site in sites if site.spec.php_version == series]
        case "nginx" | "caddy":
            params["restart"] = [platform.web(server.spec.web_server).unit]
            params["validate"] = {"type": kind}
        case "mariadb":
            params["restart"] = [platform.mariadb.unit]
        case "postgresql":
            params["restart"] = [platform.postgresql.process]
        case _:
            params["restart"] = [redis_unit(site.name) for site in sites if site.spec.redis is not None]
            params["reload"] = [fpm_unit(site.name) for site in sites if site.spec.php_version is not None]
    return Step("upgrade", wanted.software, params)
