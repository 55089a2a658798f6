"""Plain scalars of YAML as the JSON schema of YAML 1.2 reads them, those that are refused, and lengths of time in words."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

Scalar = None | bool | int | float | str

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
# What one reader of YAML takes for a number and another for another number or for text. Times (12:30:45) and dates
# are not here: every reader agrees that they are not what a manifest could mean by a number.
_DOUBTFUL = re.compile(
    r"[-+]?(?:0[0-9_]+|0[xob][0-9a-fA-F_]+|[0-9]+(?:_[0-9]+)+|\.(?:inf|Inf|INF)|\.[0-9]+|[0-9]+\.(?:[eE][-+]?[0-9]+)?)"
    r"|\+[0-9][0-9_]*(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?|\.(?:nan|NaN|NAN)|-?0[0-9]+\.[0-9]*"
)
_WORDS: dict[str, Scalar] = {"": None, "~": None, "null": None, "true": True, "false": False}
_MAX_DIGITS = 18  # fits 64 bits

OTHER_BOOLEANS = {
    "yes": True, "on": True, "y": True, "no": False, "off": False, "n": False, "true": True, "false": False,
}  # fmt: skip
"""Words, in lower case, that YAML 1.1 reads as a boolean; here they are text."""


@dataclass(frozen=True)
class Ambiguous:
    """A plain scalar that is refused. `hint` says how to write what may have been meant."""

    hint: str


def resolve(text: str) -> Scalar | Ambiguous:
    """The value of a plain scalar: null, true, false, a decimal number, or text."""
    if text in _WORDS:
        return _WORDS[text]
    first = text[0]
    # Nearly every scalar is a word: decide that without a regular expression.
    if not (first.isdigit() or first in "+-."):
        return text
    if _INTEGER.fullmatch(text):
        if len(text) > _MAX_DIGITS:
            return Ambiguous("write it in quotes; numbers have at most 18 digits")
        return int(text)
    if _FLOAT.fullmatch(text):
        number = float(text)
        return number if math.isfinite(number) else Ambiguous("write it in quotes; the number is too large")
    if _DOUBTFUL.fullmatch(text):
        return Ambiguous("write it in quotes if it is text, or as a plain decimal number")
    return text


DURATION_PATTERN = r"^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,7}s)?([0-9]{1,8}ms)?$"
"""A length of time as Go writes it, without fractions: hours, minutes, seconds, milliseconds, the largest first."""

_PART = re.compile(r"([0-9]+)(ms|h|m|s)")
_MILLISECONDS = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}


def seconds(text: str) -> float:
    """The seconds of a duration: 90.0 for `1m30s`. ValueError when the text is none (`DURATION_PATTERN`)."""
    if not text or not re.fullmatch(DURATION_PATTERN[1:-1], text):
        raise ValueError("must be a duration, such as 45s, 10m or 1h30m")
    return sum(int(number) * _MILLISECONDS[unit] for number, unit in _PART.findall(text)) / 1000


def duration(length: float) -> str:
    """The one spelling of a length in seconds, zero parts left out: `1m30s` for 90.0, `0s` for nothing."""
    rest, text = round(length * 1000), ""
    for unit, size in _MILLISECONDS.items():
        number, rest = divmod(rest, size)
        text += f"{number}{unit}" if number else ""
    return text or "0s"


_SIZES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def size(text: str) -> int:
    """The bytes of a size such as `128M`, whose form its field has checked."""
    return int(text[:-1]) * _SIZES[text[-1]]
