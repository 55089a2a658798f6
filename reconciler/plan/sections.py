"""What planning asks of the renderer of sections, and the binding to the real one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from reconciler.blueprint.model import Section, Step
from reconciler.desired.fleet import Fleet, Key
from reconciler.desired.kinds import Server


class SectionRenderer(Protocol):
    """Renders a server's sections in plan form: complete, but secret bodies are masked."""

    def sections(
        self, server: Server, fleet: Fleet, identities: Mapping[Key, Mapping[str, str]]
    ) -> Sequence[Section]:
        """The sections of `server`: its own, its sites' and its databases'; the id of each is the resource's address."""
        ...

    def removals(self, before: Sequence[Step], keep: Collection[str]) -> Sequence[Step]:
        """The steps that undo `before`, but for those whose keys are in `keep`."""
        ...

    def describe(self, step: Step) -> str:
        """One line for people; never holds a body."""
        ...


class BlueprintRenderer:
    """The real blueprints with every secret masked: a plan opens no secret."""

    def sections(
        self, server: Server, fleet: Fleet, identities: Mapping[Key, Mapping[str, str]]
    ) -> Sequence[Section]:
        """As the protocol says."""
        from reconciler import blueprint  # noqa: PLC0415 - templates are read only when something is planned

        return blueprint.sections(server, fleet, identities, blueprint.masked)

    def removals(self, before: Sequence[Step], keep: Collection[str]) -> Sequence[Step]:
        """As the protocol says."""
        from reconciler import blueprint  # noqa: PLC0415

        return blueprint.removals(before, keep)

    def describe(self, step: Step) -> str:
        """As the protocol says."""
        from reconciler import blueprint  # noqa: PLC0415

        return blueprint.describe(step)
