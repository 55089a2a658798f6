"""Strict YAML: bytes to plain values, without recursion, with the place of everything that is wrong.

The values are built from the parser's events instead of by PyYAML's composer, for three reasons. The composer recurses
on the C stack, so that 100 kB of `[` would end the process (yaml/pyyaml#895); events cost half of it; and every event
has its mark, so that a file with problems is simply read again with places. The scalars are those of YAML 1.2's JSON
schema: `no`, `on`, `12:30:45` and dates are text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import yaml
from yaml.cyaml import CSafeLoader
from yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceStartEvent,
)

from reconciler.desired.problems import Problem, Source
from reconciler.desired.scalars import Ambiguous, Scalar, resolve

MAX_FILE_BYTES = 256 * 1024
MAX_DEPTH = 32
MAX_EVENTS = 50_000

Value = None | bool | int | float | str | list["Value"] | dict[str, "Value"]
Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a field is: its key, its value (lines and columns from 1), and a plain scalar as it was written."""

    key: tuple[int, int]
    value: tuple[int, int]
    written: str | None = None
    scalar: bool = False


@dataclass(frozen=True)
class Document:
    """One document of a file. `index` counts from 0; `line` and `column` are those of its first node."""

    path: str
    index: int
    line: int
    column: int
    data: Value
    complete: bool = True
    """False when the file became unreadable within the document: `data` is what came before."""
    flawed: bool = False
    """Whether a problem was found in it; `data` then lacks something."""

    @property
    def source(self) -> Source:
        """The place of its first node."""
        return Source(self.path, self.line, self.column)


@dataclass(frozen=True)
class Parsed:
    """What a file holds. `whole` is false when the reading had to stop, so that later documents are unknown.

    `places` (one mapping per document) is filled on demand, and always when there are problems.
    """

    documents: tuple[Document, ...] = ()
    problems: tuple[Problem, ...] = ()
    whole: bool = True
    places: tuple[Mapping[Path, Place], ...] = field(default=(), repr=False)


def parse(path: str, content: bytes, *, places: bool = False) -> Parsed:
    """The documents of one file; never raises for what is in it. `path` is only for messages."""
    if len(content) > MAX_FILE_BYTES:
        limit = f"a manifest file has at most {MAX_FILE_BYTES // 1024} KiB"
        message = f"the file has {len(content)} bytes; {limit}"
        return _stopped(Problem(Source(path), "file-too-large", message, "split it into several files"))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        line = content.count(b"\n", 0, fault.start) + 1
        column = fault.start - (content.rfind(b"\n", 0, fault.start) + 1) + 1
        message = "the file is not UTF-8 text"
        return _stopped(
            Problem(
                Source(path, line, column), "not-utf-8", message, "save it in UTF-8, without other encodings"
            )
        )
    reader = _Reader(path, text, places=places)
    parsed = reader.read()
    if parsed.problems and not places:
        return _Reader(path, text, places=True).read()
    return parsed


def _stopped(problem: Problem) -> Parsed:
    return Parsed(problems=(problem,), whole=False)


class _Stop(Exception):
    """Reading this file cannot go on; the problem is noted."""


class _Frame:
    """A map or list that is being filled."""

    __slots__ = ("has_key", "key", "key_mark", "path", "value")

    def __init__(self, value: list[Value] | dict[str, Value], path: Path) -> None:
        self.value = value
        self.path = path
        self.has_key = False
        self.key: str | None = None
        """The key whose value comes next; None (while `has_key`) leaves the value out."""
        self.key_mark: tuple[int, int] = (1, 1)


