"""Rules within one manifest that a field's type cannot say. Pure: manifest in, findings out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reconciler.desired import caddy, deploying, host, serving, tls, windows
from reconciler.desired.findings import Finding, Path
from reconciler.desired.kinds import Database, Resource, Rollout, Server, Site
from reconciler.desired.kinds.common import MOVED_FROM
from reconciler.desired.scalars import size
from reconciler.kit.text import did_you_mean
from reconciler.platforms import for_os

_OWN_PREFIX = "reconciler/"
_ANNOTATIONS = (MOVED_FROM,)

_COMMON = frozenset(
    {"ALL", "SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "REFERENCES", "TRIGGER", "EXECUTE"}
)
PRIVILEGES = {
    "mariadb": _COMMON | {"ALTER", "DROP", "INDEX", "LOCK TABLES", "CREATE TEMPORARY TABLES", "CREATE VIEW", "SHOW VIEW", "EVENT"},
    "postgresql": _COMMON | {"CONNECT", "TEMPORARY", "TRUNCATE"},
}  # fmt: skip
"""What can be granted on a database: MariaDB, "GRANT", database level; PostgreSQL, table 5.2 "Summary of Access Privileges"."""

_SYSTEM_DATABASES = {
    "mariadb": frozenset({"mysql", "information_schema", "performance_schema", "sys"}),
    "postgresql": frozenset({"postgres", "template0", "template1"}),
}
_SYSTEM_USERS = {
    "mariadb": frozenset({"root", "mysql", "mariadb", "public"}),
    "postgresql": frozenset(
        {"postgres", "public", "none", "current_user", "session_user", "current_role", "user"}
    ),
}

LEAST_REDIS = "4M"
"""What the data of a Redis needs at least: an empty one counts about 1 MiB."""
LEAST_MEMORY = "32M"
"""What the programs of a site need at least, all together."""
LEAST_DISK = "16M"
"""What the files of an empty site, its logs and its sessions need at least."""
ENV_OF_SITE = "APP_URL"
ENV_OF_REDIS = ("REDIS_HOST", "REDIS_PORT", "REDIS_SOCKET")
ENV_OF_DATABASE = ("CONNECTION", "HOST", "PORT", "SOCKET", "DATABASE", "USERNAME", "PASSWORD")
"""With the database's prefix and an underscore before them: what the daemon writes into a site's `.env`."""


def check(manifest: Resource) -> Iterator[Finding]:
    """All findings of one manifest by itself."""
    yield from _annotations(manifest)
    match manifest:
        case Server():
            yield from _server(manifest)
        case Site():
            yield from _site(manifest)
        case Database():
            yield from _database(manifest)
        case Rollout():
            yield from _rollout(manifest)


def _annotations(manifest: Resource) -> Iterator[Finding]:
    """A misspelt annotation of ours would be silently without effect: a rename would become a deletion."""
    for name, value in manifest.metadata.annotations.items():
        path = ("metadata", "annotations", name)
        if name.startswith(_OWN_PREFIX) and name not in _ANNOTATIONS:
            hint = did_you_mean(name, _ANNOTATIONS) or f"known: {', '.join(_ANNOTATIONS)}"
            yield Finding(path, "unknown-annotation", f"{name} is no known annotation", hint, at_key=True)
        if name == MOVED_FROM and value == manifest.name:
            message = f"{MOVED_FROM} names the resource itself"
            yield Finding(path, "moved-from", message, "write its former name, or remove the annotation")


def _server(server: Server) -> Iterator[Finding]:
    yield from caddy.server(server)
    yield from host.check(server)
    offered = for_os(server.spec.os.value).php_versions
    for place, version in enumerate(server.spec.software.php):
        if version not in offered:
            yield Finding(
                ("spec", "software", "php", place),
                "php-not-offered",
                f"PHP {version} cannot be installed on {server.spec.os.value}",
                f"it offers {', '.join(offered)}",
            )


def _site(site: Site) -> Iterator[Finding]:
    if site.spec.domain in site.spec.aliases:
        path: Path = ("spec", "aliases", site.spec.aliases.index(site.spec.domain))
        yield Finding(
            path, "alias-is-domain", f"{site.spec.domain} is the site's main domain", "remove the alias"
        )
    for name in site.spec.env:
        if name == ENV_OF_SITE or name.startswith("DB_"):
            yield reserved_env(name, "the daemon")
        if site.spec.redis is not None and name in ENV_OF_REDIS:
            yield reserved_env(name, "the daemon")
    yield from _app_type(site)
    yield from serving.check(site)
    yield from deploying.check(site)
    yield from tls.check(site)
    yield from _limits(site)
    yield from _names_twice("cron", [job.name for job in site.spec.cron])
    yield from _names_twice("workers", [worker.name for worker in site.spec.workers])


def _app_type(site: Site) -> Iterator[Finding]:
    """What a kind of application needs, and what means nothing to it."""
    spec = site.spec
    if spec.runs_php and spec.php_version is None:
        message = f"spec.phpVersion is missing: appType {spec.app_type} runs PHP"
        yield Finding(("spec", "phpVersion"), "missing-field", message, 'write a version, such as "8.2"')
    if spec.app_type == "proxy":
        if spec.proxy is None:
            message = "spec.proxy is missing: appType proxy hands requests on"
            hint = "write where to, such as `proxy: {upstream: http://127.0.0.1:3000}`"
            yield Finding(("spec", "proxy"), "missing-field", message, hint)
        if spec.document_root is not None:
            message = "spec.documentRoot means nothing to appType proxy, which serves no files"
            yield Finding(("spec", "documentRoot"), "other-app-type", message, "remove it", at_key=True)
    elif spec.proxy is not None:
        message = f"spec.proxy means nothing to appType {spec.app_type}"
        hint = "remove it, or write `appType: proxy`"
        yield Finding(("spec", "proxy"), "other-app-type", message, hint, at_key=True)


def _limits(site: Site) -> Iterator[Finding]:
    if site.spec.redis is not None:
        yield from _redis_memory(site)
    spec, path = site.spec, ("spec", "limits", "memory")
    if spec.limits.disk is not None and size(spec.limits.disk) < size(LEAST_DISK):
        message = f"spec.limits.disk is {spec.limits.disk}, which no site fits into"
        yield Finding(("spec", "limits", "disk"), "out-of-range", message, f"write {LEAST_DISK} or more")
    if spec.limits.memory is None:
        return
    if size(spec.limits.memory) < size(LEAST_MEMORY):
        message = f"spec.limits.memory is {spec.limits.memory}, with which no program starts"
        yield Finding(path, "out-of-range", message, f"write {LEAST_MEMORY} or more")
    elif spec.runs_php and size(spec.limits.memory) < size(spec.php.memory_limit):
        message = f"spec.limits.memory is {spec.limits.memory}, and one request alone may use {spec.php.memory_limit}"
        hint = "raise it, or lower spec.php.memoryLimit"
        yield Finding(path, "memory-of-one-request", message, hint, severity="warning")


def _redis_memory(site: Site) -> Iterator[Finding]:
    spec = site.spec
    assert spec.redis is not None  # noqa: S101 - the caller's condition
    path, wanted = ("spec", "redis", "memory"), size(spec.redis.memory)
    if wanted < size(LEAST_REDIS):
        message = f"spec.redis.memory is {spec.redis.memory}, in which no data fits"
        yield Finding(path, "out-of-range", message, f"write {LEAST_REDIS} or more")
    elif spec.limits.memory is not None and wanted >= size(spec.limits.memory):
        message = f"spec.redis.memory is {spec.redis.memory}, and the whole site has {spec.limits.memory}"
        yield Finding(path, "out-of-range", message, "lower it, or raise spec.limits.memory")


def _names_twice(field: str, names: Sequence[str]) -> Iterator[Finding]:
    for place, name in enumerate(names):
        if name in names[:place]:
            message = f"another one of spec.{field} is called {name} too"
            yield Finding(("spec", field, place, "name"), "name-twice", message, "rename one of them")


def reserved_env(name: str, owner: str) -> Finding:
    """The finding for a variable that somebody else sets."""
    message = f"{name} is set by {owner}"
    return Finding(
        ("spec", "env", name), "reserved-env", message, "remove it, or choose another name", at_key=True
    )


def _database(database: Database) -> Iterator[Finding]:
    spec = database.spec
    if spec.name in _SYSTEM_DATABASES[spec.engine]:
        message = f"{spec.name} is a database of {spec.engine} itself"
        yield Finding(("spec", "name"), "reserved-name", message, "choose another name")
    if spec.username in _SYSTEM_USERS[spec.engine] or (
        spec.engine == "postgresql" and spec.username.startswith("pg_")
    ):
        message = f"{spec.username} is a name of {spec.engine} itself"
        yield Finding(("spec", "username"), "reserved-name", message, "choose another name")
    for place, network in enumerate(spec.remote_access):
        if spec.engine == "mariadb" and ":" in network and not network.endswith("/128"):
            message = f"MariaDB knows no networks of IPv6, such as {network}"
            yield Finding(
                ("spec", "remoteAccess", place), "other-engine", message, "name the single addresses"
            )
    if "ALL" in spec.privileges and len(spec.privileges) > 1:
        yield Finding(
            ("spec", "privileges"),
            "privileges",
            "ALL stands alone in privileges",
            "remove ALL, or all the others",
        )
    for place, privilege in enumerate(spec.privileges):
        if privilege not in PRIVILEGES[spec.engine]:
            message = f"{spec.engine} has no privilege {privilege}"
            hint = f"it has {', '.join(sorted(PRIVILEGES[spec.engine]))}"
            yield Finding(("spec", "privileges", place), "privileges", message, hint)


def _rollout(rollout: Rollout) -> Iterator[Finding]:
    spec = rollout.spec
    for field, items in (("waves", spec.waves), ("windows", spec.windows)):
        yield from _names_twice(field, [item.name for item in items])
    for place, window in enumerate(spec.windows):
        if windows.zone(window.timezone) is None:
            message = f"there is no time zone {window.timezone}"
            path: Path = ("spec", "windows", place, "timezone")
            hint = (
                windows.meant(window.timezone) or "write a name of the IANA time zones, such as Europe/Berlin"
            )
            yield Finding(path, "unknown-time-zone", message, hint)
    for place in windows.never_open(spec.windows):
        message = f"the window {spec.windows[place].name} never opens: windows that deny cover it"
        yield Finding(
            ("spec", "windows", place, "name"), "never-opens", message, "shorten them, or remove it"
        )
