"""Bundles in memory and on disk: the kept one (last applied) and the next one (sent, not yet applied)."""

import os
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Set, Tuple

from . import atomic, canonical, places, vocabulary
from .faults import Refusal
from .vocabulary import Step

KEPT = places.STATE + "/bundle.json"
NEXT = places.STATE + "/bundle-next.json"


class Section(NamedTuple):
    """The steps of one resource."""

    id: str
    needs: List[str]
    steps: List[Step]


class Bundle:
    """A validated bundle. `digest` is the sha256 of its canonical JSON."""

    def __init__(self, value: Any) -> None:
        """Raises Refusal (`bad_request`) when the value is not in the vocabulary."""
        vocabulary.check_bundle(value)
        self.value = value
        self.digest = canonical.digest(value)
        self.package_manager: str = value["package_manager"]
        self.sections = [Section(s["id"], s["needs"], s["steps"]) for s in value["sections"]]

    def chosen(self, ids: Optional[List[str]]) -> List[Section]:
        """The sections named, in the bundle's order; all for None. Raises Refusal for an unknown id."""
        if ids is None:
            return self.sections
        wanted = set(ids)
        unknown = wanted - {section.id for section in self.sections}
        if unknown:
            raise Refusal("bad_request", "the bundle has no section {}".format(sorted(unknown)[0]))
        return [section for section in self.sections if section.id in wanted]

    def steps(self) -> Iterator[Tuple[str, Step]]:
        """Every step with the id of its section."""
        for section in self.sections:
            for step in section.steps:
                yield section.id, step

    def demands(self) -> "Demands":
        """Which units wait for a change of which steps."""
        return Demands(step for _, step in self.steps())

    def bodies(self) -> Set[str]:
        """The sha256 of every body and password that the bundle names."""
        found = set()
        for _, step in self.steps():
            for field in ("sha256", "password"):
                if field in step:
                    found.add(step[field])
        return found


class Demands:
    """Which units want to be reloaded or restarted when a step changes something."""

    def __init__(self, steps: Iterable[Step]) -> None:
        self._keys: Dict[str, List[Tuple[str, str]]] = {}
        self._prefixes: List[Tuple[str, str, str]] = []
        for step in steps:
            if step["type"] != "unit" or step.get("state", "present") != "present":
                continue
            for field, action in (("reload_on", "reload"), ("restart_on", "restart")):
                for key in step.get(field, []):
                    if key.endswith("*"):
                        self._prefixes.append((key[:-1], step["name"], action))
                    else:
                        self._keys.setdefault(key, []).append((step["name"], action))

    def of(self, key: str) -> List[Tuple[str, str]]:
        """(unit, `reload` or `restart`) for each unit that waits for this step."""
        found = [(unit, action) for prefix, unit, action in self._prefixes if key.startswith(prefix)]
        return self._keys.get(key, []) + found


def load(path: str) -> Optional[Bundle]:
    """A bundle from the agent's own storage; None when there is none or it is no longer understood."""
    try:
        value = atomic.load_json(path)
        return None if value is None else Bundle(value)
    except (ValueError, Refusal):
        return None


class Shelf:
    """The two bundles on disk, read again only when the file has changed."""

    def __init__(self) -> None:
        self._read: Dict[str, Tuple[Tuple[int, int, int], Optional[Bundle]]] = {}

    def get(self, path: str) -> Optional[Bundle]:
        """The bundle at KEPT or NEXT, None when there is none."""
        try:
            info = os.stat(places.real(path))
        except FileNotFoundError:
            return None
        stamp = (info.st_ino, info.st_size, info.st_mtime_ns)
        known = self._read.get(path)
        if known is None or known[0] != stamp:
            known = (stamp, load(path))
            self._read[path] = known
        return known[1]

    def find(self, digest: str) -> Bundle:
        """The kept or the next bundle with this digest. Raises Refusal (`unknown_bundle`)."""
        for path in (NEXT, KEPT):
            bundle = self.get(path)
            if bundle is not None and bundle.digest == digest:
                return bundle
        raise Refusal(
            "unknown_bundle", "no bundle {}… is on the node".format(digest[:12]), "send the whole bundle"
        )

    def keep_next(self, value: Any) -> Bundle:
        """Validate a bundle and keep it as the next one. Raises Refusal, OSError."""
        bundle = Bundle(value)
        current = self.get(NEXT)
        if current is None or current.digest != bundle.digest:
            atomic.save_bytes(NEXT, canonical.dumps(value))
        return bundle
