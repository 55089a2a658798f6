"""Rules of how the web server answers for a site that a field's type cannot say. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.desired import redirects
from reconciler.desired.findings import Finding, Path
from reconciler.desired.kinds import Site

NOT_OURS = frozenset(
    {
        "connection", "content-encoding", "content-length", "content-range", "content-type", "date", "keep-alive", "location",
        "server", "set-cookie", "status", "te", "trailer", "transfer-encoding", "upgrade", "x-cache",
    }
)  # fmt: skip
"""Headers that each answer has of its own: a second one would make it wrong, or break it."""


def check(site: Site) -> Iterator[Finding]:
    """What is wrong with the names, redirects and headers of a site."""
    yield from _www(site)
    yield from _redirects(site)
    seen: set[str] = set()
    for name in site.spec.headers:
        path: Path = ("spec", "headers", name)
        if name.lower() in NOT_OURS:
            message = f"{name} belongs to each answer and cannot be set for all"
            yield Finding(path, "reserved-header", message, "remove it", at_key=True)
        if name.lower() in seen:
            message = f"{name} is there twice: upper and lower case are one in headers"
            yield Finding(path, "listed-twice", message, "remove one of them", at_key=True)
        seen.add(name.lower())


def _www(site: Site) -> Iterator[Finding]:
    spec = site.spec
    bare = spec.domain.removeprefix("www.")
    if spec.www != "keep" and ("." not in bare or len(f"www.{bare}") > 253):
        message = f"spec.www: {spec.www} has no second name for {spec.domain}"
        yield Finding(("spec", "www"), "bad-value", message, "write keep, or another domain")


def _redirects(site: Site) -> Iterator[Finding]:
    listed = site.spec.redirects
    for place, redirect in enumerate(listed):
        path: Path = ("spec", "redirects", place)
        if redirect.to.endswith("*") and not redirect.from_.endswith("*"):
            message = f"spec.redirects[{place}].to ends in a star, and from does not"
            hint = "end both in /*, or neither"
            yield Finding((*path, "to"), "bad-value", message, hint)
            continue
        before = next((n for n in range(place) if redirects.covers(listed[n], redirect.from_)), None)
        if before is not None:
            message = f"spec.redirects[{place}] is never reached: spec.redirects[{before}] takes {redirect.from_} before it"
            yield Finding((*path, "from"), "never-reached", message, "put it first, or remove it")
            continue
        loop = redirects.endless(listed, site.spec.hosts, redirect)
        if loop is not None:
            message = f"spec.redirects[{place}] leads visitors in a circle: {' to '.join(loop)}"
            if loop[-1] not in loop[:-1]:
                message = f"spec.redirects[{place}] leads visitors through more than {redirects.MOST} redirects: {' to '.join(loop[:4])} …"
            yield Finding((*path, "to"), "redirect-loop", message, "have it lead to where they are to end up")
