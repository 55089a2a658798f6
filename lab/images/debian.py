"""The Debian nodes: a minimal Debian, a local repository beside it, and a layer that points apt at it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..host import run
from .apt import APT_OPTIONS, apt_env, bootstrap, fill_pool, overlay
from .cache import Artefact

# What a freshly installed server has, and no more.
BASE_PACKAGES = (
    "systemd systemd-sysv dbus libpam-systemd openssh-server sudo ca-certificates curl iproute2 procps git acl "
    "cron logrotate rsync netbase python3 openssl gzip tar unzip iputils-ping nftables"
).split()

# What can be installed in a node without any network.
POOL_PACKAGES = (
    "nginx php8.2-fpm php8.2-cli php8.2-mysql php8.2-pgsql php8.2-redis php8.2-opcache php8.2-mbstring php8.2-xml "
    "php8.2-curl php8.2-zip php8.2-gd php8.2-bcmath php8.2-intl mariadb-server mariadb-client postgresql "
    "postgresql-client redis-server caddy certbot python3-certbot-nginx firewalld policycoreutils-python-utils "
    "fcgiwrap gitolite3 libfaketime supervisor"
).split()


def _build_base(out: Path, _inputs: Mapping[str, Path]) -> None:
    bootstrap(out, BASE_PACKAGES)
    (out / "srv/pool").mkdir()


def _build_pool(out: Path, inputs: Mapping[str, Path]) -> None:
    fill_pool(inputs["debian-base"], out, POOL_PACKAGES)


def _build_debian12(out: Path, inputs: Mapping[str, Path]) -> None:
    """A thin layer: the local repository as the only source, its lists already read."""
    pool = inputs["debian-pool"]
    with overlay([inputs["debian-base"]], out, [(pool, "/srv/pool")]) as root:
        (root / "etc/apt/sources.list.d/lab.list").write_text("deb [trusted=yes] file:/srv/pool ./\n")
        run("chroot", root, "apt-get", *APT_OPTIONS, "update", env=apt_env())
        run("chroot", root, "apt-cache", "gencaches", env=apt_env())


BASE = Artefact("debian-base", _build_base, ("debian.py", "apt.py"))
POOL = Artefact("debian-pool", _build_pool, ("debian.py", "apt.py"), (BASE,))
DEBIAN12 = Artefact("debian12", _build_debian12, ("debian.py", "apt.py"), (BASE, POOL))
