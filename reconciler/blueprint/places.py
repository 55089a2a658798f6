"""Where the things of one site are on its node, and the numbers that PHP and the web server must agree on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from reconciler.desired.kinds import Site
from reconciler.platforms import Platform, WebServer

TLS = "/etc/panel/tls"
"""Below it a folder a site, with its certificate and key."""
WEBROOT = "/var/lib/panel-sites/acme"
"""Where the answers to a CA's challenges (RFC 8555, 8.3) are put, of all sites of a node."""

_ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]{0,31}\Z")
_SIZE = re.compile(r"([1-9][0-9]{0,6})([KMG])\Z")
_KIB = {"K": 1, "M": 1024, "G": 1024 * 1024}


@dataclass(frozen=True)
class Places:
    """Names and absolute paths of one site; `user` is its system user and group, `web` the web server of its node."""

    site: str
    user: str
    domain: str
    platform: Platform
    web: WebServer
    document_root: str
    deployed: bool = False
    """Releases of a repository are served, not what is in `public_html`."""

    @staticmethod
    def of(site: Site, user: str, platform: Platform, web: WebServer) -> Places:
        """The places of `site`. Raises ValueError for a system user that is not a plain account name."""
        if not is_account(user):
            raise ValueError(f"{site.address}: {user!r} is not a system user's name")
        below = site.spec.document_root or ("public" if site.spec.app_type == "laravel" else "")
        deployed = site.spec.source is not None
        root = f"/home/{user}/{'current' if deployed else 'public_html'}" + (f"/{below}" if below else "")
        return Places(site.name, user, site.spec.domain, platform, web, root, deployed)

    @property
    def home(self) -> str:
        """Home of the system user."""
        return f"/home/{self.user}"

    @property
    def public(self) -> str:
        """The folder of the application."""
        return f"{self.home}/public_html"

    @property
    def application(self) -> str:
        """Where the application is: its folder, or the link to the release that is served."""
        return f"{self.home}/current" if self.deployed else self.public

    @property
    def served_folders(self) -> tuple[str, ...]:
        """The folders between `public` and the document root, outermost first, and the document root itself. Those of a
        release are its own."""
        if self.deployed:
            return ()
        below = (
            self.document_root[len(self.public) + 1 :].split("/") if self.document_root != self.public else []
        )
        return tuple("/".join([self.public, *below[: n + 1]]) for n in range(len(below)))

    @property
    def env(self) -> str:
        """The `.env` file, outside everything that is served."""
        return f"{self.home}/.env"

    @property
    def temporary(self) -> str:
        """Uploads in progress and other temporary files."""
        return f"{self.home}/tmp"  # noqa: S108 - a folder of the site alone

    @property
    def sessions(self) -> str:
        """PHP's session files."""
        return f"{self.home}/sessions"

    @property
    def logs(self) -> str:
        """PHP's error log."""
        return f"{self.home}/logs"

    @property
    def fpm_config(self) -> str:
        """Configuration of the site's own php-fpm."""
        return f"/etc/panel/fpm/{self.site}.conf"

    @property
    def fpm_program(self) -> str:
        """The symlink to php-fpm of the site's version: php-fpm runs it anew at a reload and keeps its socket open."""
        return f"/etc/panel/fpm/{self.site}.php-fpm"

    @property
    def runtime(self) -> str:
        """The folder systemd makes for the socket."""
        return f"/run/panel-fpm/{self.site}"

    @property
    def socket(self) -> str:
        """Where the web server reaches php-fpm."""
        return f"{self.runtime}/php.sock"

    @property
    def redis_config(self) -> str:
        """Configuration of the site's own Redis."""
        return f"/etc/panel/redis/{self.site}.conf"

    @property
    def redis_data(self) -> str:
        """Where it keeps its data over a restart."""
        return f"{self.home}/storage/redis"

    @property
    def redis_runtime(self) -> str:
        """The folder systemd makes for its socket."""
        return f"/run/panel-redis/{self.site}"

    @property
    def redis_socket(self) -> str:
        """Where the site's programs reach it."""
        return f"{self.redis_runtime}/redis.sock"

    @property
    def redis_unit(self) -> str:
        """The unit that runs it."""
        return redis_unit(self.site)

    unit_folder: ClassVar[str] = "/etc/systemd/system"
    """Where the unit files are."""

    def cron(self, job: str) -> str:
        """The units of a cron job, less their suffixes. Names have no underscore, so no two sites' jobs meet in one."""
        return f"panel-cron-{self.site}_{job}"

    def worker(self, worker: str) -> str:
        """The template of a worker's units, less `@` and suffix."""
        return f"panel-worker-{self.site}_{worker}"

    @property
    def build(self) -> str:
        """The template of the unit that builds a release, less `@` and suffix."""
        return f"panel-build-{self.site}"

    @property
    def after(self) -> str:
        """The template of the unit that runs what follows a switch, less `@` and suffix."""
        return f"panel-after-{self.site}"

    @property
    def slice(self) -> str:
        """The slice that all units of the site are in.

        systemd takes a hyphen in the name of a slice for a level below; names of sites have no underscore.
        """
        return f"panel-site-{self.site.replace('-', '_')}.slice"

    @property
    def slice_file(self) -> str:
        """Its unit file."""
        return f"{self.unit_folder}/{self.slice}"

    @property
    def unit(self) -> str:
        """The unit that runs the site's php-fpm."""
        return fpm_unit(self.site)

    @property
    def unit_file(self) -> str:
        """Its unit file."""
        return f"{self.unit_folder}/{self.unit}"

    @property
    def tls(self) -> str:
        """The folder of the site's certificate."""
        return f"{TLS}/{self.site}"

    @property
    def certificate(self) -> str:
        """The site's certificate and those of its CAs, wherever they come from."""
        return f"{self.tls}/fullchain.pem"

    @property
    def certificate_key(self) -> str:
        """Its private key."""
        return f"{self.tls}/privkey.pem"

    @property
    def logrotate(self) -> str:
        """Rotation of the logs in the home."""
        return f"/etc/logrotate.d/panel-{self.site}"


def is_account(name: str) -> bool:
    """Whether a name is a plain account name."""
    return _ACCOUNT.match(name) is not None


def body_limit(upload: str) -> str:
    """Largest request body, in MiB (`17M`), for files up to `upload` (`16M`): the form around a file needs room too."""
    return f"{-(-kib(upload) // 1024) + 1}M"


def kib(size: str) -> int:
    """KiB of a size such as `16M`. ValueError for another text."""
    match = _SIZE.match(size)
    if match is None:
        raise ValueError(f"{size!r} is not a size such as 16M")
    return int(match[1]) * _KIB[match[2]]


def request_seconds(max_execution_time: int) -> int:
    """How long one request may take by the wall clock: PHP's own limit counts only time spent computing."""
    return max_execution_time + 30


def fpm_unit(site: str) -> str:
    """The unit that runs a site's php-fpm."""
    return f"panel-fpm-{site}.service"


def redis_unit(site: str) -> str:
    """The unit that runs a site's Redis."""
    return f"panel-redis-{site}.service"
