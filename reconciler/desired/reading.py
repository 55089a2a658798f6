"""From files to candidates: which files hold manifests, and which document claims to be what. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from reconciler.desired.fleet import Entry
from reconciler.desired.kinds import API_VERSION, Kind, Manifest
from reconciler.desired.kinds.common import NAME_PATTERN
from reconciler.desired.places import DocumentRef
from reconciler.desired.problems import Problem, Source
from reconciler.desired.yamldoc import Document, Parsed, Value, parse
from reconciler.kit.text import did_you_mean

_SHOWN = 60
_NAME = re.compile(NAME_PATTERN.replace("$", r"\Z"))
_IGNORE = re.compile(rb"(?:\xef\xbb\xbf)?#\s*reconciler:\s*ignore\s*(?:\n|\Z)")
_IGNORE_HINT = "if this is no manifest, make `# reconciler: ignore` its first line"
# Maps whose keys are the user's own, so that `x-…` is an ordinary key there.
_FREE = frozenset({"labels", "annotations", "matchLabels", "selector", "env", "headers"})


@dataclass
class Memo:
    """What was made of a document before: its manifest, with the text that it was made from.

    The text is None for the document as it stands, without anything from Defaults; then `entry` is that of the fleet.
    """

    made: tuple[str | None, Manifest] | None = None
    entry: Entry | None = None


@dataclass(frozen=True)
class Candidate:
    """A document that says it is a resource or Defaults; not validated yet. `name` is None when it cannot be read.

    Whoever reads many revisions shares candidates between them: nothing of `data` is ever changed.
    """

    kind: Kind
    name: str | None
    document: DocumentRef
    source: Source
    data: dict[str, Value]
    flawed: bool = False
    complete: bool = True
    memo: Memo = field(default_factory=Memo, compare=False, repr=False)


@dataclass(frozen=True, eq=False)
class Suspect:
    """A place that holds Defaults which cannot be used, or that may hold some.

    None for `kind` or `labels`: it may be about any. Resources it may be about keep still: without the values that
    they had from it they would change.
    """

    source: Source
    title: str
    kind: Kind | None = None
    labels: Mapping[str, str] | None = None

    def concerns(self, kind: Kind, labels: Mapping[str, Value]) -> bool:
        """Whether a resource may have values from here."""
        if self.kind is not None and self.kind is not kind:
            return False
        return all(labels.get(k) == v for k, v in (self.labels or {}).items())


@dataclass
class Reading:
    """What the files hold. `whole` is false when the identity of a document is unknown."""

    candidates: list[Candidate] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    suspects: list[Suspect] = field(default_factory=list)
    whole: bool = True

    def add(self, other: Reading) -> None:
        """Append what another one holds, which stays as it is."""
        self.candidates += other.candidates
        self.problems += other.problems
        self.suspects += other.suspects
        self.whole = self.whole and other.whole


def is_manifest_path(path: str) -> bool:
    """Whether a file is read: `*.yaml` and `*.yml`, unless it or a folder above it begins with a dot."""
    parts = PurePosixPath(path)
    return parts.suffix.lower() in (".yaml", ".yml") and not any(part.startswith(".") for part in parts.parts)


def read_file(path: str, content: bytes) -> Reading:
    """The candidates of one file, in the order of lines, and its problems."""
    reading = Reading()
    if is_manifest_path(path) and not _IGNORE.match(content):
        _file(path, content, reading)
    return reading


def _file(path: str, content: bytes, reading: Reading) -> None:
    parsed = parse(path, content)
    reading.problems.extend(parsed.problems)
    for document in parsed.documents:
        if document.data is not None:
            _document(document, reading, extensions=b"x-" in content)
    if not parsed.whole:
        reading.whole = False
        _suspect_rest(path, content, parsed, reading)


def _suspect_rest(path: str, content: bytes, parsed: Parsed, reading: Reading) -> None:
    """A part of this file is unknown. Could there be Defaults in it? Then their word is in it (UTF-16 has NULs)."""
    seen = sum(
        1
        for document in parsed.documents
        if isinstance(document.data, dict) and document.data.get("kind") == Kind.DEFAULTS.value
    )
    if content.replace(b"\0", b"").count(Kind.DEFAULTS.value.encode()) > seen:
        at = parsed.problems[-1].source if parsed.problems else Source(path)
        reading.suspects.append(Suspect(at, "this file, which cannot be read and may hold Defaults"))


def _document(document: Document, reading: Reading, *, extensions: bool) -> None:
    data = document.data
    if not isinstance(data, dict):
        reading.whole = False
        if not document.flawed:
            message = "a manifest is a map with apiVersion, kind, metadata and spec"
            reading.problems.append(Problem(document.source, "not-a-manifest", message, _IGNORE_HINT))
        return
    if extensions:
        data = without_extensions(data)
    kind = _kind(document, data, reading)
    name = _name(data)
    if kind is None or name is None:
        reading.whole = False
    if kind is None:
        if _like_defaults(data):
            reading.suspects.append(suspect(document.source, "this manifest, which may be Defaults", data))
        return
    ref = DocumentRef(document.path, document.index)
    reading.candidates.append(
        Candidate(kind, name, ref, document.source, data, document.flawed, document.complete)
    )


def _kind(document: Document, data: Mapping[str, Value], reading: Reading) -> Kind | None:
    kind, version = data.get("kind"), data.get("apiVersion")
    known = [k.value for k in Kind]
    if isinstance(kind, str) and kind in known:
        # A wrong or missing apiVersion is found by validation, with all the rest; the identity counts all the same,
        # so that a typing mistake is no deletion.
        return Kind(kind)
    if not document.complete and (kind is None or version is None):
        return None  # the syntax error is the problem, not what it hides
    if version is None and kind is None:
        message = "no manifest: apiVersion and kind are missing"
        _add(reading, document, "not-a-manifest", message, _IGNORE_HINT)
        return None
    if version not in (None, API_VERSION):
        message = f"apiVersion must be {API_VERSION}"
        _add(reading, document, "api-version", message, _IGNORE_HINT)
        return None
    if kind is None:
        _add(reading, document, "missing-field", "kind is missing", f"one of {', '.join(known)}")
    else:
        said = f"kind {kind[:_SHOWN]!r} is not known" if isinstance(kind, str) else "kind must be text"
        hint = did_you_mean(kind[:_SHOWN], known) if isinstance(kind, str) else ""
        _add(reading, document, "unknown-kind", said, hint or f"one of {', '.join(known)}")
    return None


def _add(reading: Reading, document: Document, code: str, message: str, hint: str) -> None:
    reading.problems.append(Problem(document.source, code, message, hint))


def _name(data: Mapping[str, Value]) -> str | None:
    metadata = data.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return name if isinstance(name, str) and _NAME.match(name) else None


def labels_of(data: Mapping[str, Value]) -> Mapping[str, Value]:
    """The labels of a document as far as they can be read."""
    metadata = data.get("metadata")
    labels = metadata.get("labels") if isinstance(metadata, dict) else None
    return labels if isinstance(labels, dict) else {}


def _like_defaults(data: Mapping[str, Value]) -> bool:
    spec = data.get("spec")
    return isinstance(spec, dict) and ("appliesTo" in spec or "values" in spec or "matchLabels" in spec)


def suspect(source: Source, title: str, data: Mapping[str, Value]) -> Suspect:
    """The suspect for Defaults with problems, as narrow as what can be read of it allows."""
    spec = data.get("spec")
    spec = spec if isinstance(spec, dict) else {}
    applies, labels = spec.get("appliesTo"), spec.get("matchLabels")
    known = {k.value for k in Kind}
    kind = Kind(applies) if isinstance(applies, str) and applies in known else None
    readable = isinstance(labels, dict) and all(isinstance(v, str) for v in labels.values())
    return Suspect(
        source, title, kind, _texts(labels.items()) if readable and isinstance(labels, dict) else None
    )


def _texts(pairs: Iterable[tuple[str, Value]]) -> dict[str, str]:
    return {key: value for key, value in pairs if isinstance(value, str)}


def without_extensions(data: dict[str, Value]) -> dict[str, Value]:
    """`data` without keys that begin with `x-`, at any depth but in maps whose keys are the user's own."""

    def clean(value: Value) -> Value:
        match value:
            case dict():
                return without_extensions(value)
            case list():
                return [clean(item) for item in value]
            case _:
                return value

    return {
        key: (value if key in _FREE else clean(value))
        for key, value in data.items()
        if not key.startswith("x-")
    }
