"""Site: a website on a server, with its own system user and PHP processes."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, StringConstraints

from reconciler.desired.kinds.common import (
    PRINTABLE,
    Distinct,
    DomainName,
    Kind,
    Manifest,
    Means,
    Model,
    Name,
    Spec,
)
from reconciler.desired.kinds.drift import Drift
from reconciler.desired.kinds.health import SiteCheck
from reconciler.desired.kinds.jobs import CronJob, Worker
from reconciler.desired.kinds.secrets import MaySeal, Sealed
from reconciler.desired.kinds.server import PhpVersion
from reconciler.desired.kinds.serving import ClientAddress, HeaderName, HeaderValue, Limits, Proxy, Redirect
from reconciler.desired.kinds.source import ApplicationSource
from reconciler.desired.kinds.tls import Tls

AppType = Literal["wordpress", "laravel", "generic", "static", "proxy"]
PHP_TYPES: frozenset[AppType] = frozenset({"wordpress", "laravel", "generic"})
"""The kinds of application that run PHP."""


def _relative(value: str) -> str:
    # An empty part comes from a slash at either end or two in a row.
    if any(part in ("", ".", "..") for part in value.split("/")):
        raise ValueError(
            "must be a path below the site's public_html, such as web/public, without `.` and `..`"
        )
    return value


DocumentRoot = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9._/-]{1,200}$"),
    AfterValidator(_relative),
    Means("relative path", "a path of at most 200 letters, digits, dots, hyphens, underscores and slashes"),
]
EnvName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Z_][A-Z0-9_]{0,127}$"),
    Means("variable name", "at most 128 capital letters, digits and underscores, not beginning with a digit"),
]
_ENV_RULE = "one line of at most 4096 characters, without control characters"
EnvValue = Annotated[
    str | Sealed,
    MaySeal(Annotated[str, StringConstraints(max_length=4096, pattern=PRINTABLE)], _ENV_RULE),
    Means("text", f"{_ENV_RULE}, or {{age: …}}", "texts or {age: …}"),
]
Size = Annotated[
    str,
    StringConstraints(pattern=r"^[1-9][0-9]{0,6}[KMG]$"),
    Means("size", "a whole number and K, M or G, such as 128M"),
]


class PhpSettings(Model):
    """PHP limits of the site; each becomes a `php_admin_value` of its pool."""

    memory_limit: Size = Field(default="128M", description="`memory_limit`: memory one request may use.")
    upload_max_filesize: Size = Field(
        default="16M",
        description="`upload_max_filesize`; `post_max_size` and the web server's body limit follow it.",
    )
    max_execution_time: int = Field(
        default=30, ge=1, le=3600, description="`max_execution_time`, in seconds."
    )
    max_children: int = Field(
        default=5, ge=1, le=500, description="Most PHP processes of the site at one time."
    )


class Redis(Model):
    """A Redis of the site's own."""

    memory: Size = Field(
        default="64M",
        description="Most memory its data may use; what has an expiry goes first when it is full.",
    )


