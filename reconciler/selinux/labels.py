"""Which label each file of a site is to have: the contexts that its node must know, type and level.

A module's own file contexts cannot do this: below homes those of the system's users come first, and a level belongs to
one site. `semanage fcontext` puts these before all others, where the one that was added last wins; hence the order.
A plain `restorecon` never sets a level, `restorecon -F` does (Enterprise Linux 8 to 10, Debian 12).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

AppType = Literal["laravel", "wordpress", "generic", "static", "proxy"]

SITE_CONTENT = "site_content_t"
WRITABLE = "laravel_app_rw_t"
ENV = "laravel_env_t"
RUNTIME = "laravel_php_fpm_run_t"
REDIS_DATA = "laravel_redis_db_t"
REDIS_RUNTIME = "laravel_redis_run_t"
PHP = "laravel_php_fpm_t"
JOB = "laravel_job_t"
REDIS = "laravel_redis_t"
SITE_DOMAINS = frozenset({PHP, JOB, REDIS})
"""The domains that categories bind: a site's PHP, what its owner has run, and its Redis."""
NGINX = "laravel_nginx_t"

_WRITABLE = ("storage", "tmp", "sessions", "logs")
_WRITABLE_OF_APP: dict[AppType, tuple[str, ...]] = {
    "laravel": ("public_html/storage", "public_html/bootstrap/cache"),
    # uploads, and what its own updater replaces
    "wordpress": ("public_html/wp-content",),
    "generic": (),
    "static": (),
    "proxy": (),
}
_WRITABLE_OF_RELEASE: dict[AppType, tuple[str, ...]] = {
    "laravel": ("storage", "bootstrap/cache"),
    "wordpress": ("wp-content",),
    "generic": (),
    "static": (),
    "proxy": (),
}
_WITHOUT_PHP: frozenset[AppType] = frozenset({"static", "proxy"})


@dataclass(frozen=True)
class Label:
    """`pattern` is an expression for whole paths, as file_contexts(5) has them; `level` is a site's, `s0:c100,c101`."""

    pattern: str
    type: str
    level: str

    @property
    def context(self) -> str:
        """The whole context of a file."""
        return f"system_u:object_r:{self.type}:{self.level}"


def of_site(
    site: str,
    user: str,
    app_type: AppType,
    level: str,
    *,
    run: str = "/run",
    deployed: bool = False,
    redis: bool = False,
) -> tuple[Label, ...]:
    """The labels of a site's files, the general ones first: a later one wins where several fit.

    `deployed`: the site has releases, each with what its kind of application writes to; what they share is writable.
    `redis`: it has a Redis of its own, which alone reaches its data.
    `run` is where the node's policy looks for run-time files: `/var/run` on Enterprise Linux 8 and 9, whose `semanage`
    refuses the other, and `/run` elsewhere. A site without PHP has no folder there.
    """
    home = f"/home/{re.escape(user)}"
    writable = (*_WRITABLE, *_WRITABLE_OF_APP[app_type])
    below_home = (
        Label(f"{home}(/.*)?", SITE_CONTENT, level),
        *(Label(f"{home}/{folder}(/.*)?", WRITABLE, level) for folder in writable),
        *_of_releases(home, app_type, level, deployed=deployed),
        Label(f"{home}/\\.env", ENV, level),
    )
    of_redis = (
        Label(f"{home}/storage/redis(/.*)?", REDIS_DATA, level),
        Label(f"{run}/panel-redis/{re.escape(site)}(/.*)?", REDIS_RUNTIME, level),
    )
    found = (*below_home, *(of_redis if redis else ()))
    if app_type in _WITHOUT_PHP:
        return found
    return (*found, Label(f"{run}/panel-fpm/{re.escape(site)}(/.*)?", RUNTIME, level))


def _of_releases(home: str, app_type: AppType, level: str, *, deployed: bool) -> tuple[Label, ...]:
    if not deployed:
        return ()
    folders = _WRITABLE_OF_RELEASE[app_type]
    return (
        Label(f"{home}/shared(/.*)?", WRITABLE, level),
        *(Label(f"{home}/releases/[^/]+/{folder}(/.*)?", WRITABLE, level) for folder in folders),
    )


def process(level: str, domain: str = PHP) -> str:
    """The context of a site's programs, for `SELinuxContext=` of their units."""
    return f"system_u:system_r:{domain}:{level}"


def wanted(path: str, labels: Iterable[Label]) -> Label | None:
    """The label that a path is to have, or None when none of `labels` speaks of it."""
    if path.startswith("/var/run/"):
        path = path.removeprefix("/var")
    found = None
    for label in labels:
        if re.fullmatch(label.pattern.removeprefix("/var") if _runtime(label) else label.pattern, path):
            found = label
    return found


def _runtime(label: Label) -> bool:
    return label.pattern.startswith("/var/run/")
