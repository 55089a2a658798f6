"""A log record as a line: its parts collected, masked, then written as JSON or as text."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TextIO

VALUE_LIMIT = 8192
"""Characters of one value; of a longer one, such as a node's output, both ends are kept."""

_SEARCHED = (
    16 * VALUE_LIMIT
)  # characters that are searched for secrets before the cut, which halves none of them

_KEPT = ("time", "level", "logger", "message", "exception")
_DEPTH = 6
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_PLAIN = re.compile(r"[^\s\"'=\\]+")

Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]


@dataclass(frozen=True)
class Parts:
    """What a record says. `fields` are plain values; `exception` is a traceback as text or empty."""

    at: datetime
    level: str
    logger: str
    message: str
    fields: Mapping[str, Plain]
    exception: str


class Formatter(logging.Formatter):
    """Collects the parts of a record, ours or a library's, and masks them; `render` makes the line."""

    def __init__(self, redact: Callable[[str], str], context: Callable[[], Mapping[str, object]]) -> None:
        super().__init__()
        self._redact = redact
        self._context = context

    def format(self, record: logging.LogRecord) -> str:
        """The line (several with a traceback), without a newline at its end."""
        return self.render(_shortened(self._masked(self._parts(record))))

    def render(self, parts: Parts) -> str:
        """The masked parts as text."""
        raise NotImplementedError

    def _parts(self, record: logging.LogRecord) -> Parts:
        fields: dict[str, object] = dict(self._context())
        if isinstance(record.msg, dict):  # made by structlog
            said = dict(record.msg)
            message = _worded(said.pop("event", ""), said.pop("positional_args", ()))
            exception = said.pop("exc_info", None) or record.exc_info
            fields.update(said)
        else:
            message, exception = _worded(record.msg, record.args), record.exc_info
        return Parts(
            at=datetime.fromtimestamp(record.created, UTC),
            level=record.levelname.lower(),
            logger=record.name,
            message=_cut(message, _SEARCHED),
            fields={(f"{k}_" if k in _KEPT else str(k)): plain(v) for k, v in fields.items()},
            exception=_traceback(exception),
        )

    def _masked(self, parts: Parts) -> Parts:
        # one look at everything: nearly every record is clean, and a fleet has thousands of secrets
        everything = "\0".join([parts.message, parts.exception, *_texts(parts.fields)])
        if self._redact(everything) == everything:
            return parts
        return replace(
            parts,
            message=self._redact(parts.message),
            fields={self._redact(key): self._mask(value) for key, value in parts.fields.items()},
            exception=self._redact(parts.exception),
        )

    def _mask(self, value: Plain) -> Plain:
        if isinstance(value, str):
            return self._redact(value)
        if isinstance(value, list):
            return [self._mask(item) for item in value]
        if isinstance(value, dict):
            return {self._redact(key): self._mask(item) for key, item in value.items()}
        masked = self._redact(str(value))
        return value if masked == str(value) else masked


class JsonForm(Formatter):
    """One JSON object a line; `time` is RFC 3339 in UTC with milliseconds."""

    def render(self, parts: Parts) -> str:
        """The object; our keys come first."""
        value = {
            "time": _stamp(parts.at),
            "level": parts.level,
            "logger": parts.logger,
            "message": parts.message,
            **parts.fields,
        }
        if parts.exception:
            value["exception"] = parts.exception
        return json.dumps(value, ensure_ascii=False, default=str)


class TextForm(Formatter):
    """For people: `time level logger: message key=value`, a traceback below it, indented. The journal adds the time."""

    def __init__(
        self,
        redact: Callable[[str], str],
        context: Callable[[], Mapping[str, object]],
        *,
        journal: bool = False,
    ) -> None:
        super().__init__(redact, context)
        self._journal = journal

    def render(self, parts: Parts) -> str:
        """The line. Control characters are written as escapes: a node's words cannot forge a line."""
        words = [] if self._journal else [_stamp(parts.at)]
        words += [f"{parts.level:<7}", f"{parts.logger}:", _visible(parts.message)]
        words += [f"{_visible(key)}={_quoted(value)}" for key, value in parts.fields.items()]
        below = [f"    {_visible(line)}" for line in parts.exception.splitlines()]
        return "\n".join([" ".join(words), *below])


def plain(value: object, depth: int = _DEPTH) -> Plain:
    """`value` as JSON knows it, with what JSON does not know as its str()."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else str(value)  # JSON has no infinity and no NaN
    if isinstance(value, str):
        return _cut(value, _SEARCHED)
    if isinstance(value, bytes):
        return _cut(value.decode("utf-8", "backslashreplace"), _SEARCHED)
    if isinstance(value, datetime):
        return value.isoformat()
    if depth > 0 and isinstance(value, Mapping):
        return {_text(key): plain(item, depth - 1) for key, item in value.items()}
    if depth > 0 and isinstance(value, Sequence | set | frozenset):
        return [plain(item, depth - 1) for item in value]
    return _cut(_text(value), _SEARCHED)


def to_journal(stream: TextIO) -> bool:
    """Whether `stream` is connected to the journal: $JOURNAL_STREAM names its device and inode (systemd.exec(5))."""
    try:
        facts = os.fstat(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{facts.st_dev}:{facts.st_ino}"


def _worded(message: object, arguments: object) -> str:
    if not arguments:
        return _text(message)
    try:
        return _text(message) % arguments
    except (TypeError, ValueError, KeyError):
        return f"{_text(message)} {_text(arguments)}"


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception as fault:  # noqa: BLE001 - a broken __str__ is told, not raised
        return f"<{type(value).__name__} that cannot be shown: {type(fault).__name__}>"


def _traceback(given: object) -> str:
    if isinstance(given, BaseException):
        found: BaseException | None = given
    elif isinstance(given, tuple):
        found = given[1]
    else:
        found = sys.exc_info()[1] if given else None
    return "" if found is None else _cut("".join(traceback.format_exception(found)).rstrip("\n"), _SEARCHED)


def _shortened(parts: Parts) -> Parts:
    fields = {key: _short(value) for key, value in parts.fields.items()}
    return replace(parts, message=_cut(parts.message), fields=fields, exception=_cut(parts.exception))


def _short(value: Plain) -> Plain:
    if isinstance(value, str):
        return _cut(value)
    if isinstance(value, list):
        return [_short(item) for item in value]
    return {key: _short(item) for key, item in value.items()} if isinstance(value, dict) else value


def _cut(text: str, limit: int = VALUE_LIMIT) -> str:
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}… {len(text) - 2 * half} characters left out …{text[-half:]}"


def _texts(value: Plain | Mapping[str, Plain]) -> list[str]:
    if isinstance(value, Mapping):
        return [text for key, item in value.items() for text in (key, *_texts(item))]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [str(value)]


def _visible(text: str) -> str:
    return _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode("ascii"), text)


def _quoted(value: Plain) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and not _CONTROL.search(value):
        return value
    return _visible(json.dumps(value, ensure_ascii=False))


def _stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"