class SiteSpec(Spec):
    """A website: where it runs, what it answers to, how its PHP runs."""

    server: Name = Field(description="Name of the Server that hosts the site.")
    domain: DomainName = Field(description="Main domain; unique in the fleet, also among aliases.")
    aliases: Annotated[tuple[DomainName, ...], Distinct] = Field(
        default=(), description="Further domains that show the same site."
    )
    www: Literal["keep", "add", "strip"] = Field(
        default="keep",
        description="`add`: visitors of the domain are sent on to `www.` and the domain; `strip`: the other way round; both names belong to the site then.",
    )
    redirects: tuple[Redirect, ...] = Field(
        default=(),
        max_length=500,
        description="Requests that are sent elsewhere; the first that fits counts.",
    )
    headers: dict[HeaderName, HeaderValue | None] = Field(
        default_factory=dict,
        max_length=50,
        description="Headers of all answers, beside or instead of those for security that are set anyway; `null`: none of this name is set.",
    )
    client_address: ClientAddress = Field(
        default_factory=ClientAddress, description="How visitors are told apart behind a load balancer."
    )
    tls: Tls = Field(default_factory=Tls, description="Whether and how the site answers over TLS.")
    app_type: AppType = Field(
        default="generic", description="Kind of application; chooses the web server's template."
    )
    php_version: PhpVersion | None = Field(
        default=None,
        description='PHP version, quoted (`"8.2"`); the server must install it. Required but for `static` and `proxy`, where only cron jobs and workers use it.',
    )
    document_root: DocumentRoot | None = Field(
        default=None,
        description="Folder below public_html, or below a release, that is served. Default: `public` for laravel, all of it otherwise.",
    )
    proxy: Proxy | None = Field(
        default=None, description="The application behind a site of appType `proxy`; required there."
    )
    php: PhpSettings = Field(default_factory=PhpSettings, description="PHP settings.")
    limits: Limits = Field(
        default_factory=Limits, description="What all processes of the site together may use."
    )
    redis: Redis | None = Field(
        default=None,
        description="A Redis for this site alone (`{}`: with the defaults), run as its user behind a socket; the server must declare `software.redis`. Absent: none.",
    )
    env: dict[EnvName, EnvValue] = Field(
        default_factory=dict,
        description="Further lines of the site's `.env`, in clear or encrypted: `{age: …}`. Values are never shown in plans. Names the daemon sets (`APP_URL`, `DB_*`) are refused.",
    )
    source: ApplicationSource | None = Field(
        default=None,
        description="Git repository that the application is deployed from. Absent: what is in public_html is served.",
    )
    cron: tuple[CronJob, ...] = Field(
        default=(), max_length=100, description="Commands that run by the clock, as the site's user."
    )
    workers: tuple[Worker, ...] = Field(
        default=(), max_length=50, description="Commands that are always up, as the site's user."
    )
    state: Literal["active", "suspended"] = Field(
        default="active",
        description="`suspended`: every request is answered 503, PHP, cron jobs and workers are stopped; everything is kept.",
    )
    drift: Drift = Field(
        default_factory=Drift,
        description="What happens when the node shows something else than was applied.",
    )
    health_checks: tuple[SiteCheck, ...] = Field(
        default=(), max_length=32, description="What must hold after a change for it to count as healthy."
    )

    @property
    def host(self) -> str:
        """The domain at which visitors end up."""
        bare = self.domain.removeprefix("www.")
        return {"keep": self.domain, "add": f"www.{bare}", "strip": bare}[self.www]

    @property
    def other_host(self) -> str | None:
        """The domain, with or without `www.`, whose visitors are sent on to `host`."""
        bare = self.domain.removeprefix("www.")
        return {"keep": None, "add": bare, "strip": f"www.{bare}"}[self.www]

    @property
    def hosts(self) -> tuple[str, ...]:
        """All domains of the site, `host` first."""
        others = {self.domain, *self.aliases, *([self.other_host] if self.other_host else [])}
        return (self.host, *sorted(others - {self.host}))

    @property
    def shared(self) -> tuple[str, ...]:
        """What all releases of the site share, `.env` apart."""
        if self.source is None or self.source.shared is not None:
            return self.source.shared or () if self.source else ()
        match self.app_type:
            case "laravel":
                return ("storage",)
            case "wordpress":
                return ("wp-content/uploads",)
            case _:
                return ()

    @property
    def url(self) -> str:
        """Where visitors end up."""
        return f"{'https' if self.tls.on else 'http'}://{self.host}"

    @property
    def runs_php(self) -> bool:
        """Whether the site has a php-fpm of its own; it has a PHP version then."""
        return self.app_type in PHP_TYPES


class Site(Manifest):
    """A website on a server."""

    kind_name: ClassVar[Kind] = Kind.SITE
    kind: Literal["Site"] = Field(description="Always `Site`.")
    spec: SiteSpec = Field(description="The website: where it runs, what it answers to, how its PHP runs.")
