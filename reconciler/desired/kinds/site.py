"""Site: a website on a server, with its own system user and PHP processes."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, StringConstraints

from reconciler.desired.kinds.common import DomainName, Kind, Manifest, Model, Name, Spec
from reconciler.desired.kinds.server import PhpVersion


def _relative(value: str) -> str:
    if value.startswith("/") or ".." in value.split("/") or value != value.strip("/"):
        raise ValueError("must be a path below the site's public_html, for example `web`, without `..`")
    return value


DocumentRoot = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9._/-]{1,200}$"), AfterValidator(_relative)
]
EnvName = Annotated[str, StringConstraints(pattern=r"^[A-Z_][A-Z0-9_]{0,127}$")]
EnvValue = Annotated[str, StringConstraints(max_length=4096, pattern=r"^[^\x00\r\n]*$")]
Size = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,6}[KMG]$")]


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


class SiteSpec(Spec):
    """A website: where it runs, what it answers to, how its PHP runs."""

    server: Name = Field(description="Name of the Server that hosts the site.")
    domain: DomainName = Field(description="Main domain; unique in the fleet, also among aliases.")
    aliases: tuple[DomainName, ...] = Field(
        default=(), description="Further domains that show the same site."
    )
    app_type: Literal["wordpress", "laravel", "generic"] = Field(
        default="generic", description="Kind of application; chooses the web server's template."
    )
    php_version: PhpVersion = Field(description='PHP version, quoted (`"8.2"`); the server must install it.')
    document_root: DocumentRoot | None = Field(
        default=None,
        description="Folder below public_html that is served. Default: `public` for laravel, public_html itself otherwise.",
    )
    php: PhpSettings = Field(default_factory=PhpSettings, description="PHP settings.")
    env: dict[EnvName, EnvValue] = Field(
        default_factory=dict,
        description="Further lines of the site's `.env`. Values are never shown in plans. Names the daemon sets (`APP_URL`, `DB_*`) are refused.",
    )
    state: Literal["active", "suspended"] = Field(
        default="active",
        description="`suspended`: every request is answered 503 and PHP is stopped; everything is kept.",
    )


class Site(Manifest):
    """A website on a server."""

    kind_name: ClassVar[Kind] = Kind.SITE
    kind: Literal["Site"]
    spec: SiteSpec
