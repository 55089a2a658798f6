"""The shape of a platform. Every text is a name or a path on the node; `{version}` and `{nn}` stand for a PHP version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, assert_never

from reconciler.platforms.host import Host

Http2 = Literal["listen", "directive"]


@dataclass(frozen=True)
class Repository:
    """A package that brings a repository, and where it is when no enabled repository offers it."""

    package: str
    url: str


@dataclass(frozen=True)
class Stream:
    """A module of dnf, and the stream of it that is enabled."""

    module: str
    stream: str


@dataclass(frozen=True)
class Php:
    """Where PHP is. In the templates `{version}` is `8.2` and `{nn}` is `82`.

    `started_by_package` tells that installing `unit` also starts it: it serves no site here and is stopped.
    """

    versions: tuple[str, ...]
    packages: tuple[str, ...]
    binary: str
    unit: str
    started_by_package: bool

    def packages_of(self, version: str) -> tuple[str, ...]:
        """Names of the packages of one version."""
        return tuple(_filled(p, version) for p in self.packages)

    def binary_of(self, version: str) -> str:
        """Path of php-fpm of one version."""
        return _filled(self.binary, version)

    def unit_of(self, version: str) -> str:
        """The distribution's own unit of one version."""
        return _filled(self.unit, version)


def _filled(template: str, version: str) -> str:
    return template.format(version=version, nn=version.replace(".", ""))


@dataclass(frozen=True)
class WebServer:
    """What every web server has: its package and unit, the account that must reach sites' files and sockets, its logs."""

    package: str
    unit: str
    user: str
    group: str
    logs: str


@dataclass(frozen=True)
class Nginx(WebServer):
    """Where nginx is and how virtual hosts are named.

    `site_file` is a template with `{site}` and `{domain}`; `enabled_link`, where there is one, the symlink that
    switches such a file on and `enabled_target` what it points at. `unwanted` are files of the distribution that
    would answer for unknown hosts. `cache` exists after installation; nginx makes one folder a site below it.
    `http2` is how HTTP/2 is switched on: by a word of `listen`, or by a directive of its own (nginx 1.25.1 and later).
    `rejects_handshakes`: it knows `ssl_reject_handshake` (nginx 1.19.4 and later).
    """

    include: str
    site_file: str
    enabled_link: str
    enabled_target: str
    unwanted: tuple[str, ...]
    cache: str
    http2: Http2
    rejects_handshakes: bool


@dataclass(frozen=True)
class Certbot:
    """Where certbot is. `timer` starts `service`, which renews what is due. `repositories` bring the package."""

    package: str
    timer: str
    service: str
    repositories: tuple[Repository, ...]


@dataclass(frozen=True)
class Caddy(WebServer):
    """Where caddy is. `config` is the one file that its unit reads, `admin` the socket that a reload goes through.

    `packages` are what else it takes: nft hands the ports over when a server changes between web servers.
    """

    config: str
    admin: str
    packages: tuple[str, ...]


CADDY = Caddy(
    package="caddy",
    unit="caddy.service",
    user="caddy",
    group="caddy",
    logs="/var/log/caddy",
    config="/etc/caddy/Caddyfile",
    admin="/run/caddy/admin.sock",
    packages=("nftables",),
)
"""As the upstream project, Debian and EPEL package it alike."""


@dataclass(frozen=True)
class MariaDb:
    """Where MariaDB is. `config` sorts after the distribution's files, so that it wins.

    `open_root` tells that a fresh installation has a root account without password that every local user can be.
    """

    package: str
    unit: str
    socket: str
    config: str
    open_root: bool


@dataclass(frozen=True)
class PostgreSql:
    """Where PostgreSQL is. `setup` is how a cluster is made: `el` by postgresql-setup, `none` by the package.

    `process` is the unit whose main process is the server; `unit` may only hand on what it is told.
    `tls`: a cluster comes with a certificate and encrypts what clients ask it to.
    """

    package: str
    unit: str
    process: str
    data: str
    setup: str
    hba: str
    hba_mode: str
    tls: bool


@dataclass(frozen=True)
class Redis:
    """Where Redis, or Valkey, is. `extension` is the package of PHP's extension for it, a template as in Php. Sites have
    units of their own; `unit` is the package's."""

    package: str
    unit: str
    binary: str
    extension: str

    def extension_of(self, version: str) -> str:
        """Name of the package of PHP's extension for one version."""
        return _filled(self.extension, version)


@dataclass(frozen=True)
class SELinux:
    """How SELinux is there. `packages` are what building and installing a policy module takes, and the audit daemon.

    `mode` is what a Server that does not say is taken to declare. `run` is where the policy looks run-time files up.
    `nginx_resets` are lines that take programs out of the web server's unit which its domain could not start.
    """

    mode: str
    packages: tuple[str, ...]
    run: str
    nginx_resets: tuple[str, ...]

    def declared(self, mode: str | None) -> str:
        """What a Server declares whose manifest says `mode`, or nothing of it."""
        return mode or self.mode


@dataclass(frozen=True)
class Platform:
    """One operating system in one major version. `os_id` and `os_version` as os-release(5) has them.

    `web_repositories` bring web servers that the distribution itself lacks, by their package. `caddy` is None where no
    repository that is a package offers it.
    `streams` are the module streams by piece of software; empty where there are no modules, or the plain package serves.
    """

    name: str
    os_id: str
    os_version: str
    package_manager: str
    packages: tuple[str, ...]
    php_repositories: tuple[Repository, ...]
    web_repositories: Mapping[str, tuple[Repository, ...]]
    nologin: str
    php: Php
    nginx: Nginx
    caddy: Caddy | None
    certbot: Certbot
    mariadb: MariaDb
    postgresql: PostgreSql
    redis: Redis
    selinux: SELinux
    host: Host
    streams: Mapping[str, Stream] = field(default_factory=dict)

    def web(self, name: Literal["nginx", "caddy"]) -> WebServer:
        """The web server that a Server's `spec.webServer` names. Whoever needs its account, unit or logs asks this.

        Raises ValueError for one that the platform does not offer.
        """
        match name:
            case "nginx":
                return self.nginx
            case "caddy":
                return self.offered_caddy
            case _:
                assert_never(name)

    @property
    def offered_caddy(self) -> Caddy:
        """caddy, where the platform offers it. Raises ValueError where it does not."""
        if self.caddy is None:
            raise ValueError(f"caddy cannot be installed on {self.name}")
        return self.caddy

    @property
    def php_versions(self) -> tuple[str, ...]:
        """PHP versions a Server of this platform may install."""
        return self.php.versions
