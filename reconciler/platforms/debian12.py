"""Debian 12."""

from __future__ import annotations

from reconciler.platforms.debian import platform

DEBIAN12 = platform(12, php="8.2", postgresql="15", http2="listen")
