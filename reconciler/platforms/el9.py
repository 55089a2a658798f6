"""AlmaLinux and Rocky Linux 9."""

from __future__ import annotations

from reconciler.platforms.enterprise_linux import platform

EL9 = platform(9, mariadb="mariadb-server", postgresql="postgresql-server", open_root=False)
