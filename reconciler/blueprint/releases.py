"""The releases of a site whose application is deployed from git: folders, units of commands, and the release itself."""

from __future__ import annotations

import math
from collections.abc import Iterator

from reconciler.blueprint import jobs, steps
from reconciler.blueprint.model import Body, Step
from reconciler.blueprint.places import Places
from reconciler.blueprint.selinux import Level
from reconciler.blueprint.templates import Templates
from reconciler.desired.kinds import Site
from reconciler.desired.kinds.source import ApplicationSource
from reconciler.desired.scalars import seconds
from reconciler.kit import canonical
from reconciler.kit.canonical import Json

UNKNOWN = "unknown"
"""The commit in a plan that has no way to know it."""
_PATIENCE = 5
_PATIENCE_WITH_PROXY = 30
"""Seconds: an application of its own is started anew and takes its time to answer."""


def folders(places: Places) -> Iterator[Step]:
    """Where releases are, and what they share."""
    for name in ("releases", "shared"):
        yield steps.directory(f"{places.home}/{name}", owner=places.user, group=places.user)


def configuration(
    site: Site, source: ApplicationSource, places: Places, templates: Templates, level: Level | None
) -> Iterator[Step]:
    """The files of the units that run the commands of a release."""
    words = (
        (places.build, source.build, "Build"),
        (places.after, source.after, "Commands after the switch"),
    )
    for unit, commands, what in words:
        if commands:
            values = jobs.values_of(site, places, f"{places.home}/releases", level) | {
                "of_release": True,  # that of the unit's instance
                "unit": unit,
                "what": what,
                "commands": commands,
                "timeout": _seconds(source),
            }
            text = templates.render("systemd/panel-release.service.j2", values)
            yield steps.file(f"{places.unit_folder}/{unit}@.service", Body.of(text))


def release(site: Site, source: ApplicationSource, places: Places) -> Step:
    """The release of the source's commit."""
    below = places.document_root.removeprefix(places.application).strip("/")
    found = source.revision
    body = Body(None, digest=found.archive, length=found.size) if found else Body(None)
    params: dict[str, Json] = {
        "site": site.name,
        "user": places.user,
        "home": places.home,
        "commit": found.commit if found else UNKNOWN,
        "recipe": _recipe(site, source),
        "sha256": body.sha256,
        "size": body.size,
        "root": below,
        "shared": list(site.spec.shared),
        "build": bool(source.build),
        "after": bool(source.after),
        "seconds": _seconds(source),
        "keep": source.keep,
        "check": _check(site, source, places),
    }
    return Step("release", site.name, params, body)


def _seconds(source: ApplicationSource) -> int:
    return math.ceil(seconds(source.timeout))


def _recipe(site: Site, source: ApplicationSource) -> str:
    """What a release is made of besides its commit: another one means that it is made anew."""
    return canonical.digest(
        {"build": list(source.build), "shared": list(site.spec.shared), "php": site.spec.php_version}
    )


def _check(site: Site, source: ApplicationSource, places: Places) -> Json:
    """None for a suspended site, which answers 503 to everything."""
    if site.spec.state == "suspended":
        return None
    wanted = source.health_check
    return {
        "host": site.spec.host,
        "path": wanted.path if wanted else "/",
        "scheme": wanted.scheme if wanted else ("https" if site.spec.tls.on else "http"),
        "status": list(wanted.status) if wanted else None,
        "contains": wanted.contains if wanted else None,
        "seconds": math.ceil(seconds(wanted.timeout)) if wanted else 10,
        "patience": _PATIENCE_WITH_PROXY if site.spec.app_type == "proxy" else _PATIENCE,
        "socket": places.socket if site.spec.runs_php else None,
    }
