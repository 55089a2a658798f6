"""What a virtual host is made of with every web server, as values for templates."""

from __future__ import annotations

import math

from reconciler.blueprint import tls
from reconciler.blueprint.places import WEBROOT, Places, body_limit, request_seconds
from reconciler.blueprint.templates import Templates
from reconciler.desired.kinds import Site
from reconciler.desired.scalars import seconds


def values(site: Site, places: Places, templates: Templates) -> dict[str, object]:
    """The values that mean the same to the templates of all web servers; each adds what it spells its own way."""
    spec = site.spec
    suspended = spec.state == "suspended"
    found: dict[str, object] = {
        "places": places,
        "names": spec.hosts if suspended else [name for name in spec.hosts if name != spec.other_host],
        "host": spec.host,
        "other_host": spec.other_host,
        "trusted": spec.client_address.trusted_proxies,
        "tls": spec.tls if spec.tls.on else None,
        "forced": spec.tls.on and spec.tls.force_https,
        "hsts": tls.hsts(spec.tls),
        "webroot": WEBROOT,
        "logs": places.web.logs,
        "body_limit": body_limit(spec.php.upload_max_filesize),
        "request_seconds": request_seconds(spec.php.max_execution_time),
    }
    if suspended:
        found["page"] = _page("suspended", templates)
    elif spec.proxy is not None:
        found["proxy"] = spec.proxy
        found["timeout"] = math.ceil(seconds(spec.proxy.timeout))
        found["page"] = _page("down", templates)
    return found


def _page(name: str, templates: Templates) -> str:
    return templates.render(f"web/{name}.html", {}).replace("\n", "")
