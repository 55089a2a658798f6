"""AlmaLinux and Rocky Linux 8."""

from __future__ import annotations

from reconciler.platforms.enterprise_linux import platform

# the default MariaDB module is 10.3, whose root account has an empty password
EL8 = platform(8, mariadb="mariadb-server", postgresql="postgresql-server", open_root=True)
