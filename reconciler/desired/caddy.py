"""What caddy cannot do, or does otherwise, on a server that has it. Pure: manifests in, findings out."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from reconciler.desired.findings import Finding
from reconciler.desired.kinds import Server, Site
from reconciler.platforms import for_os


def server(found: Server) -> Iterator[Finding]:
    """Whether caddy can be had on a server that asks for it."""
    if found.spec.web_server != "caddy":
        return
    platform, path = for_os(found.spec.os.value), ("spec", "webServer")
    if platform.caddy is None:
        message = f"caddy cannot be installed on {found.spec.os.value}: no repository that comes as a package has it"
        yield Finding(path, "web-server-not-offered", message, "use nginx, or another system")


def shared(found: Server, sites: Iterable[Site]) -> Iterator[Finding]:
    """What sites of a caddy server must know of each other. `sites` are those of the fleet."""
    if found.spec.web_server != "caddy":
        return
    serving = (site for site in sites if site.spec.server == found.name and site.spec.app_type != "proxy")
    if len(list(itertools.islice(serving, 2))) == 2:
        message = "caddy follows links of one site into files of another that everybody may read"
        hint = "use nginx where sites of a server do not trust each other, see docs/webservers.md"
        yield Finding(("spec", "webServer"), "links-followed", message, hint, severity="warning")


def site(found: Site, on: Server) -> Iterator[Finding]:
    """What a site on a caddy server asks for that caddy has not."""
    if on.spec.web_server != "caddy":
        return
    for name, value in found.spec.headers.items():
        path = ("spec", "headers", name)
        if value is not None and ("{" in value or "}" in value):
            message = f"the header {name} has braces, in which caddy takes what stands for a variable"
            yield Finding(
                path, "header-for-caddy", message, f"have the application send it, or use nginx on {on.name}"
            )
        elif value is not None and "`" in value and (value.endswith("\\") or '\\"' in value):
            message = f"the header {name} has a backtick and a backslash before a quote, which no Caddyfile can hold"
            yield Finding(
                path, "header-for-caddy", message, f"have the application send it, or use nginx on {on.name}"
            )
