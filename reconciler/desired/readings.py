"""Reading the files of a tree; what each held is kept by its content, so that a commit costs what it changed."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.desired.reading import Reading, read_file

MOST_FILES = 60_000
MOST_BYTES = 16 * 1024 * 1024
"""Bytes of the files whose readings are kept; a reading takes about thirty times as many."""


@dataclass
class _Kept:
    reading: Reading
    size: int
    used: int


class Readings:
    """What files hold, by path and content. One object serves all revisions of a fleet, in any thread.

    `count` files of `size` bytes together are kept; those of the revision that is read now stay, the longest unused go
    first. `misses` counts the files that had to be read. A reading that is given out is never changed.
    """

    def __init__(self, count: int = MOST_FILES, size: int = MOST_BYTES) -> None:
        self._count = count
        self._room = size
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        self._size = 0
        self._pass = 0
        self._lock = threading.Lock()
        self.misses = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def size(self) -> int:
        """Bytes of the files whose readings are kept."""
        return self._size

    def read(self, files: Mapping[str, bytes], ids: Mapping[str, str]) -> Reading:
        """As the function `read`. `ids` names contents by path, such as git's object ids; what it lacks is hashed."""
        whole = Reading()
        with self._lock:
            self._pass += 1
            for path in sorted(files):
                content = files[path]
                whole.add(self._of((path, ids.get(path) or _digest(content)), content))
        return whole

    def _of(self, key: tuple[str, str], content: bytes) -> Reading:
        found = self._kept.get(key)
        if found is not None:
            found.used = self._pass
            self._kept.move_to_end(key)
            return found.reading
        self.misses += 1
        reading = read_file(key[0], content)
        if self._make_room(len(content)):
            self._kept[key] = _Kept(reading, len(content), self._pass)
            self._size += len(content)
        return reading

    def _make_room(self, size: int) -> bool:
        """Whether one more file fits; never at the cost of one that the same revision has."""
        while self._kept and (len(self._kept) >= self._count or self._size + size > self._room):
            oldest = next(iter(self._kept))
            if self._kept[oldest].used == self._pass:
                return False
            self._size -= self._kept.pop(oldest).size
        return len(self._kept) < self._count and self._size + size <= self._room


def read(files: Mapping[str, bytes]) -> Reading:
    """All candidates of a tree, in the order of path and line, and the problems of its files."""
    whole = Reading()
    for path in sorted(files):
        whole.add(read_file(path, files[path]))
    return whole


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=20).hexdigest()
