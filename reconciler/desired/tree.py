"""From the files of a revision to its fleet, with every problem of the tree in one pass. Pure."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache

from pydantic import ValidationError

from reconciler.desired import checks, refs, rollouts, validation
from reconciler.desired.defaults import Clash, Layer, Merged, Merger
from reconciler.desired.fields import spec_model
from reconciler.desired.findings import Finding
from reconciler.desired.fleet import Entry, FieldPath, Fleet, Key, Loaded, Origin
from reconciler.desired.kinds import MODELS, Defaults, Kind, Manifest, Resource
from reconciler.desired.kinds.common import MOVED_FROM
from reconciler.desired.places import DocumentRef, Places
from reconciler.desired.problems import Problem, Source
from reconciler.desired.reading import Candidate, Reading, Suspect, labels_of, suspect
from reconciler.desired.readings import Readings, read
from reconciler.desired.validation import Fault, Subject
from reconciler.desired.yamldoc import Value
from reconciler.kit.text import count

_NAMED = 3
"""How many resources a message names before it says `and N more`."""


def load(
    files: Mapping[str, bytes],
    problems: Iterable[Problem] = (),
    *,
    ids: Mapping[str, str] | None = None,
    readings: Readings | None = None,
) -> Loaded:
    """The fleet that `files` (path below the fleet's root to content) declare, and all problems, by path and line.

    Never raises for what is in the files. `problems` are those that reading the files met (links, unreadable files):
    with any of them the fleet is not whole, and resources that may have had defaults from there are kept as they are.
    With `readings` files that were read before are not read again, and the result is the same; `ids` names contents by
    path.
    """
    reading = read(files) if readings is None else readings.read(files, ids or {})
    return _Load(files, reading, tuple(problems)).run()


class _Load:
    """One pass over a tree."""

    def __init__(self, files: Mapping[str, bytes], reading: Reading, problems: tuple[Problem, ...]) -> None:
        self._places = Places(files)
        self._reading = reading
        self._problems = [*problems, *self._reading.problems]
        self._noted = {p.source for p in self._problems}
        self._whole = self._reading.whole and not problems
        self._suspects = list(self._reading.suspects)
        self._suspects += [Suspect(p.source, f"{p.source.path}, which may hold Defaults") for p in problems]
        self._entries: dict[Key, Entry] = {}
        self._broken: set[Key] = set()
        self._documents: dict[Key, DocumentRef] = {}
        self._sources: dict[Key, Source] = {}
        self._given: dict[Key, Mapping[FieldPath, Layer]] = {}
        self._clashes: dict[tuple[FieldPath, str, str], tuple[Clash, list[Key]]] = {}
        self._waiting: dict[Suspect, list[Key]] = defaultdict(list)

    def run(self) -> Loaded:
        """All stages in order; each works with what the earlier ones left sound."""
        candidates = self._reading.candidates
        twice = self._declared_twice(candidates)
        merger = Merger(self._layers([c for c in candidates if c.kind is Kind.DEFAULTS], twice))
        for candidate in candidates:
            if candidate.kind is not Kind.DEFAULTS:
                self._resource(candidate, merger, twice)
        self._tell_clashes()
        self._tell_waiting()
        self._between()
        sound = {key: entry for key, entry in self._entries.items() if key not in self._broken}
        fleet = Fleet(sound, frozenset(self._broken), self._whole, self._locator())
        return Loaded(fleet, tuple(sorted(set(self._problems))))

    def _declared_twice(self, candidates: Iterable[Candidate]) -> frozenset[tuple[Kind, str]]:
        """Identities with two documents. Both are out: nothing tells which one is meant."""
        first: dict[tuple[Kind, str], Candidate] = {}
        twice = set()
        for candidate in candidates:
            if candidate.name is None:
                continue
            identity = (candidate.kind, candidate.name)
            other = first.setdefault(identity, candidate)
            if other is not candidate:
                twice.add(identity)
                at = self._places.value(candidate.document, ("metadata", "name"))
                message = f"{candidate.kind.value}/{candidate.name} is declared in {other.source} too"
                self._add(
                    Problem(at, "duplicate-name", message, "remove or rename one of them; neither is used")
                )
        return frozenset(twice)

    # -- Defaults

    def _layers(self, candidates: Iterable[Candidate], twice: frozenset[tuple[Kind, str]]) -> Iterator[Layer]:
        for candidate in candidates:
            layer = self._layer(candidate)
            if layer is None or candidate.flawed or (Kind.DEFAULTS, candidate.name) in twice:
                title = (
                    f"Defaults/{candidate.name}, which has problems" if candidate.name else "these Defaults"
                )
                self._suspects.append(suspect(candidate.source, title, candidate.data))
            else:
                yield layer

    def _layer(self, candidate: Candidate) -> Layer | None:
        if not candidate.complete:
            return None
        ref = candidate.document
        manifest = self._validate(candidate, candidate.data, self._subject(candidate, Kind.DEFAULTS), {})
        if not isinstance(manifest, Defaults):
            return None
        spec = manifest.spec
        target = Kind(spec.applies_to)
        subject = self._subject(candidate, target, prefix=("spec", "values"), inside=("spec",))
        try:
            spec_model(target).model_validate_json(json.dumps(spec.values))
        except ValidationError as error:
            found = list(validation.faults(error, subject, partial=True))
            for fault in found:
                self._fault(candidate, fault, {})
            if found:
                return None

        @cache
        def place(path: FieldPath) -> Source:
            return self._places.key(ref, ("spec", "values", *path[1:]))

        return Layer(manifest.name, target, spec.match_labels, spec.priority, spec.values, ref, place)

    # -- resources

    def _resource(self, candidate: Candidate, merger: Merger, twice: frozenset[tuple[Kind, str]]) -> None:
        key = Key(candidate.kind, candidate.name) if candidate.name is not None else None
        labels = labels_of(candidate.data)
        doubts = [s for s in self._suspects if s.concerns(candidate.kind, labels)]
        merged = self._merged(candidate, labels, merger)
        manifest = None
        if candidate.complete:
            manifest = self._manifest(candidate, merged, partial=bool(doubts))
        if key is None:
            return
        for doubt in doubts:
            self._waiting[doubt].append(key)
        for clash in merged.clashes:
            identity = (clash.path, clash.first.name, clash.second.name)
            self._clashes.setdefault(identity, (clash, []))[1].append(key)
        sound = not (doubts or merged.clashes or candidate.flawed or key in twice)
        if sound and isinstance(manifest, Resource):
            self._entries[key] = _entry(candidate, manifest, merged)
        else:
            self._broken.add(key)
        self._documents.setdefault(key, candidate.document)
        self._sources.setdefault(key, candidate.source)
        self._given.setdefault(key, merged.given)

    def _manifest(self, candidate: Candidate, merged: Merged, *, partial: bool) -> Manifest | None:
        """The manifest, or None with its problems noted; made once for the same document with the same defaults."""
        data = {**candidate.data, "spec": merged.spec} if merged.given else candidate.data
        text = json.dumps(data) if merged.given else None
        made = candidate.memo.made
        if made is not None and made[0] == text:
            return made[1]
        subject = self._subject(candidate, candidate.kind)
        found = self._validate(candidate, data, subject, merged.given, partial=partial)
        if found is not None:
            candidate.memo.made = (text, found)
        return found

    def _merged(self, candidate: Candidate, labels: Mapping[str, Value], merger: Merger) -> Merged:
        spec = candidate.data.get("spec", {})
        return merger.merge(candidate.kind, labels, spec) if isinstance(spec, dict) else Merged({})

    def _subject(
        self, candidate: Candidate, kind: Kind, prefix: FieldPath = (), inside: FieldPath = ()
    ) -> Subject:
        document = candidate.document
        return Subject(kind, prefix, inside, lambda path: self._places.written(document, path))

    def _validate(
        self,
        candidate: Candidate,
        data: Mapping[str, object],
        subject: Subject,
        given: Mapping[FieldPath, Layer],
        *,
        partial: bool = False,
    ) -> Manifest | None:
        """The manifest, or None with its problems noted. JSON lets lists become tuples and texts become words."""
        try:
            return MODELS[candidate.kind].model_validate_json(json.dumps(data))
        except ValidationError as error:
            for fault in validation.faults(error, subject, partial=partial):
                self._fault(candidate, fault, given)
            return None

    def _fault(self, candidate: Candidate, fault: Fault, given: Mapping[FieldPath, Layer]) -> None:
        layer = _layer_of(given, fault.path)
        message = fault.message
        if layer is not None:
            at = layer.place(fault.path)
            message = f"{candidate.kind.value}/{candidate.name} takes this from {layer.address}: {message}"
        elif fault.at_key:
            at = self._places.key(candidate.document, fault.path)
        else:
            at = self._places.value(candidate.document, fault.path)
        if at not in self._noted:  # what the YAML reader said of this place is the cause
            self._add(Problem(at, fault.code, message, fault.hint))

    # -- between resources

    def _between(self) -> None:
        """Rules that concern several resources; referred kinds first, so that a broken one is known in time."""
        for entry in list(self._entries.values()):
            for finding in checks.check(entry.manifest):
                self._find(entry, finding)
        self._all(refs.clashes(self._entries, self._place))
        self._all(refs.moved(self._entries, frozenset(self._broken)))
        former = {
            Key(key.kind, old): key
            for key, entry in self._entries.items()
            if (old := entry.manifest.metadata.annotations.get(MOVED_FROM)) is not None
        }
        for kind in (Kind.SERVER, Kind.SITE, Kind.DATABASE):
            lookup = refs.Lookup(self._entries, frozenset(self._broken), self._whole, former)
            for entry in [e for key, e in self._entries.items() if key.kind is kind]:
                findings = [f for path, key in refs.references(entry) if (f := lookup.resolve(path, key))]
                for finding in findings or refs.offers(entry, self._entries):
                    self._find(entry, finding)
            if kind is Kind.SITE:
                self._all(refs.environment(self._entries))
        self._all(rollouts.overlaps(self._entries, self._place))
        # The labels of a server whose manifest cannot be read are not known.
        if self._whole and not any(key.kind is Kind.SERVER for key in self._broken):
            sound = {key: entry for key, entry in self._entries.items() if key not in self._broken}
            self._all(rollouts.idle(sound))

    def _all(self, findings: Iterator[tuple[Entry, Finding]]) -> None:
        for entry, finding in list(findings):
            self._find(entry, finding)

    def _find(self, entry: Entry, finding: Finding) -> None:
        if finding.severity == "error":
            self._broken.add(entry.key)
        layer = _layer_of(self._given[entry.key], finding.path)
        message = finding.message
        if layer is not None:
            message = f"{entry.key} takes this from {layer.address}: {message}"
        at = self._place(entry, finding.path, at_key=finding.at_key)
        self._add(Problem(at, finding.code, message, finding.hint, finding.severity))

    def _place(self, entry: Entry, path: FieldPath, *, at_key: bool = False) -> Source:
        layer = _layer_of(self._given[entry.key], path)
        if layer is not None:
            return layer.place(path)
        document = self._documents[entry.key]
        return self._places.key(document, path) if at_key else self._places.value(document, path)

    # -- messages about many resources

    def _tell_clashes(self) -> None:
        for clash, keys in self._clashes.values():
            other = f"{clash.first.address}, {clash.first.place(clash.path)}"
            message = (
                f"{validation.dotted(clash.path)} gets another value from {other}, of the same priority "
                f"{clash.second.priority}, for {_some(keys)}"
            )
            at = clash.second.place(clash.path)
            self._add(Problem(at, "defaults-clash", message, "give one of the two a higher priority"))

    def _tell_waiting(self) -> None:
        for doubt, keys in self._waiting.items():
            self._add(
                Problem(
                    doubt.source, "blocked", f"{_some(keys)} cannot change before {doubt.title}, is put right"
                )
            )

    def _add(self, problem: Problem) -> None:
        self._problems.append(problem)

    def _locator(self) -> _Locate:
        return _Locate(self._places, self._documents, self._given, self._sources)


class _Locate:
    """Finds the place of a field of a resource: in the Defaults that gave it, else in its own manifest."""

    def __init__(
        self,
        places: Places,
        documents: Mapping[Key, DocumentRef],
        given: Mapping[Key, Mapping[FieldPath, Layer]],
        sources: Mapping[Key, Source],
    ) -> None:
        self._places = places
        self._sources = sources
        self._documents = documents
        self._given = given

    def __call__(self, key: Key, path: FieldPath) -> Source | None:
        """The place of the field's key, or of what is around it when it is not set; None for an unknown resource."""
        if key not in self._documents:
            return None
        if not path:  # the usual question, for which no file needs to be read again
            return self._sources[key]
        layer = _layer_of(self._given[key], path)
        return layer.place(path) if layer is not None else self._places.key(self._documents[key], path)


def _entry(candidate: Candidate, manifest: Resource, merged: Merged) -> Entry:
    """The entry of the fleet; the same one for the same document when nothing came from Defaults."""
    if merged.given:
        defaulted = {path: layer.place(path) for path, layer in merged.given.items()}
        return Entry(manifest, Origin(candidate.source, defaulted))
    known = candidate.memo.entry
    if known is None or known.manifest is not manifest:
        known = candidate.memo.entry = Entry(manifest, Origin(candidate.source))
    return known


def _layer_of(given: Mapping[FieldPath, Layer], path: FieldPath) -> Layer | None:
    if not given:
        return None
    for length in range(len(path), 0, -1):
        layer = given.get(path[:length])
        if layer is not None:
            return layer
    return None


def _some(keys: list[Key]) -> str:
    named = ", ".join(str(key) for key in keys[:_NAMED])
    rest = len(keys) - _NAMED
    return f"{named} and {count(rest, 'more', 'more')}" if rest > 0 else named
