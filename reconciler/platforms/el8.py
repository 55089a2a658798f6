"""AlmaLinux and Rocky Linux 8."""

from __future__ import annotations

from reconciler.platforms.enterprise_linux import platform
from reconciler.platforms.model import Stream

# The newest streams that the distribution offers: its default nginx is 1.14, which cannot refuse TLS handshakes for unknown
# hosts, its default MariaDB 10.3, whose root account has an empty password (what is installed already stays so).
EL8 = platform(
    8,
    mariadb="mariadb-server",
    postgresql="postgresql-server",
    open_root=True,
    streams={
        "nginx": Stream("nginx", "1.24"),
        "mariadb": Stream("mariadb", "10.11"),
        "postgresql": Stream("postgresql", "16"),
        "redis": Stream("redis", "6"),
    },
)
