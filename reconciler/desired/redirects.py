"""Which redirect a path meets, and whether a visitor who follows them ever arrives. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from urllib.parse import urlsplit

from reconciler.desired.kinds.serving import Redirect

MOST = 10
"""Redirects in a row that a site may send a visitor through; browsers give up after about twenty."""

_ANYTHING = "\0"
"""Stands for what a visitor wrote in the place of a star: no `from` can have it."""


def covers(redirect: Redirect, path: str) -> bool:
    """Whether a redirect takes a path, or all that a pattern which ends in a star stands for."""
    if redirect.from_.endswith("/*"):
        return path.startswith(redirect.from_[:-1])
    return path == redirect.from_


def endless(redirects: Sequence[Redirect], hosts: Collection[str], start: Redirect) -> tuple[str, ...] | None:
    """The paths that a visitor is sent along without an end, from what `start` takes; None when there is one.

    The first redirect of the list that takes a path is the one that counts, as in the web server. `hosts` are the site's
    own: a URL of theirs comes back to these redirects. Starting at what each redirect takes finds every loop: one that
    needs a certain text in the place of a star has a redirect which has that text in its `from`.
    """
    path = start.from_.replace("*", _ANYTHING)
    seen = [path]
    while len(seen) <= MOST:
        hit = next((redirect for redirect in redirects if covers(redirect, path)), None)
        if hit is None:
            return None
        target = urlsplit(_target(hit, path))
        if target.hostname is not None and target.hostname not in hosts:
            return None
        path = target.path or "/"
        seen.append(path)
        if path in seen[:-1]:
            break
    return tuple(one.replace(_ANYTHING, "*") for one in seen)


def _target(redirect: Redirect, path: str) -> str:
    if not redirect.to.endswith("/*"):
        return redirect.to
    return redirect.to[:-1] + path[len(redirect.from_) - 1 :]
