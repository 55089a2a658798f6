"""One line of the audit log, taken apart: its kind, time and serial, and its fields with hex values decoded.

The form is that of auditd's `raw` format (audit.rules(7), `libaudit`'s auparse): `type=KIND msg=audit(SECONDS.MS:SERIAL):`
and fields `name=value`, where a value is a word, a text in quotes, or, for names that programs choose, hex digits when
it holds a space, a quote or a byte that is not printable. With `log_format = ENRICHED` a group separator and a
translation for people follow.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

_HEAD = re.compile(
    r"(?:node=\S+ )?type=([A-Z0-9_]{1,64}) msg=audit\(([0-9]{1,11})\.([0-9]{1,9}):([0-9]{1,19})\):(.*)",
    re.DOTALL,
)
_FIELD = re.compile(r"""(?<![\w"'])([A-Za-z_][\w-]*)=("[^"]*"|'[^']*'|[^\s'"]*)""")
_HEX = re.compile(r"(?:[0-9A-F]{2})+\Z")
# the fields that the kernel and auditd may write in hex; `pid=1234` must stay a number
_CHOSEN_BY_PROGRAMS = frozenset({"cmdline", "comm", "cwd", "exe", "name", "path", "proctitle", "service"})
_LONGEST = 16 * 1024


@dataclass(frozen=True)
class Line:
    """`at` is UTC, to the microsecond; `body` is what follows the head, without the translation; `fields` by name."""

    kind: str
    at: datetime
    serial: int
    body: str
    fields: Mapping[str, str]


def read(line: str) -> Line | None:
    """The parts of a line, or None when it is not a record. Longer lines than auditd writes are cut at 16 KiB."""
    match = _HEAD.match(line[:_LONGEST].partition("\x1d")[0].strip())
    if match is None:
        return None
    kind, seconds, fraction, serial, body = match.groups()
    try:
        at = datetime.fromtimestamp(int(seconds), UTC).replace(microsecond=int(fraction.ljust(6, "0")[:6]))
    except (ValueError, OverflowError, OSError):
        return None
    body = body.strip()
    return Line(kind, at, int(serial), body, fields(body))


def fields(body: str) -> dict[str, str]:
    """The fields of a record; the first of a name wins, and what is within `msg='…'` counts like the rest."""
    opened = re.sub(r"\bmsg='(.*)'", r"\1", body, count=1, flags=re.DOTALL)
    found: dict[str, str] = {}
    for name, value in _FIELD.findall(opened):
        found.setdefault(name, _decoded(name, value))
    return found


def _decoded(name: str, value: str) -> str:
    if value[:1] in {'"', "'"}:
        return value[1:-1]
    if name in _CHOSEN_BY_PROGRAMS and _HEX.match(value):
        return bytes.fromhex(value).replace(b"\0", b" ").decode("utf-8", "backslashreplace")
    return value


def number(value: str | None) -> int | None:
    """A field that is a decimal number, or None."""
    return (
        int(value) if value is not None and value.isascii() and value.isdigit() and len(value) < 20 else None
    )
