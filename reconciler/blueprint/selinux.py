"""What SELinux adds to a node's sections: the policy module and its switches, the labels of sites, contexts of units."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from reconciler.blueprint import steps
from reconciler.blueprint.model import Body, Step
from reconciler.blueprint.places import Places
from reconciler.blueprint.templates import Templates
from reconciler.desired import relay
from reconciler.desired.kinds import Server, Site
from reconciler.kit import assets
from reconciler.kit.canonical import Json
from reconciler.platforms import Platform
from reconciler.selinux import labels, mcs, rules

MODULE = "panel"
FOLDER = "/etc/panel/selinux"
BOOLEANS = ("panel_can_manage_users", "panel_can_reload_nginx")


@dataclass(frozen=True)
class Level:
    """The level of one site, on a server that has levels; and the contexts that its programs run in."""

    level: str

    @staticmethod
    def of(server: Server, platform: Platform, mcs_id: str | None) -> Level | None:
        """None where SELinux is left alone. `mcs_id` is the number of the site's pair, or what stands for it in a plan that
        cannot know it. Raises ValueError when there is none."""
        if not in_use(server, platform):
            return None
        if not mcs_id:
            raise ValueError("a site has no SELinux categories yet")
        return Level(mcs.level(int(mcs_id)) if mcs_id.isdecimal() else mcs_id)

    @property
    def php(self) -> str:
        """The context of the site's PHP."""
        return labels.process(self.level)

    @property
    def job(self) -> str:
        """The context of the site's cron jobs and queue workers."""
        return labels.process(self.level, labels.JOB)

    @property
    def redis(self) -> str:
        """The context of the site's Redis."""
        return labels.process(self.level, labels.REDIS)


def in_use(server: Server, platform: Platform) -> bool:
    """Whether anything of SELinux is done on the server's node."""
    return platform.selinux.declared(server.spec.selinux.mode) != "disabled"


def policy(server: Server, sites: Iterable[Site]) -> Iterator[Step]:
    """The module, the fleet's own rules and the switches. They come before everything that needs a type of the module.

    Of the server's `sites` it has whether the web server must reach an application by its port.
    """
    yield steps.directory(FOLDER)
    te, fc = shipped("panel.te"), shipped("panel.fc")
    yield steps.file(f"{FOLDER}/panel.te", Body.of(te))
    yield steps.file(f"{FOLDER}/panel.fc", Body.of(fc))
    yield module(MODULE, f"{FOLDER}/panel.fc")
    spec = server.spec.selinux
    if spec.rules:
        source = rules.source_of([rules.parse(rule) for rule in spec.rules])
        yield steps.file(f"{FOLDER}/{rules.LOCAL}.te", Body.of(source))
        yield module(rules.LOCAL)
    relays = any(one.spec.proxy is not None and relay.needs_boolean(one.spec.proxy.upstream) for one in sites)
    switches: dict[str, Json] = {**dict.fromkeys(BOOLEANS, True), relay.BOOLEAN: relays, **spec.booleans}
    yield Step("selinux_booleans", "node", {"booleans": dict(sorted(switches.items()))})


def module(name: str, contexts: str | None = None) -> Step:
    """A policy module that is built on the node from a source beside `contexts`, its file contexts."""
    params: dict[str, Json] = {"name": name, "source": f"{FOLDER}/{name}.te"}
    if contexts is not None:
        params["contexts"] = contexts
    return Step("selinux_module", name, params)


def drop_in(unit: str) -> str:
    """The file that has the unit of a web server, such as `nginx.service`, run in its domain."""
    return f"/etc/systemd/system/{unit}.d/panel-selinux.conf"


def web_server(unit: str, resets: Sequence[str], templates: Templates) -> Iterator[Step]:
    """What has a web server run in its domain; `resets` take out what that could not start. One domain serves for all."""
    values = {"context": f"system_u:system_r:{labels.NGINX}:s0", "resets": resets}
    path = drop_in(unit)
    yield steps.directory(path.rpartition("/")[0])
    yield steps.file(path, Body.of(templates.render("systemd/web-server-selinux.conf.j2", values)))


def site(found: Site, places: Places, level: Level) -> Step:
    """The labels of a site's files. It comes before anything is put below the home, so that it is made with its label."""
    wanted = labels.of_site(
        found.name,
        places.user,
        found.spec.app_type,
        level.level,
        run=places.platform.selinux.run,
        deployed=places.deployed,
        redis=found.spec.redis is not None,
    )
    listed: list[Json] = [{"pattern": one.pattern, "type": one.type, "level": one.level} for one in wanted]
    params: dict[str, Json] = {
        "site": found.name,
        # a site that had PHP or Redis once has a context for the run-time folder, which goes as nothing asks for it any more
        "roots": [places.home, places.runtime, places.redis_runtime],
        "labels": listed,
    }
    return Step("selinux_labels", found.name, params)


@functools.cache
def shipped(name: str) -> str:
    """A source of the policy that travels with the program. Raises FileNotFoundError when the installation lacks it."""
    return (assets.folder("selinux") / name).read_text("utf-8")
