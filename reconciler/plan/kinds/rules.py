"""What a kind's file says about planning: a value, so that no other module asks which kind it has in hand."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from reconciler.desired.fleet import FieldPath
from reconciler.kit.canonical import Json
from reconciler.plan.model import Action, Risk

ANY = "*"
"""In a path pattern: any one name or index."""

_SEVERITY = tuple(Risk)


@dataclass(frozen=True)
class KindRules:
    """How changes to one kind are judged. Paths are in the YAML spelling, without `spec`.

    `replace` are the fields that cannot change in place. `risks` maps a field (or the head of its path) to what changing
    it costs. `sensitive` are patterns of values that are never shown, `silent` those that follow from others and are
    not told beside them. `references` are the fields that name another
    resource, with that resource's kind as a word.
    """

    replace: Collection[str] = ()
    risks: Mapping[tuple[str, ...], Risk] = field(default_factory=dict)
    sensitive: Sequence[tuple[str, ...]] = ()
    silent: Sequence[tuple[str, ...]] = ()
    references: Mapping[str, str] = field(default_factory=dict)
    on_create: tuple[Risk, ...] = ()
    on_delete: tuple[Risk, ...] = ()
    on_replace: tuple[Risk, ...] = ()
    removal: Action | None = None
    """What a removed manifest means whatever its deletionPolicy says; None: the policy decides."""
    default_policy: str = "delete"

    def removed(self, recorded: Mapping[str, Json]) -> Action:
        """DELETE or FORGET for a resource whose manifest is gone; the recorded deletionPolicy counts."""
        if self.removal is not None:
            return self.removal
        policy = spec_of(recorded).get("deletionPolicy") or self.default_policy
        return Action.DELETE if policy == "delete" else Action.FORGET

    def forces(self, path: FieldPath) -> bool:
        """Whether a change of this field (full path, with `spec`) means destroying and creating."""
        return len(path) > 1 and path[0] == "spec" and path[1] in self.replace

    def risk(self, path: FieldPath) -> Risk:
        """What changing this field (full path) costs; the longest known head of the path decides."""
        if not path or path[0] != "spec":
            return Risk.NONE
        inner = tuple(str(part) for part in path[1:])
        for length in range(len(inner), 0, -1):
            if (found := self.risks.get(inner[:length])) is not None:
                return found
        return Risk.NONE

    def follows(self, path: FieldPath) -> bool:
        """Whether the value at this path (full, with `spec`) says nothing that another one does not."""
        return any(matches(pattern, path) for pattern in self.silent)

    def hides(self, path: FieldPath) -> bool:
        """Whether the value at this path (full, with `spec`) or one above it is sensitive."""
        return any(matches(pattern, path) for pattern in self.sensitive)


def matches(pattern: Sequence[str], path: FieldPath) -> bool:
    """Whether `path` (with `spec`) lies at or below `spec` followed by `pattern`."""
    if not path or path[0] != "spec" or len(path) <= len(pattern):
        return False
    return all(want in (ANY, str(got)) for want, got in zip(pattern, path[1:], strict=False))


def spec_of(manifest: Mapping[str, Json] | None) -> Mapping[str, Json]:
    """The `spec` of a canonical manifest; empty when there is none."""
    spec = (manifest or {}).get("spec")
    # `dict` first: it is what JSON gives, and asking the abstract class for each of 10,000 resources is slow.
    return spec if isinstance(spec, dict | Mapping) else {}


def worst_first(risks: Collection[Risk]) -> tuple[Risk, ...]:
    """Without doubles and without `none`, the worst first."""
    return tuple(r for r in reversed(_SEVERITY) if r in risks and r is not Risk.NONE)
