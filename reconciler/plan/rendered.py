"""The sections of every server as the plan would leave them, and how a resource's steps differ from the recorded ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from reconciler.blueprint.model import Section, Step
from reconciler.desired.fleet import Entry, Fleet, Key, Origin
from reconciler.desired.kinds import Database, Kind, Server, Site
from reconciler.desired.problems import Source
from reconciler.errors import UsageFault
from reconciler.kit import canonical
from reconciler.plan.model import PlannedStep, Risk
from reconciler.plan.recorded import Recorded
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
    """`steps` by address of the resource; `keep` by server: step keys that no removal may undo."""

    steps: dict[str, tuple[Step, ...]] = field(default_factory=dict)
    keep: dict[str, set[str]] = field(default_factory=dict)
    triggers: dict[str, Triggers] = field(default_factory=dict)


def render_all(
    standings: Standings,
    fleet: Fleet,
    recorded: Recorded,
    identities: Mapping[Key, Mapping[str, str]],
    renderer: SectionRenderer,
) -> Rendered:
    """Render every server whose manifest counts, each with only what belongs to it."""
    result = Rendered()
    for name, entries in _by_server(standings, fleet).items():
        server = entries[Key(Kind.SERVER, name)].manifest
        assert isinstance(server, Server)  # noqa: S101 - a Server's key holds a Server
        for section in _sections(server, Fleet(entries), identities, renderer):
            result.steps[section.id] = section.steps
            result.keep.setdefault(name, set()).update(step.key for step in section.steps)
    for standing in standings.of.values():
        found = standing.recorded
        if standing.stand is Stand.HELD and found is not None and found.server is not None:
            result.keep.setdefault(found.server, set()).update(step.key for step in found.steps)
    running = {
        (r.server, step.key) for r in recorded.resources.values() for step in r.steps if step.type == "unit"
    }
    _find_triggers(result, standings, running)
    return result


def _sections(
    server: Server, fleet: Fleet, identities: Mapping[Key, Mapping[str, str]], renderer: SectionRenderer
) -> Sequence[Section]:
    try:
        return renderer.sections(server, fleet, identities)
    except ValueError as fault:
        # Validation lets no such manifest through, but a record of an older version may hold one.
        raise UsageFault(
            f"{server.address}: what its node should have cannot be rendered: {fault}",
            hint="Correct the value in the manifest.",
        ) from fault


def _by_server(standings: Standings, fleet: Fleet) -> dict[str, dict[Key, Entry]]:
    """Small fleets, one a server: rendering looks things up in its fleet, and a whole fleet would make that slow."""
    groups: dict[str, dict[Key, Entry]] = {}
    counting = {key: s for key, s in standings.of.items() if s.manifest is not None}
    for key in sorted(counting):
        if key.kind is Kind.SERVER:
            groups[key.name] = {key: _entry(key, standings, fleet)}
    for key in sorted(counting):
        match counting[key].manifest:
            case Site() | Database() as manifest if manifest.spec.server in groups:
                groups[manifest.spec.server][key] = _entry(key, standings, fleet)
            case Server() as manifest:
                ssh_key = Key(Kind.SSH_KEY, manifest.spec.ssh_key)
                if ssh_key in counting:
                    groups[key.name][ssh_key] = _entry(ssh_key, standings, fleet)
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


def _find_triggers(
    result: Rendered, standings: Standings, running: Collection[tuple[str | None, str]]
) -> None:
    for key, standing in standings.of.items():
        server = key.name if key.kind is Kind.SERVER else standing.spec.get("server")
        if not isinstance(server, str):
            continue
        was_on = standing.recorded.server if standing.recorded else server
        for step in result.steps.get(str(key), ()):
            # A unit that is only now created interrupts nobody.
            if step.type != "unit" or (
                (server, step.key) not in running and (was_on, step.key) not in running
            ):
                continue
            triggers = result.triggers.setdefault(server, Triggers())
            for name, risk in (("reload_on", Risk.RELOAD), ("restart_on", Risk.RESTART)):
                causes = step.params.get(name)
                for cause in causes if isinstance(causes, list | tuple) else ():
                    triggers.add(str(cause), risk)


def step_changes(
    before: Sequence[Step], after: Sequence[Step], keep: Collection[str], renderer: SectionRenderer
) -> tuple[PlannedStep, ...]:
    """What differs, in the order of application: creations and updates, then what nothing needs any more."""
    old = {step.key: step for step in before}
    changes = [
        PlannedStep(_operation(old.get(step.key), step), step.key, renderer.describe(step))
        for step in after
        if not same(old.get(step.key), step)
    ]
    return (*changes, *removal_steps(before, keep, renderer))


def removal_steps(
    before: Sequence[Step], keep: Collection[str], renderer: SectionRenderer
) -> tuple[PlannedStep, ...]:
    """The steps that undo `before` but for what is in `keep`."""
    return tuple(
        PlannedStep("delete", step.key, renderer.describe(step)) for step in renderer.removals(before, keep)
    )


def checked_steps(steps: Sequence[Step], renderer: SectionRenderer) -> tuple[PlannedStep, ...]:
    """All steps as `none`: looked at again, changed only where the node differs."""
    return tuple(PlannedStep("none", step.key, renderer.describe(step)) for step in steps)


def _operation(old: Step | None, new: Step) -> str:
    if new.params.get("state") == "absent":
        return "delete"
    return "create" if old is None else "update"


def same(old: Step | None, new: Step) -> bool:
    """Whether two steps mean the same on the wire; a tuple and a list do."""
    if old is None:
        return False
    return old.params == new.params or canonical.dumps(old.params) == canonical.dumps(new.params)
