"""What came of the sections of a kept bundle, as it is gathered."""

from __future__ import annotations

from dataclasses import dataclass, field

from reconciler.desired.fleet import Fleet
from reconciler.desired.kinds import Kind, Resource
from reconciler.importing.draft import Draft, Note, shown
from reconciler.nodes.inventory import KeptSection
from reconciler.plan import manifests

_MOST = 6


@dataclass
class Managed:
    """Drafts, what the report says of them, and the addresses whose every step is explained. `known` are declared."""

    known: list[Draft] = field(default_factory=list)
    drafts: list[Draft] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    fitting: set[str] = field(default_factory=set)

    @property
    def all(self) -> tuple[Draft, ...]:
        """Those that are declared and those that are new."""
        return (*self.known, *self.drafts)

    def declared(self, kept: KeptSection, fleet: Fleet) -> Resource | None:
        """The resource of a section, if the fleet declares it; it is known then."""
        word, _, name = kept.id.partition("/")
        found = fleet.get(Kind(word), name)
        if found is not None:
            value = manifests.to_json(found)["spec"]
            if isinstance(value, dict):
                self.known.append(Draft(Kind(word), name, dict(value)))
        return found

    def unexplained(self, address: str, keys: list[str]) -> None:
        """Say which steps the manifest does not render as they were applied."""
        if not keys:
            return
        more = f" and {len(keys) - _MOST} more" if len(keys) > _MOST else ""
        listed = ", ".join(shown(key, 120) for key in keys[:_MOST]) + more
        told = f"the manifest does not explain these as they are, and an apply changes them: {listed}"
        self.notes.append(Note(address, told))
