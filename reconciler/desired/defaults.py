"""Merging Defaults into the `spec` of resources, with the place that every value came from. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from reconciler.desired.kinds import Kind
from reconciler.desired.places import DocumentRef
from reconciler.desired.problems import Source
from reconciler.desired.yamldoc import Value

Path = tuple[str | int, ...]
Map = dict[str, Value]


@dataclass(frozen=True)
class Layer:
    """One valid Defaults manifest. `place` finds a path of a `spec` in it."""

    name: str
    kind: Kind
    labels: Mapping[str, str]
    priority: int
    values: Map
    document: DocumentRef
    place: Callable[[Path], Source]

    @property
    def address(self) -> str:
        """`Defaults/name`."""
        return f"Defaults/{self.name}"


@dataclass(frozen=True)
class Clash:
    """Two Defaults of equal priority give different values to one field."""

    path: Path
    first: Layer
    second: Layer


@dataclass(frozen=True)
class Merged:
    """A `spec` with its defaults. `given` says which layer a field's value came from."""

    spec: Map
    given: Mapping[Path, Layer] = field(default_factory=dict)
    clashes: tuple[Clash, ...] = ()


class Merger:
    """Merges Defaults into specs; what several Defaults give together is worked out once for each combination."""

    def __init__(self, layers: Iterable[Layer]) -> None:
        # Lower priority first, so that the higher one is laid over it; equal ones in the order of their places.
        self._layers = sorted(layers, key=lambda layer: (layer.priority, layer.document))
        self._bases: dict[tuple[int, ...], Merged] = {}

    def merge(self, kind: Kind, labels: Mapping[str, Value], spec: Map) -> Merged:
        """`spec` over all Defaults whose kind and labels match."""
        matching = tuple(
            number
            for number, layer in enumerate(self._layers)
            if layer.kind is kind and all(labels.get(k) == v for k, v in layer.labels.items())
        )
        if not matching:
            return Merged(spec)
        if matching not in self._bases:
            self._bases[matching] = _base([self._layers[number] for number in matching])
        base = self._bases[matching]
        return Merged(
            spec=_over(base.spec, spec),
            given={path: layer for path, layer in base.given.items() if not _sets(spec, path)},
            clashes=tuple(clash for clash in base.clashes if not _sets(spec, clash.path)),
        )


def _base(layers: Sequence[Layer]) -> Merged:
    """What these layers give together, before any resource has a say."""
    spec: Map = {}
    given: dict[Path, Layer] = {}
    clashes: list[Clash] = []
    for layer in layers:
        for path, value in _leaves(layer.values, ("spec",)):
            # A leaf meets what an earlier layer put at its path, around it or below it.
            met = [p for p in given if p[: len(path)] == path or path[: len(p)] == p]
            clashes = [c for c in clashes if c.first.priority == layer.priority or not _touches(c.path, path)]
            rivals = [given[p] for p in met if given[p].priority == layer.priority]
            if rivals and _get({"spec": spec}, path) != (value,):
                clashes.append(Clash(path, rivals[0], layer))
            for p in met:
                del given[p]
            given[path] = layer
        spec = _over(spec, layer.values)
    return Merged(spec, given, tuple(clashes))


def _leaves(value: Value, path: Path) -> Iterable[tuple[Path, Value]]:
    """Paths and values of everything but maps: lists are replaced as a whole, so they are leaves."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    else:
        yield path, value


def _touches(one: Path, other: Path) -> bool:
    length = min(len(one), len(other))
    return one[:length] == other[:length]


def _get(value: Value, path: Path) -> tuple[Value, ...]:
    """The value at a path as a tuple of one, or an empty tuple when there is none."""
    for part in path:
        if not isinstance(value, dict) or part not in value:
            return ()
        value = value[str(part)]
    return (value,)


def _sets(spec: Map, path: Path) -> bool:
    """Whether a resource's own spec decides about a path: by a value there, or by something else than a map above it."""
    value: Value = spec
    for part in path[1:]:  # the first part is `spec` itself
        if not isinstance(value, dict):
            return True
        if part not in value:
            return False
        value = value[str(part)]
    return True


def _over(base: Map, top: Map) -> Map:
    """Maps merged key by key, everything else replaced. Shares what it does not change."""
    merged = dict(base)
    for key, value in top.items():
        under = merged.get(key)
        merged[key] = _over(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return merged
