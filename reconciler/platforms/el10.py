"""AlmaLinux and Rocky Linux 10: no modules any more, the database servers carry their version in the name."""

from __future__ import annotations

from reconciler.platforms.enterprise_linux import platform

EL10 = platform(10, mariadb="mariadb10.11-server", postgresql="postgresql16-server", open_root=False)
