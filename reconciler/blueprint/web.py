"""The virtual host of one site."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from reconciler.blueprint import steps
from reconciler.blueprint.model import Body, Step
from reconciler.blueprint.places import Places, body_limit, request_seconds
from reconciler.blueprint.templates import Templates
from reconciler.desired.kinds import Site

WELCOME = "index.html"


def virtual_host(site: Site, places: Places, templates: Templates) -> Iterator[Step]:
    """The file of the virtual host, and what switches it on."""
    spec = site.spec
    values: dict[str, object] = {
        "places": places,
        "names": [spec.domain, *sorted(set(spec.aliases) - {spec.domain})],
        "logs": places.platform.nginx.logs,
        "cache": f"{places.platform.nginx.cache}/panel-cache-{places.user}",
        "body_limit": body_limit(spec.php.upload_max_filesize),
        "request_seconds": request_seconds(spec.php.max_execution_time),
    }
    if spec.state == "suspended":
        values["page"] = templates.render("web/suspended.html", {}).replace("\n", "")
    body = Body.of(templates.render(_template(site), values))
    yield steps.file(places.vhost, body, validate={"type": "nginx"})
    if places.vhost_link:
        yield steps.symlink(places.vhost_link, places.vhost_link_target)


def _template(site: Site) -> str:
    if site.spec.state == "suspended":
        return "nginx/suspended.conf.j2"
    match site.spec.app_type:
        case "wordpress":
            return "nginx/wordpress.conf.j2"
        case "laravel":
            return "nginx/laravel.conf.j2"
        case "generic":
            return "nginx/generic.conf.j2"
        case _:
            assert_never(site.spec.app_type)


def welcome(places: Places, templates: Templates) -> Step:
    """The page that a new site shows. It is placed once, holds nothing of the site, and an `index.php` goes before it."""
    return steps.file(
        f"{places.document_root}/{WELCOME}",
        Body.of(templates.render("web/welcome.html", {})),
        owner=places.user,
        group=places.user,
        once=True,
    )
