"""The web server of a node, whichever it is: the one place that knows which module writes for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from reconciler.blueprint import caddy, nginx, steps
from reconciler.blueprint.model import Body, Step
from reconciler.blueprint.places import Places
from reconciler.blueprint.templates import Templates
from reconciler.desired.kinds import Server, Site
from reconciler.platforms import Caddy, Nginx, Platform, Repository

WELCOME = "index.html"


def base(server: Server, platform: Platform, templates: Templates, *, protected: bool) -> Iterator[Step]:
    """What the web server needs before the first site, and its unit. `protected`: the node has our SELinux policy."""
    match server.spec.web_server:
        case "nginx":
            yield from nginx.base(platform, templates, protected=protected)
        case "caddy":
            yield from caddy.base(platform.offered_caddy, platform.nginx, templates, protected=protected)
        case _:
            assert_never(server.spec.web_server)


def repositories(server: Server, platform: Platform) -> tuple[Repository, ...]:
    """Repositories that the web server comes from, where the distribution lacks it."""
    return platform.web_repositories.get(platform.web(server.spec.web_server).package, ())


def packages(server: Server, platform: Platform) -> tuple[str, ...]:
    """What is installed for the web server."""
    match server.spec.web_server:
        case "nginx":
            return (platform.nginx.package,)
        case "caddy":
            return (platform.offered_caddy.package, *platform.offered_caddy.packages)
        case _:
            assert_never(server.spec.web_server)


def virtual_host(site: Site, places: Places, templates: Templates) -> Iterator[Step]:
    """The file of the virtual host, and what switches it on."""
    match places.web:
        case Nginx():
            yield from nginx.virtual_host(site, places, templates)
        case Caddy():
            yield from caddy.virtual_host(site, places, templates)
        case _:
            raise TypeError(f"no virtual hosts are written for {places.web.package}")


def welcome(places: Places, templates: Templates) -> Step:
    """The page that a new site shows. It is placed once, holds nothing of the site, and an `index.php` goes before it."""
    return steps.file(
        f"{places.document_root}/{WELCOME}",
        Body.of(templates.render("web/welcome.html", {})),
        owner=places.user,
        group=places.user,
        once=True,
    )
