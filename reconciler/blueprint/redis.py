"""Redis of one site: a server of its own, run as the site's user, reached by a socket that only the site can open.

Many sites in one Redis would be told apart by passwords and by what each calls its keys; `FLUSHALL` of one, or a full memory,
would concern all.
"""

from __future__ import annotations

from reconciler.blueprint import steps
from reconciler.blueprint.model import Body, Step
from reconciler.blueprint.places import Places
from reconciler.blueprint.selinux import Level
from reconciler.blueprint.templates import Templates
from reconciler.desired.kinds import Site


def configuration(
    site: Site, places: Places, templates: Templates, level: Level | None = None
) -> tuple[Step, ...]:
    """The folder of its data, its configuration and its unit file; nothing for a site without one."""
    if site.spec.redis is None:
        return ()
    values = {
        "places": places,
        "memory": f"{site.spec.redis.memory}B".lower(),
        "binary": places.platform.redis.binary,
        "context": level.redis if level is not None else "",
    }
    unit_file = f"{places.unit_folder}/{places.redis_unit}"
    return (
        steps.directory(places.redis_data, owner=places.user, group=places.user, mode="0700"),
        steps.file(places.redis_config, Body.of(templates.render("redis/site.conf.j2", values))),
        steps.file(unit_file, Body.of(templates.render("systemd/panel-redis.service.j2", values))),
    )


def units(site: Site, places: Places) -> tuple[Step, ...]:
    """The running unit. It has read its configuration once; what is in it is kept over a restart."""
    if site.spec.redis is None:
        return ()
    read = (f"file:{places.redis_config}", f"file:{places.unit_folder}/{places.redis_unit}")
    return (steps.unit(places.redis_unit, running=site.spec.state == "active", restart_on=read),)


def login(site: Site, places: Places) -> dict[str, str]:
    """The lines of `.env`. phpredis takes a path for a host when the port is 0."""
    if site.spec.redis is None:
        return {}
    return {"REDIS_HOST": places.redis_socket, "REDIS_PORT": "0", "REDIS_SOCKET": places.redis_socket}
