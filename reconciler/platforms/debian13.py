"""Debian 13."""

from __future__ import annotations

from reconciler.platforms.debian import platform

DEBIAN13 = platform(13, php="8.4", postgresql="17", http2="directive")
