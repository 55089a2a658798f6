"""What Debian releases have in common: one PHP version each, units started on installation, sites-enabled."""

from __future__ import annotations

from dataclasses import replace

from reconciler.platforms import host
from reconciler.platforms.model import (
    CADDY,
    Certbot,
    Http2,
    MariaDb,
    Nginx,
    Php,
    Platform,
    PostgreSql,
    Redis,
    SELinux,
)

_PHP_PARTS = (
    "fpm",
    "cli",
    "mysql",
    "pgsql",
    "opcache",
    "mbstring",
    "xml",
    "curl",
    "zip",
    "gd",
    "bcmath",
    "intl",
)

NGINX = Nginx(
    package="nginx",
    unit="nginx.service",
    user="www-data",
    group="www-data",
    include="/etc/nginx/conf.d",
    site_file="/etc/nginx/sites-available/{domain}.conf",
    enabled_link="/etc/nginx/sites-enabled/{domain}.conf",
    enabled_target="../sites-available/{domain}.conf",
    unwanted=("/etc/nginx/sites-enabled/default",),
    logs="/var/log/nginx",
    cache="/var/lib/nginx",
    http2="listen",
    rejects_handshakes=True,
)

CERTBOT = Certbot(package="certbot", timer="certbot.timer", service="certbot.service", repositories=())

MARIADB = MariaDb(
    package="mariadb-server",
    unit="mariadb.service",
    socket="/run/mysqld/mysqld.sock",
    config="/etc/mysql/mariadb.conf.d/99-panel.cnf",
    open_root=False,
)

REDIS = Redis(
    package="redis-server",
    unit="redis-server.service",
    binary="/usr/bin/redis-server",
    extension="php{version}-redis",
)

SELINUX = SELinux(
    mode="disabled",
    packages=(
        "selinux-policy-default",
        "policycoreutils",
        "policycoreutils-python-utils",
        "checkpolicy",
        "semodule-utils",
        "auditd",
    ),
    run="/run",
    # start-stop-daemon is of the type of any program, which is no way into a domain
    nginx_resets=("ExecStop=", "KillSignal=SIGQUIT", "TimeoutStopSec=10"),
)


def platform(major: int, *, php: str, postgresql: str, http2: Http2) -> Platform:
    """Debian `major` with the versions of PHP and PostgreSQL that it ships, and how its nginx switches HTTP/2 on."""
    return Platform(
        name=f"debian{major}",
        os_id="debian",
        os_version=str(major),
        package_manager="apt",
        packages=("logrotate",),
        php_repositories=(),
        web_repositories={},
        nologin="/usr/sbin/nologin",
        php=Php(
            versions=(php,),
            packages=tuple(f"php{{version}}-{part}" for part in _PHP_PARTS),
            binary="/usr/sbin/php-fpm{version}",
            unit="php{version}-fpm.service",
            started_by_package=True,
        ),
        nginx=replace(NGINX, http2=http2),
        caddy=CADDY,
        certbot=CERTBOT,
        mariadb=MARIADB,
        postgresql=PostgreSql(
            package=f"postgresql-{postgresql}",
            unit="postgresql.service",  # hands a reload on to postgresql@<version>-main
            process=f"postgresql@{postgresql}-main.service",
            data=f"/var/lib/postgresql/{postgresql}/main",
            setup="none",
            hba=f"/etc/postgresql/{postgresql}/main/pg_hba.conf",
            hba_mode="0640",
            tls=True,  # postgresql-common needs ssl-cert, whose certificate pg_createcluster writes into the configuration
        ),
        redis=REDIS,
        selinux=SELINUX,
        host=host.DEBIAN,
    )
