"""What a server's manifest has installed: the pieces of software, and the packages that each of them is.

A piece is named as in steps and records: `php-8.2`, `nginx`, `mariadb`. What is declared no longer is uninstalled piece by
piece; packages of no piece, which the daemon itself needs, stay.
"""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.blueprint import host, selinux, steps, web
from reconciler.blueprint.model import Step
from reconciler.desired.kinds import Server
from reconciler.platforms import Platform


def pieces(server: Server, platform: Platform) -> dict[str, tuple[str, ...]]:
    """The packages of each piece of software that `server` declares, in the order of installation."""
    spec = server.spec
    found: dict[str, tuple[str, ...]] = {spec.web_server: web.packages(server, platform)[:1]}
    for version in sorted(spec.software.php):
        found[f"php-{version}"] = platform.php.packages_of(version)
    if "mariadb" in spec.database_engines:
        found["mariadb"] = (platform.mariadb.package,)
    if "postgresql" in spec.database_engines:
        found["postgresql"] = (platform.postgresql.package,)
    if spec.software.redis:
        extensions = (platform.redis.extension_of(version) for version in sorted(spec.software.php))
        found["redis"] = (platform.redis.package, *extensions)
    return found


def streams(server: Server, platform: Platform) -> Iterator[Step]:
    """The module streams that those packages come from, where there are modules."""
    for piece, names in pieces(server, platform).items():
        stream = platform.streams.get(piece)
        if stream is not None:
            yield steps.module(stream.module, stream.stream, names[0])


def packages(server: Server, platform: Platform) -> dict[str, str]:
    """The packages of a server in the order of installation, each with its piece of software or an empty text."""
    found = dict.fromkeys(platform.packages, "")
    for piece, names in pieces(server, platform).items():
        for name in names:
            found.setdefault(name, piece)
    for name in web.packages(server, platform):
        found.setdefault(name, "")
    if server.spec.acme is not None:
        found.setdefault(platform.certbot.package, "")
    if selinux.in_use(server, platform):
        for name in platform.selinux.packages:
            found.setdefault(name, "")
    for name in host.packages(server, platform):
        found.setdefault(name, "")
    return found