class _Reader:
    """One pass over the events of a file."""

    def __init__(self, path: str, text: str, *, places: bool) -> None:
        self._path = path
        self._text = text
        self._want_places = places
        self._problems: list[Problem] = []
        self._documents: list[Document] = []
        self._places: list[dict[Path, Place]] = []
        self._stack: list[_Frame] = []
        self._root: Value = None
        self._noted_before = 0
        self._start: tuple[int, int] | None = None
        # Non-zero while in a node that is a key but not a scalar: it is read to its end and left out.
        self._skipping = 0

    def read(self) -> Parsed:
        """All events, up to the first fault that cannot be passed."""
        whole = True
        parser = CSafeLoader(self._text)
        try:
            count = 0
            while (event := parser.get_event()) is not None:
                count += 1
                if count > MAX_EVENTS:
                    self._note(
                        event, "too-many-nodes", f"the file has more than {MAX_EVENTS} YAML nodes", "split it"
                    )
                    break
                self._take(event)
            whole = count <= MAX_EVENTS
        except _Stop:
            whole = False
        except yaml.MarkedYAMLError as fault:
            whole = False
            self._syntax(fault)
        except yaml.reader.ReaderError as fault:
            whole = False
            self._unprintable(fault)
        finally:
            parser.dispose()
        if not whole and self._start is not None:
            self._finish(complete=False)
        return Parsed(tuple(self._documents), tuple(self._problems), whole, tuple(self._places))

    def _take(self, event: Event) -> None:
        match event:
            case ScalarEvent():
                self._scalar(event)
            case MappingStartEvent():
                self._open(event, {})
            case SequenceStartEvent():
                self._open(event, [])
            case CollectionEndEvent():
                self._close()
            case AliasEvent():
                self._alias(event)
            case DocumentStartEvent():
                self._places.append({})
                self._root, self._start, self._noted_before = None, None, len(self._problems)
                if event.version or event.tags:
                    self._note(
                        event, "directive", "YAML directives (`%…`) are not supported", "remove the line"
                    )
            case DocumentEndEvent():
                self._finish(complete=True)

    def _finish(self, *, complete: bool) -> None:
        line, column = self._start or (1, 1)
        index = len(self._places) - 1
        flawed = len(self._problems) > self._noted_before
        self._documents.append(Document(self._path, index, line, column, self._root, complete, flawed))
        self._stack.clear()
        self._start = None
        self._skipping = 0

    def _check_node(self, event: NodeEvent) -> None:
        """Anchors, aliases and tags have no place in a manifest: they hide what a review should see."""
        if isinstance(event, AliasEvent):
            self._note(
                event,
                "alias",
                "YAML aliases (`*name`) are not supported",
                "write the value out, or use Defaults",
            )
        elif event.anchor is not None:
            self._note(
                event,
                "alias",
                "YAML anchors (`&name`) are not supported",
                "write the value out, or use Defaults",
            )
        tag = getattr(event, "tag", None)
        if tag is not None:
            self._note(event, "tag", "YAML tags (`!…`) are not supported", "write the plain value")

    def _open(
        self, event: MappingStartEvent | SequenceStartEvent, value: list[Value] | dict[str, Value]
    ) -> None:
        if event.anchor is not None or event.tag is not None:
            self._check_node(event)
        if len(self._stack) + self._skipping >= MAX_DEPTH:
            self._note(event, "too-deep", f"the file nests more than {MAX_DEPTH} levels deep", "flatten it")
            raise _Stop
        if self._skipping:
            self._skipping += 1
            return
        frame = self._stack[-1] if self._stack else None
        if frame is not None and isinstance(frame.value, dict) and not frame.has_key:
            self._note(
                event,
                "key-not-text",
                "a key must be text, not a map or a list",
                "is a colon or quote missing?",
            )
            self._skipping = 1
            return
        path = self._put(event, value)
        self._stack.append(_Frame(value, path))

    def _close(self) -> None:
        if not self._skipping:
            self._stack.pop()
            return
        self._skipping -= 1
        if not self._skipping:
            # The value of the unusable key follows.
            self._stack[-1].has_key, self._stack[-1].key = True, None

    def _scalar(self, event: ScalarEvent) -> None:
        if event.anchor is not None or event.tag is not None:
            self._check_node(event)
        if self._skipping:
            return
        frame = self._stack[-1] if self._stack else None
        if frame is not None and isinstance(frame.value, dict) and not frame.has_key:
            self._key(event, frame, frame.value)
            return
        if not event.implicit[0] or event.tag is not None:
            self._put(event, event.value)
            return
        value: Scalar | Ambiguous = resolve(event.value)
        if isinstance(value, Ambiguous):
            self._note(event, "ambiguous-number", "readers of YAML disagree on this number", value.hint)
            value = event.value
        self._put(event, value, event.value)

    def _alias(self, event: AliasEvent) -> None:
        self._check_node(event)
        frame = self._stack[-1] if self._stack else None
        if frame is not None and isinstance(frame.value, dict) and not frame.has_key and not self._skipping:
            frame.has_key, frame.key, frame.key_mark = True, None, _position(event)
            return
        self._put(event, None)

    def _key(self, event: ScalarEvent, frame: _Frame, value: dict[str, Value]) -> None:
        key: str | None = event.value
        if event.implicit[0] and key == "<<":
            hint = "write the values out, or use Defaults"
            self._note(event, "merge-key", "YAML merge keys (`<<`) are not supported", hint)
            key = None
        elif event.implicit[0] and not isinstance(resolve(event.value), str):
            self._note(event, "key-not-text", f"the key {key!r} is not text", "write it in quotes")
        elif key in value:
            first = self._places[-1].get((*frame.path, event.value)) if self._want_places else None
            where = f", first in line {first.key[0]}" if first else ""
            self._note(
                event, "duplicate-key", f"the key {key!r} is in this map twice{where}", "remove one of them"
            )
            key = None
        frame.has_key, frame.key, frame.key_mark = True, key, _position(event)

    def _put(self, event: Event, value: Value, written: str | None = None) -> Path:
        """Sets a value at its place and returns its path (which only matters with places)."""
        if self._skipping:
            return ()
        scalar = not isinstance(value, (dict, list))
        if self._start is None:
            self._start = _position(event)
        if not self._stack:
            self._root = value
            if self._want_places:
                self._places[-1][()] = Place(self._start, self._start, written, scalar)
            return ()
        frame = self._stack[-1]
        if isinstance(frame.value, dict):
            frame.has_key = False
            if frame.key is None:
                # Left out: a path that no field has keeps what is below it from taking another's place.
                return (*frame.path, "\0", *_position(event)) if self._want_places else ()
            frame.value[frame.key] = value
            if not self._want_places:
                return ()
            path: Path = (*frame.path, frame.key)
            self._places[-1][path] = Place(frame.key_mark, _position(event), written, scalar)
            return path
        frame.value.append(value)
        if not self._want_places:
            return ()
        path = (*frame.path, len(frame.value) - 1)
        self._places[-1][path] = Place(_position(event), _position(event), written, scalar)
        return path

    def _note(self, event: Event, code: str, message: str, hint: str) -> None:
        line, column = _position(event)
        self._problems.append(Problem(Source(self._path, line, column), code, message, hint))

    def _syntax(self, fault: yaml.MarkedYAMLError) -> None:
        mark = fault.problem_mark or fault.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        text = " ".join(str(part) for part in (fault.context, fault.problem) if part)
        lines = self._text.split("\n")
        here = lines[line - 1] if line <= len(lines) else ""
        opened = fault.context_mark.line + 1 if fault.context_mark else line
        hint = ""
        if "quoted scalar" in text:
            hint = f"is the quote in line {opened} closed?"
        elif "while parsing a flow" in text:
            hint = "is every bracket above it closed?"
        elif "\t" in here[: len(here) - len(here.lstrip())]:
            hint = "indent with blanks, not with tabs"
        elif "mapping values are not allowed" in text:
            hint = "is the line indented too far, or does a text with `: ` need quotes?"
        elif "cannot start any token" in text:
            hint = "write text that begins with this character in quotes"
        elif "could not find expected ':'" in text or "did not find expected key" in text:
            hint = "look at the indentation and the quotes of this line and the line before it"
        self._problems.append(
            Problem(Source(self._path, line, column), "yaml-syntax", f"not YAML: {text}", hint)
        )

    def _unprintable(self, fault: yaml.reader.ReaderError) -> None:
        # libyaml counts bytes of the UTF-8 text here.
        before = self._text.encode("utf-8")[: fault.position].decode("utf-8", "ignore")
        line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
        message = "not YAML: the file holds a control character"
        hint = "remove it, or write it as an escape in double quotes"
        self._problems.append(Problem(Source(self._path, line, column), "yaml-syntax", message, hint))


def _position(event: Event) -> tuple[int, int]:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)
