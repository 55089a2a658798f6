"""PHP in the layout of Remi's collections: /opt/remi/phpNN, /etc/opt/remi/phpNN, /var/opt/remi/phpNN, phpNN-php-*."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from .rpmkit import Dir, Rpm, add_user

Files = list[tuple[Path, str]]
RELEASE = "1.el9.remi"

# extensions in php-common; on EL they come with php-common, php-process and php-pdo
COMMON = (
    *(
        "pdo",
        "calendar",
        "ctype",
        "curl",
        "exif",
        "ffi",
        "fileinfo",
        "ftp",
        "gettext",
        "iconv",
        "phar",
        "posix",
    ),
    *("readline", "shmop", "sockets", "sysvmsg", "sysvsem", "sysvshm", "tokenizer"),
)
COMMON_PROVIDES = (
    "process",
    "pdo",
    "curl",
    "ctype",
    "fileinfo",
    "json",
    "openssl",
    "tokenizer",
    "readline",
    "phar",
)

# package suffix -> (extensions, other names it answers to)
EXTENSIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "mysqlnd": (("mysqlnd", "mysqli", "pdo_mysql"), ("mysqli", "pdo_mysql")),
    "pgsql": (("pgsql", "pdo_pgsql"), ("pdo_pgsql",)),
    "opcache": (("opcache",), ()),
    "mbstring": (("mbstring",), ()),
    "xml": (
        ("dom", "simplexml", "xml", "xmlreader", "xmlwriter", "xsl"),
        ("dom", "simplexml", "xmlreader", "xsl"),
    ),
    "gd": (("gd",), ()),
    "bcmath": (("bcmath",), ()),
    "intl": (("intl",), ()),
    "pecl-zip": (("zip",), ("zip",)),
    "pecl-igbinary": (("igbinary",), ("igbinary",)),
    "pecl-redis6": (("redis",), ("pecl-redis", "redis")),
}
NEEDS = {"pecl-redis6": "pecl-igbinary"}
# the order of loading is that of the file names
ORDER = {"opcache": 10, "mysqlnd": 10, "pdo": 10, "igbinary": 40, "redis": 50}


def php_packages(
    short: str, version: str, tree: Path, patch: Callable[[Iterable[tuple[Path, str]]], Files]
) -> list[Rpm]:
    """The packages of one PHP. `short` is like "82"; `patch` adapts the programs' libraries, or does nothing."""
    name = f"php{short}"
    state, config = f"/var/opt/remi/{name}", f"/etc/opt/remi/{name}"
    usr = f"/opt/remi/{name}/root/usr"
    api = next((tree / "usr/lib/php").glob("20*"))  # the folder of the extensions, named by PHP's API version
    fill = {"@PHP@": name}
    common = f"{name}-php-common = {version}-{RELEASE}"

    def modules(names: Iterable[str]) -> Files:
        found = [(api / f"{x}.so", f"{usr}/lib64/php/modules/{x}.so") for x in names]
        return patch([(source, place) for source, place in found if source.exists()])

    def settings(names: Iterable[str]) -> dict[str, str]:
        return {
            f"{config}/php.d/{ORDER.get(x, 20)}-{x}.ini": f"{'zend_' if x == 'opcache' else ''}extension={x}.so\n"
            for x in names
            if (api / f"{x}.so").exists()
        }

    package = partial(Rpm, "remi", version=version, release=RELEASE, replace=fill)
    packages = [
        Rpm(
            *("remi", f"{name}-runtime", f"{short[0]}.{short[1:]}", RELEASE),
            static=("php-runtime",),
            replace=fill,
            dirs=[Dir(state), *(Dir(f"{state}/{x}") for x in ("lib", "log", "run"))],
        ),
        package(
            name=f"{name}-php-common",
            requires=(f"{name}-runtime",),
            provides=[f"{name}-php-{x} = {version}-{RELEASE}" for x in COMMON_PROVIDES],
            tree=modules(COMMON),
            text=settings(x for x in COMMON if x != "ffi"),
            static=("php-common",),
        ),
        package(
            name=f"{name}-php-cli",
            requires=(common,),
            tree=patch([(next((tree / "usr/bin").glob("php?.?")), f"{usr}/libexec/php")]),
            links={f"/usr/bin/{name}": f"{usr}/bin/php"},
            static=("php-cli",),
        ),
        package(
            name=f"{name}-php-fpm",
            requires=(common,),
            units=(f"{name}-php-fpm.service",),
            pre=add_user("apache", "/usr/share/httpd"),
            tree=patch([(next((tree / "usr/sbin").glob("php-fpm*")), f"{usr}/libexec/php-fpm")]),
            dirs=(
                Dir(f"{state}/run/php-fpm"),
                Dir(f"{state}/log/php-fpm", "770", "apache", "root"),
                Dir(f"{state}/lib/php/session", "770", "root", "apache"),
                Dir(f"/etc/systemd/system/{name}-php-fpm.service.d"),
            ),
            static=("php-fpm",),
        ),
        package(
            name=f"{name}-php",
            requires=(common, *(f"{name}-php-{x} = {version}-{RELEASE}" for x in ("cli", "fpm"))),
            dirs=(Dir(f"{usr}/share/php"),),
        ),
    ]
    for part, (extensions, others) in EXTENSIONS.items():
        needs = [common, *([f"{name}-php-{NEEDS[part]}"] if part in NEEDS else [])]
        provides = [f"{name}-php-{x} = {version}-{RELEASE}" for x in others]
        packages.append(
            package(
                name=f"{name}-php-{part}",
                requires=needs,
                provides=provides,
                tree=modules(extensions),
                text=settings(extensions),
            )
        )
    return packages
