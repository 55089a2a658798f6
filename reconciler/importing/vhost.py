"""A virtual host that Reconciler wrote, read back into the fields of a Site that it was rendered from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from reconciler.blueprint.answers import SECURITY
from reconciler.desired.kinds.common import Model
from reconciler.desired.kinds.serving import Proxy
from reconciler.desired.kinds.tls import Hsts
from reconciler.desired.scalars import duration
from reconciler.importing import sizes
from reconciler.kit.canonical import Json


@dataclass
class Vhost:
    """What a virtual host says. `names` begin with the one that visitors end up at; `other` is sent on to it.

    `headers` are those set for every answer, less those that the application may overrule (`usual`). `proxy` holds fields
    of `Site.spec.proxy`. A suspended site has neither redirects nor headers in its file, and its `names` have all.
    """

    names: list[str] = field(default_factory=list)
    other: str = ""
    redirects: list[Json] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    usual: set[str] = field(default_factory=set)
    trusted: list[str] = field(default_factory=list)
    secured: bool = False
    forced: bool = False
    hsts: str = ""
    oldest: str = "1.2"
    suspended: bool = False
    proxy: dict[str, Json] = field(default_factory=dict)
    whole: bool = True
    """False for what was made of somebody else's reading of the file, which tells of fewer fields."""

    def serving(self, files: Iterable[str]) -> dict[str, Json]:
        """The fields of the Site's spec, less `tls.mode`, `appType` and what depends on it. `files`: names of files of the
        site, of which Debian's has the domain in it."""
        spec = _names(self, set(files))
        if self.redirects:
            spec["redirects"] = list(self.redirects)
        if headers := self._headers():
            spec["headers"] = headers
        if self.trusted:
            spec["clientAddress"] = {"trustedProxies": list(self.trusted)}
        return spec

    def _headers(self) -> dict[str, Json]:
        found: dict[str, Json] = dict(self.headers)
        if self.whole and not self.suspended:
            spoken = {name.lower() for name in (*self.headers, *self.usual)}
            found |= {name: None for name in SECURITY if name.lower() not in spoken}
        return found

    def tls(self, mode: str) -> dict[str, Json]:
        """The field `tls`, for a mode that is on."""
        spec: dict[str, Json] = {"mode": mode}
        if not self.whole:
            return spec
        if not self.forced:
            spec["forceHttps"] = False
        if (hsts := _hsts(self.hsts)) is not None:
            spec["hsts"] = hsts
        if self.oldest != "1.2":
            spec["minVersion"] = self.oldest
        return spec


def proxy_spec(upstream: str, user: str, *, seconds: str, body: str, websockets: bool) -> dict[str, Json]:
    """Fields of `Site.spec.proxy`. `upstream` as the web server has it, sockets as `unix:/path`; `user` is the site's."""
    given: dict[str, Json | None] = {"upstream": upstream.replace(f"unix:/home/{user}/", "unix:", 1)}
    number = sizes.number(seconds.removesuffix("s"), 1, 86400)
    given["timeout"] = duration(number) if number is not None else None
    given["maxBodySize"] = sizes.size(body)
    given["websockets"] = websockets
    return beyond(Proxy, given)


def beyond(model: type[Model], given: Mapping[str, Json | None]) -> dict[str, Json]:
    """The values that are given and are not what the manifest means without them."""
    usual = {field.alias or name: field.default for name, field in model.model_fields.items()}
    return {key: value for key, value in given.items() if value is not None and usual.get(key) != value}


def redirect(pattern: str, to: str, status: str) -> dict[str, Json] | None:
    """A redirect of `blueprint.answers.rules`, less the end of its pattern; `to` has its star. None for another rule."""
    if not status.isdecimal() or not pattern.startswith("^"):
        return None
    spec: dict[str, Json] = {"from": re.sub(r"\\(.)", r"\1", pattern[1:]), "to": to}
    return spec if status == "301" else {**spec, "status": int(status)}


def _names(vhost: Vhost, files: set[str]) -> dict[str, Json]:
    names = list(dict.fromkeys(vhost.names))
    domain, given = names[0] if names else "", {}
    if vhost.other:
        # written with the domain without www.; the other spelling means the same
        given = {"www": "add" if domain.startswith("www.") else "strip"}
        domain = domain.removeprefix("www.")
    for name in (*names, vhost.other):
        if f"{name}.conf" in files:
            domain = name
    aliases = [
        name
        for name in names
        if name not in (domain, vhost.other) and not (vhost.other and name == f"www.{domain}")
    ]
    return {"domain": domain, **({"aliases": list(aliases)} if aliases else {}), **given}


def _hsts(value: str) -> dict[str, Json] | None:
    """The field `tls.hsts` of a value of `Strict-Transport-Security` as `blueprint.tls.hsts` writes it, or None."""
    words = [word.strip() for word in value.lower().split(";")]
    age = next((word.partition("=")[2] for word in words if word.startswith("max-age=")), "")
    seconds = sizes.number(age.strip('"'), 1, 26280 * 3600)
    if seconds is None:
        return None
    given: dict[str, Json | None] = {
        "maxAge": duration(seconds),
        "includeSubdomains": "includesubdomains" in words,
        "preload": "preload" in words,
    }
    return beyond(Hsts, given)
