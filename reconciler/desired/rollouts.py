"""Rules between Rollouts and the Servers that they select. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from reconciler.desired.findings import Finding
from reconciler.desired.fleet import Entry, FieldPath, Key
from reconciler.desired.kinds import Rollout, Server
from reconciler.desired.problems import Source

Place = Callable[[Entry, FieldPath], Source]

_SELECTOR: FieldPath = ("spec", "selector")


def selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether something with these labels has all that a selector asks for; an empty one asks for nothing."""
    return all(labels.get(name) == value for name, value in selector.items())


def overlaps(entries: Mapping[Key, Entry], place: Place) -> Iterator[tuple[Entry, Finding]]:
    """For Rollouts that select one server, the later one in the order of path and line."""
    servers = list(_servers(entries))
    taken: dict[str, Entry] = {}
    for entry, rollout in sorted(_rollouts(entries), key=lambda found: found[0].origin.source):
        told: set[Key] = set()
        for server in servers:
            if not selects(rollout.spec.selector, server.metadata.labels):
                continue
            other = taken.setdefault(server.name, entry)
            if other is not entry and other.key not in told:
                told.add(other.key)
                message = f"{other.key}, {place(other, _SELECTOR)}, selects {server.address} too"
                hint = "a server has one Rollout: narrow one of the two selectors"
                yield entry, Finding(_SELECTOR, "rollouts-overlap", message, hint)


def idle(entries: Mapping[Key, Entry]) -> Iterator[tuple[Entry, Finding]]:
    """Warnings: selectors that select no server, and waves for which earlier waves leave none."""
    servers = list(_servers(entries))
    for entry, rollout in _rollouts(entries):
        mine = left = [s for s in servers if selects(rollout.spec.selector, s.metadata.labels)]
        if not mine:
            message = "the selector of this rollout selects no server"
            yield entry, Finding(_SELECTOR, "selects-nothing", message, severity="warning")
            continue
        for number, wave in enumerate(rollout.spec.waves):
            found = [s for s in mine if selects(wave.selector, s.metadata.labels)]
            # A wave of all that are left may well find none.
            if wave.selector and not any(s in left for s in found):
                message = f"the wave {wave.name} selects no server of this rollout"
                if found:
                    message = f"all servers that the wave {wave.name} selects are in earlier waves"
                path: FieldPath = ("spec", "waves", number, "name")
                yield entry, Finding(path, "selects-nothing", message, severity="warning")
            left = [s for s in left if s not in found]


def _rollouts(entries: Mapping[Key, Entry]) -> Iterator[tuple[Entry, Rollout]]:
    found = [(key, e, e.manifest) for key, e in entries.items() if isinstance(e.manifest, Rollout)]
    return ((e, manifest) for _, e, manifest in sorted(found, key=lambda one: one[0]))


def _servers(entries: Mapping[Key, Entry]) -> Iterator[Server]:
    found = [(key, e.manifest) for key, e in entries.items() if isinstance(e.manifest, Server)]
    return (manifest for _, manifest in sorted(found, key=lambda one: one[0]))
