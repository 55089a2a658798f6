"""sha256 of files, remembered by (device, inode, size, mtime, ctime).

A user cannot set a ctime, so an equal key means an equal body, unless the file was changed twice within one tick of
the kernel's clock; so a file is remembered only when its ctime lies a while back.
"""

import hashlib
import os
import threading
import time
from typing import Any, Dict

from . import atomic, places

CACHE = places.STATE + "/cache.json"
_SETTLED_SECONDS = 2.0
_MOST = 200000


def _key(info: os.stat_result) -> str:
    return "{}:{}:{}:{}:{}".format(info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)


def of_descriptor(fd: int) -> str:
    """sha256 of everything from the descriptor's position to the end."""
    digest = hashlib.sha256()
    while True:
        block = os.read(fd, 1024 * 1024)
        if not block:
            return digest.hexdigest()
        digest.update(block)


class Cache:
    """What survives between conversations: hashes of files and the last package list."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed = False
        self._used: Dict[str, str] = {}
        self.packages: Dict[str, Any] = {}
        self._files: Dict[str, str] = {}
        try:
            kept = atomic.load_json(CACHE)
        except (OSError, ValueError):
            kept = None  # a cache may be lost at any time
        if isinstance(kept, dict) and isinstance(kept.get("files"), dict):
            self._files = kept["files"]
            self.packages = kept.get("packages") or {}

    def of_file(self, fd: int) -> str:
        """sha256 of an open regular file's whole body."""
        info = os.fstat(fd)
        key = _key(info)
        known = self._files.get(key)
        if known is None:
            os.lseek(fd, 0, os.SEEK_SET)
            known = of_descriptor(fd)
            if _key(os.fstat(fd)) != key or abs(time.time() - info.st_ctime) < _SETTLED_SECONDS:
                return known
            with self._lock:
                self._files[key] = known
                self._changed = True
        self._used[key] = known
        return known

    def known(self, info: os.stat_result) -> str:
        """The remembered sha256 of a file of which only the stat is at hand, or an empty text."""
        key = _key(info)
        known = self._files.get(key, "")
        if known:
            self._used[key] = known
        return known

    def remember_packages(self, value: Dict[str, Any]) -> None:
        """Keep the package list together with the fingerprint of the database that it came from."""
        self.packages = value
        self._changed = True

    def save(self) -> None:
        """Write the cache if it changed; a failure is no fault, the cache only saves time."""
        if not self._changed:
            return
        self._changed = False
        files = self._files if len(self._files) <= _MOST else self._used
        try:
            atomic.save_json(CACHE, {"files": files, "packages": self.packages}, durable=False)
        except OSError:
            return
