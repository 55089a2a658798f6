"""The virtual host of one site."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import assert_never

from reconciler.blueprint import answers, steps
from reconciler.blueprint.model import Body, Step
from reconciler.blueprint.places import Places, body_limit, request_seconds
from reconciler.blueprint.templates import Templates
from reconciler.desired.kinds import Site
from reconciler.desired.scalars import seconds

WELCOME = "index.html"


def virtual_host(site: Site, places: Places, templates: Templates) -> Iterator[Step]:
    """The file of the virtual host, and what switches it on."""
    body = Body.of(templates.render(_template(site), _values(site, places, templates)))
    yield steps.file(places.vhost, body, validate={"type": "nginx"})
    if places.vhost_link:
        yield steps.symlink(places.vhost_link, places.vhost_link_target)


def _values(site: Site, places: Places, templates: Templates) -> dict[str, object]:
    spec = site.spec
    # variables of nginx are global, and a system user is never given to another site
    variable = places.user.replace("-", "_")
    values: dict[str, object] = {
        "places": places,
        "names": [name for name in spec.hosts if name != spec.other_host],
        "host": spec.host,
        "other_host": spec.other_host,
        "redirects": answers.rules(spec.redirects),
        "added": answers.headers(spec.headers, variable),
        "trusted": spec.client_address.trusted_proxies,
        "scheme": f"$panel_scheme_{variable}" if spec.client_address.trusted_proxies else "$scheme",
        "variable": variable,
        "logs": places.platform.nginx.logs,
        "cache": f"{places.platform.nginx.cache}/panel-cache-{places.user}",
        "body_limit": body_limit(spec.php.upload_max_filesize),
        "request_seconds": request_seconds(spec.php.max_execution_time),
    }
    if spec.state == "suspended":
        values["page"] = _page("suspended", templates)
        values["names"] = spec.hosts
    elif spec.proxy is not None:
        values["proxy"] = spec.proxy
        values["upstream"] = _upstream(spec.proxy.upstream, places)
        values["timeout"] = math.ceil(seconds(spec.proxy.timeout))
        values["page"] = _page("down", templates)
    return values


def _page(name: str, templates: Templates) -> str:
    return templates.render(f"web/{name}.html", {}).replace("\n", "")


def _upstream(upstream: str, places: Places) -> str:
    """As `proxy_pass` takes it; the path of a socket is below the home when it is not absolute."""
    if not upstream.startswith("unix:"):
        return upstream
    path = upstream.removeprefix("unix:")
    return f"http://unix:{path}" if path.startswith("/") else f"http://unix:{places.home}/{path}"


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
        case "static":
            return "nginx/static.conf.j2"
        case "proxy":
            return "nginx/proxy.conf.j2"
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
