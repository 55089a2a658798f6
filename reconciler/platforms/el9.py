"""AlmaLinux and Rocky Linux 9."""

from __future__ import annotations

from reconciler.platforms.enterprise_linux import platform
from reconciler.platforms.model import Stream

EL9 = platform(
    9,
    mariadb="mariadb-server",
    postgresql="postgresql-server",
    open_root=False,
    streams={
        "nginx": Stream("nginx", "1.26"),
        "mariadb": Stream("mariadb", "10.11"),
        "postgresql": Stream("postgresql", "16"),
    },
)
