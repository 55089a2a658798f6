"""Sizes, numbers and times as nginx and PHP write them, in the spelling of manifests."""

from __future__ import annotations

import re

_SIZE = re.compile(r"([1-9][0-9]{0,6})([kKmMgG])b?\Z")
_PLAIN = re.compile(r"[1-9][0-9]{0,14}\Z")


def size(text: str) -> str | None:
    """`16M` for `16m` or 16777216; None for what is none, such as 0 or -1, which mean no limit."""
    if match := _SIZE.match(text):
        return match[1] + match[2].upper()
    if _PLAIN.match(text):
        kib = -(-int(text) // 1024)
        for unit in "KMG":
            if kib % 1024 or unit == "G":
                return f"{kib}{unit}" if kib < 10_000_000 else None
            kib //= 1024
    return None


def number(text: str, least: int, most: int) -> int | None:
    """A whole number within bounds, or None."""
    return int(text) if _PLAIN.match(text) and least <= int(text) <= most else None
