"""The sections of the servers in scope, as the plan would leave them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from reconciler.blueprint.model import Section, Step
from reconciler.desired.fleet import Entry, Fleet, Key, Origin
from reconciler.desired.kinds import Database, Kind, Server, Site
from reconciler.desired.problems import Source
from reconciler.errors import UsageFault
from reconciler.plan.manifests import parse
from reconciler.plan.model import Risk
from reconciler.plan.recorded import Recorded, RecordedResource
from reconciler.plan.sections import SectionRenderer
from reconciler.plan.standing import Stand, Standings


@dataclass
class Triggers:
    """What changed step keys do to units of one node that run already; a key in a unit's list may end with `*`."""

    exact: dict[str, set[Risk]] = field(default_factory=dict)
    prefixes: list[tuple[str, Risk]] = field(default_factory=list)

    def add(self, cause: str, risk: Risk) -> None:
        """A unit names `cause` in its `reload_on` or `restart_on`."""
        if cause.endswith("*"):
            self.prefixes.append((cause[:-1], risk))
        else:
            self.exact.setdefault(cause, set()).add(risk)

    def of(self, key: str) -> set[Risk]:
        """What a change of the step `key` brings about."""
        return self.exact.get(key, set()) | {risk for prefix, risk in self.prefixes if key.startswith(prefix)}


@dataclass
class Rendered:
    """`after` by address of the resource; `keep` by server: step keys that no removal may undo.

    Servers that are not in the scope are not in `after`: what is recorded of their resources is what they have.
    `base` holds the recorded steps of an offline state, which has none of its own.
    """

    scope: Collection[str]
    after: dict[str, tuple[Step, ...]] = field(default_factory=dict)
    base: dict[str, tuple[Step, ...]] = field(default_factory=dict)
    keep: dict[str, set[str]] = field(default_factory=dict)
    triggers: dict[str, Triggers] = field(default_factory=dict)

    def recorded(self, found: RecordedResource | None) -> tuple[Step, ...]:
        """The steps last applied."""
        if found is None:
            return ()
        return found.steps or self.base.get(str(found.key), ())


def render_scope(
    standings: Standings,
    fleet: Fleet,
    recorded: Recorded,
    identities: Mapping[Key, Mapping[str, str]],
    renderer: SectionRenderer,
    scope: Collection[str],
) -> Rendered:
    """Render the servers in `scope` (names), each with only what belongs to it.

    Raises UsageFault when a value cannot be written into a configuration file.
    """
    result = Rendered(scope)
    if recorded.offline:
        result.base = _base(recorded, scope, renderer)
    for name, entries in _by_server(standings, fleet, scope).items():
        for section in _sections(name, entries, identities, renderer):
            result.after[section.id] = section.steps
            result.keep.setdefault(name, set()).update(step.key for step in section.steps)
    for standing in standings.of.values():
        found = standing.recorded
        if standing.stand is Stand.HELD and found is not None and found.server is not None:
            keys = {step.key for step in result.recorded(found)}
            result.keep.setdefault(found.server, set()).update(keys)
    _find_triggers(result, standings)
    return result


def _base(
    recorded: Recorded, scope: Collection[str], renderer: SectionRenderer
) -> dict[str, tuple[Step, ...]]:
    """The sections of the recorded manifests, of the servers that have something in `scope`."""
    groups: dict[str, dict[Key, Entry]] = {}
    for key, found in sorted(recorded.resources.items()):
        name = found.server
        if name in scope and name is not None and (manifest := parse(key.kind, found.manifest)) is not None:
            groups.setdefault(name, {})[key] = Entry(manifest, Origin(found.source or Source("")))
    for entries in groups.values():
        for login in [
            login
            for e in entries.values()
            if isinstance(e.manifest, Server)
            for login in e.manifest.spec.logins
        ]:
            key = Key(Kind.USER, login.user)
            person = recorded.resources.get(key)
            if person is not None and (manifest := parse(key.kind, person.manifest)) is not None:
                entries[key] = Entry(manifest, Origin(person.source or Source("")))
    identities = {key: found.identity for key, found in recorded.resources.items()}
    return {
        section.id: section.steps
        for name, entries in groups.items()
        if Key(Kind.SERVER, name) in entries
        for section in _sections(name, entries, identities, renderer)
    }


def _sections(
    name: str,
    entries: Mapping[Key, Entry],
    identities: Mapping[Key, Mapping[str, str]],
    renderer: SectionRenderer,
) -> Sequence[Section]:
    server = entries[Key(Kind.SERVER, name)].manifest
    assert isinstance(server, Server)  # noqa: S101 - a Server's key holds a Server
    try:
        return renderer.sections(server, Fleet(entries), identities)
    except ValueError as fault:
        # Validation lets no such manifest through, but a record of an older version may hold one.
        raise UsageFault(
            f"{server.address}: what its node should have cannot be rendered: {fault}",
            hint="Correct the value in the manifest.",
        ) from fault


def _by_server(standings: Standings, fleet: Fleet, scope: Collection[str]) -> dict[str, dict[Key, Entry]]:
    """Small fleets, one a server: rendering looks things up in its fleet, and a whole fleet would make that slow."""
    groups: dict[str, dict[Key, Entry]] = {}
    counting = {key: s for key, s in standings.of.items() if s.manifest is not None}
    for key in sorted(k for k in counting if k.kind is Kind.SERVER and k.name in scope):
        groups[key.name] = {key: _entry(key, standings, fleet)}
    for key in sorted(counting):
        match counting[key].manifest:
            case Site() | Database() as manifest if manifest.spec.server in groups:
                groups[manifest.spec.server][key] = _entry(key, standings, fleet)
            case Server() as manifest if key.name in groups:
                ssh_key = Key(Kind.SSH_KEY, manifest.spec.ssh_key)
                people = (Key(Kind.USER, login.user) for login in manifest.spec.logins)
                for named in (ssh_key, *people):
                    if named in counting:
                        groups[key.name][named] = _entry(named, standings, fleet)
            case _:
                pass
    return groups


def _entry(key: Key, standings: Standings, fleet: Fleet) -> Entry:
    standing = standings.of[key]
    if standing.stand is Stand.WANTED:
        return fleet.entries[key]
    assert standing.manifest is not None  # noqa: S101 - only manifests that count are asked for
    found = standing.recorded
    return Entry(standing.manifest, Origin((found.source if found else None) or Source("")))


def _find_triggers(result: Rendered, standings: Standings) -> None:
    for key, standing in standings.of.items():
        server = key.name if key.kind is Kind.SERVER else standing.spec.get("server")
        if not isinstance(server, str):
            continue
        # A unit that is only now created interrupts nobody.
        running = {step.key for step in result.recorded(standing.recorded) if step.type == "unit"}
        for step in result.after.get(str(key), ()):
            if step.key not in running:
                continue
            triggers = result.triggers.setdefault(server, Triggers())
            for name, risk in (("reload_on", Risk.RELOAD), ("restart_on", Risk.RESTART)):
                causes = step.params.get(name)
                for cause in causes if isinstance(causes, list | tuple) else ():
                    triggers.add(str(cause), risk)
