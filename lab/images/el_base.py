"""The lower tree of the Enterprise Linux look-alike: Debian's programs, among them the real dnf and rpm."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .apt import bootstrap
from .cache import Artefact

# What a freshly installed server has.
BASE_PACKAGES = (
    "systemd systemd-sysv dbus libpam-systemd openssh-server sudo ca-certificates curl iproute2 procps git acl cron "
    "logrotate rsync openssl unzip iputils-ping netbase nftables dnf rpm dnf-plugins-core policycoreutils "
    "policycoreutils-python-utils semodule-utils checkpolicy selinux-policy-default firewalld python3 attr perl"
).split()

# Shared libraries of the daemons that come as RPMs; the daemons themselves are not in the base.
LIBRARIES = (
    "libpcre2-8-0 libssl3 zlib1g libxml2 libsodium23 libargon2-1 libcrypt1 libsystemd0 libapparmor1 libacl1 libmagic1 "
    "libonig5 libzip4 libpq5 libldap-2.5-0 libgssapi-krb5-2 libicu72 libxslt1.1 libjemalloc2 liblua5.1-0 liblzf1 "
    "lua-cjson libatomic1 libhiredis0.14 liburing2 libaio1 libnuma1 libsnappy1v5 libpmem1 libncurses6 libedit2 "
    "libreadline8 libllvm14 libnspr4 libdbi-perl libgd3"
).split()

SELINUX_STORES = ("etc/selinux", "var/lib/selinux", "usr/share/selinux")


def _build_base(out: Path, _inputs: Mapping[str, Path]) -> None:
    bootstrap(out, [*BASE_PACKAGES, *LIBRARIES])
    for store in SELINUX_STORES:
        (out / store / "default").rename(out / store / "targeted")
    (out / "srv/el").mkdir()


BASE = Artefact("el-base", _build_base, ("el_base.py", "apt.py"))
