"""What Enterprise Linux 8, 9 and 10 have in common.

PHP comes from Remi's software collections, the only packages there of which several versions live side by side.
Units are installed disabled and stopped (systemd presets), and there is neither sites-available nor sites-enabled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from reconciler.platforms import host
from reconciler.platforms.model import (
    CADDY,
    Certbot,
    MariaDb,
    Nginx,
    Php,
    Platform,
    PostgreSql,
    Redis,
    Repository,
    SELinux,
    Stream,
)

_PHP_PARTS = (
    "fpm",
    "cli",
    "common",
    "mysqlnd",
    "pgsql",
    "opcache",
    "mbstring",
    "xml",
    "gd",
    "bcmath",
    "intl",
)

# offered as collections for EL 8, 9 and 10 alike (github.com/remicollet/remirepo, issue 276)
PHP = Php(
    versions=("7.4", "8.0", "8.1", "8.2", "8.3", "8.4"),
    packages=(*(f"php{{nn}}-php-{part}" for part in _PHP_PARTS), "php{nn}-php-pecl-zip"),
    binary="/opt/remi/php{nn}/root/usr/sbin/php-fpm",
    unit="php{nn}-php-fpm.service",
    started_by_package=False,
)

NGINX = Nginx(
    package="nginx",
    unit="nginx.service",
    user="nginx",
    group="nginx",
    include="/etc/nginx/conf.d",
    site_file="/etc/nginx/conf.d/panel-{site}.conf",
    enabled_link="",
    enabled_target="",
    unwanted=(),
    logs="/var/log/nginx",
    cache="/var/lib/nginx",
    http2="listen",
    rejects_handshakes=True,
)

REDIS = Redis(
    package="redis",
    unit="redis.service",
    binary="/usr/bin/redis-server",
    extension="php{nn}-php-pecl-redis6",
)
# the only one that Enterprise Linux 10 has; it speaks the same protocol
VALKEY = replace(REDIS, package="valkey", unit="valkey.service", binary="/usr/bin/valkey-server")
# A node that was set up before streams were chosen keeps its nginx: 1.14 on EL 8, 1.20 on EL 9. EL 10 has 1.26.
_OLDEST = {8: replace(NGINX, rejects_handshakes=False), 10: replace(NGINX, http2="directive")}

SELINUX_PACKAGES = ("policycoreutils", "policycoreutils-python-utils", "checkpolicy", "audit")
"""policycoreutils brings semodule_package, semodule and restorecon, the Python tools semanage."""


def platform(
    major: int,
    *,
    mariadb: str,
    postgresql: str,
    open_root: bool,
    streams: Mapping[str, Stream] | None = None,
) -> Platform:
    """Enterprise Linux `major`; the database servers are named by their packages, `streams` are enabled before."""
    epel = Repository(
        "epel-release", f"https://dl.fedoraproject.org/pub/epel/epel-release-latest-{major}.noarch.rpm"
    )
    return Platform(
        name=f"el{major}",
        os_id="almalinux",
        os_version=str(major),
        package_manager="dnf",
        packages=("logrotate",),
        streams=streams or {},
        php_repositories=(
            epel,
            Repository("remi-release", f"https://rpms.remirepo.net/enterprise/remi-release-{major}.rpm"),
        ),
        web_repositories={"caddy": (epel,)},
        nologin="/sbin/nologin",
        php=PHP,
        nginx=_OLDEST.get(major, NGINX),
        caddy=CADDY if major < 10 else None,  # EL 10 has it in a COPR only, which no package brings
        certbot=Certbot(
            package="certbot",
            timer="certbot-renew.timer",
            service="certbot-renew.service",
            repositories=(epel,),
        ),
        mariadb=MariaDb(
            package=mariadb,
            unit="mariadb.service",
            socket="/var/lib/mysql/mysql.sock",
            config="/etc/my.cnf.d/zz-panel.cnf",
            open_root=open_root,
        ),
        postgresql=PostgreSql(
            package=postgresql,
            unit="postgresql.service",
            process="postgresql.service",
            data="/var/lib/pgsql/data",
            setup="el",
            hba="/var/lib/pgsql/data/pg_hba.conf",
            hba_mode="0600",
            tls=False,
        ),
        redis=REDIS if major < 10 else VALKEY,
        selinux=SELinux(
            mode="enforcing",
            packages=SELINUX_PACKAGES,
            run="/run" if major >= 10 else "/var/run",
            # rm is of the type of any program, which is no way into a domain; `nginx -t` is
            nginx_resets=("ExecStartPre=", "ExecStartPre=/usr/sbin/nginx -t"),
        ),
        host=host.enterprise_linux(major),
    )
