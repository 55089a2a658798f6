"""Where the fields of a document are: found by reading its file once more, and only when somebody asks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.desired.problems import Source
from reconciler.desired.yamldoc import Path, Place, parse

_KEPT_FILES = 64


@dataclass(frozen=True, order=True)
class DocumentRef:
    """A document: its file and its number in it."""

    path: str
    index: int


class Places:
    """Places of fields in a tree of files; keeps those of the last few files."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files
        self._kept: OrderedDict[str, tuple[Mapping[Path, Place], ...]] = OrderedDict()

    def of(self, document: DocumentRef) -> Mapping[Path, Place]:
        """All places of one document."""
        path = document.path
        if path in self._kept:
            self._kept.move_to_end(path)
        else:
            self._kept[path] = parse(path, self._files[path], places=True).places
            if len(self._kept) > _KEPT_FILES:
                self._kept.popitem(last=False)
        found = self._kept[path]
        return found[document.index] if document.index < len(found) else {}

    def key(self, document: DocumentRef, field: Path) -> Source:
        """The key of a field, or of the nearest field around it that the document has."""
        place = self._nearest(document, field)[1]
        return Source(document.path, *place.key)

    def value(self, document: DocumentRef, field: Path) -> Source:
        """The value of a field when it is a scalar, else its key; for an absent field as `key`."""
        found, place = self._nearest(document, field)
        line = place.value if found == field and place.scalar else place.key
        return Source(document.path, *line)

    def written(self, document: DocumentRef, field: Path) -> str | None:
        """A plain scalar as it stands in the file: `8.30` where the value is 8.3."""
        place = self.of(document).get(field)
        return place.written if place else None

    def _nearest(self, document: DocumentRef, field: Path) -> tuple[Path, Place]:
        places = self.of(document)
        for length in range(len(field), -1, -1):
            place = places.get(field[:length])
            if place is not None:
                return field[:length], place
        return (), Place((1, 1), (1, 1))
