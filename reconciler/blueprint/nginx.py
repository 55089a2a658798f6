"""nginx: its base configuration, and the virtual host of one site."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from reconciler.blueprint import answers, selinux, steps, tls, vhost
from reconciler.blueprint.model import Body, Step
from reconciler.blueprint.places import WEBROOT, Places
from reconciler.blueprint.templates import Templates
from reconciler.desired.kinds import Site
from reconciler.platforms import Platform


def base(platform: Platform, templates: Templates, *, protected: bool) -> Iterator[Step]:
    """What answers for hosts that no site declares, and the unit. `protected`: the node has our SELinux policy."""
    nginx = platform.nginx
    if protected:
        yield from selinux.web_server(nginx.unit, platform.selinux.nginx_resets, templates)
    if not nginx.rejects_handshakes:
        yield from tls.sink(nginx.unit)
    values = {"http2": nginx.http2, "rejects": nginx.rejects_handshakes, "webroot": WEBROOT, "sink": tls.SINK}
    # conf.d is read in the order of names, and the first server that says default_server answers for unknown hosts
    yield steps.file(
        f"{nginx.include}/00-panel-default.conf",
        Body.of(templates.render("nginx/default.conf.j2", values)),
        validate={"type": "nginx"},
    )
    for path in nginx.unwanted:
        yield steps.no_symlink(path)
    # by prefix, so that the server's section stays as it is when sites come and go
    yield steps.unit(
        nginx.unit,
        reload_on=("file:/etc/nginx/*", "symlink:/etc/nginx/*", *tls.CHANGES),
        restart_on=(f"file:{selinux.drop_in(nginx.unit)}",) if protected else (),
    )


def virtual_host(site: Site, places: Places, templates: Templates) -> Iterator[Step]:
    """The file of the virtual host, and what switches it on."""
    body = Body.of(templates.render(_template(site), _values(site, places, templates)))
    nginx = places.platform.nginx
    names = {"site": places.site, "domain": places.domain}
    yield steps.file(nginx.site_file.format(**names), body, validate={"type": "nginx"})
    if nginx.enabled_link:
        yield steps.symlink(nginx.enabled_link.format(**names), nginx.enabled_target.format(**names))


def _values(site: Site, places: Places, templates: Templates) -> dict[str, object]:
    spec = site.spec
    # variables of nginx are global, and a system user is never given to another site
    variable = places.user.replace("-", "_")
    values = vhost.values(site, places, templates)
    values["redirects"] = answers.rules(spec.redirects)
    values["added"] = answers.headers(spec.headers, variable)
    values["scheme"] = f"$panel_scheme_{variable}" if spec.client_address.trusted_proxies else "$scheme"
    values["variable"] = variable
    values["http2"] = places.platform.nginx.http2
    values["cache"] = f"{places.platform.nginx.cache}/panel-cache-{places.user}"
    if spec.proxy is not None:
        values["upstream"] = _upstream(spec.proxy.upstream, places)
    return values


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
