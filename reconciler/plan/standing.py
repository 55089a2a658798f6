"""Which manifest counts for each resource: the declared one, the recorded one, or none.

A resource that is broken, suspended or unknown keeps its recorded manifest, and what others see of it (a site its
database's login, for example) is that manifest too: a broken file never changes its neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import assert_never

from reconciler.desired.fleet import Fleet, Key
from reconciler.desired.kinds import Kind, Resource
from reconciler.kit.canonical import Json
from reconciler.kit.text import count
from reconciler.plan.kinds import RULES, spec_of
from reconciler.plan.manifests import parse
from reconciler.plan.model import Finding
from reconciler.plan.moves import find_moves
from reconciler.plan.recorded import Recorded, RecordedResource


class Stand(StrEnum):
    """How a resource stands before anything is compared."""

    WANTED = "wanted"
    """Its declared manifest counts."""
    HELD = "held"
    """It stays as recorded, whatever is declared."""
    BARRED = "barred"
    """It is declared but cannot be created now."""
    GONE = "gone"
    """It is recorded and its manifest was removed."""


@dataclass(frozen=True)
class Standing:
    """One resource.

    `manifest` is the one that counts, for itself and for what its neighbours see (None when gone, barred or unreadable);
    `declared` the canonical JSON of the declared one, if there is a valid one. `code` and `why` say what stands in the way.
    """

    stand: Stand
    manifest: Resource | None = None
    recorded: RecordedResource | None = None
    declared: Mapping[str, Json] | None = None
    previous: Key | None = None
    code: str = ""
    why: str = ""

    @property
    def spec(self) -> Mapping[str, Json]:
        """The spec that counts, as JSON; empty for what is gone or barred."""
        match self.stand:
            case Stand.WANTED:
                return spec_of(self.declared)
            case Stand.HELD:
                return spec_of(self.recorded.manifest if self.recorded else None)
            case Stand.BARRED | Stand.GONE:
                return {}
            case _:
                assert_never(self.stand)


@dataclass(frozen=True)
class Standings:
    """All resources, declared or recorded. A renamed one is listed under its new key only."""

    of: dict[Key, Standing] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


Holds = Mapping[Key, str]
"""Resources that stay as they are recorded, whatever is declared, each with the reason."""


def settle(fleet: Fleet, recorded: Recorded, hold: Holds | None = None) -> Standings:
    """Decide for every resource; the findings are those about renames and about removals that were left out."""
    return _Settling(fleet, recorded, hold or {}).run()


class _Settling:
    """The rules, in their order. One use: `run` fills `of` and returns it."""

    def __init__(self, fleet: Fleet, recorded: Recorded, hold: Holds) -> None:
        self.fleet = fleet
        self.hold = hold
        self.recorded = recorded
        self.moves = find_moves(fleet, recorded)
        self.of: dict[Key, Standing] = {}
        self.left_out: list[Key] = []
        # A broken manifest under a name that is not recorded may be a recorded resource under its new name.
        self.strangers: dict[Kind, str] = {}
        for key in sorted(fleet.broken - recorded.resources.keys()):
            self.strangers.setdefault(key.kind, str(key))

    def run(self) -> Standings:
        for key in self.fleet.entries.keys() - self.fleet.broken:
            self._declared(key)
        for key in self.fleet.broken:
            self._as_recorded(key, "invalid", "its manifest has problems, so it is left as it is")
        taken_over = {s.previous for s in self.of.values() if s.previous}
        for key in self.recorded.resources.keys() - self.of.keys() - taken_over:
            self._undeclared(key)
        self._keep_what_is_used()
        self._need_a_server()
        return Standings(self.of, (*self.moves.findings, *self._findings()))

    def _declared(self, key: Key) -> None:
        entry = self.fleet.entries[key]
        manifest, declared = entry.manifest, entry.json
        previous = self.moves.old_of.get(key)
        if manifest.spec.suspend:
            self._as_recorded(key, "suspended", "`suspend: true`", declared, previous)
            return
        if (why := self.hold.get(key) or (self.hold.get(previous) if previous else None)) is not None:
            self._as_recorded(key, "held", why, declared, previous)
            return
        found = self.recorded.resources.get(previous or key)
        self.of[key] = Standing(Stand.WANTED, manifest, found, declared, previous)

    def _as_recorded(
        self,
        key: Key,
        code: str,
        why: str,
        declared: Mapping[str, Json] | None = None,
        previous: Key | None = None,
    ) -> None:
        """Hold what is recorded of it; without a record it is barred. A rename waits too: the old name is held."""
        if previous is not None:
            self._as_recorded(previous, code, f"{key} takes over later: {why}")
        found = self.recorded.resources.get(key)
        if found is None:
            self.of[key] = Standing(Stand.BARRED, declared=declared, code=code, why=why)
        else:
            manifest = parse(key.kind, found.manifest)
            self.of[key] = Standing(Stand.HELD, manifest, found, declared, code=code, why=why)

    def _undeclared(self, key: Key) -> None:
        found = self.recorded.resources[key]
        if spec_of(found.manifest).get("suspend") is True:
            why = "it was suspended when its manifest was removed; declare it again without `suspend` to remove it"
            self._as_recorded(key, "suspended", why)
        elif key in self.hold:
            self._as_recorded(key, "held", self.hold[key])
        elif key in self.moves.disputed:
            claimants = " and ".join(map(str, self.moves.disputed[key]))
            self._as_recorded(key, "ambiguous", f"{claimants} claim to be its new name")
        elif doubt := self._doubt(key):
            self._as_recorded(key, "kept", doubt)
            self.left_out.append(key)
        else:
            self.of[key] = Standing(Stand.GONE, recorded=found, code="removed")

    def _doubt(self, key: Key) -> str:
        """Why the missing manifest may not mean that it was removed; empty when it does."""
        if not self.fleet.entries:
            return "the source declares nothing valid, which never means deletion"
        if not self.fleet.whole:
            return "a file of the source could not be read and may declare it"
        if key.kind in self.strangers:
            return f"{self.strangers[key.kind]} has problems and may be its new name"
        return ""

    def _keep_what_is_used(self) -> None:
        """Hold servers and keys whose manifests were removed while something that stays still needs them."""
        for kind, users in ((Kind.SERVER, (Kind.SITE, Kind.DATABASE)), (Kind.SSH_KEY, (Kind.SERVER,))):
            used: dict[str, Key] = {}
            for key in sorted(k for k in self.of if k.kind in users):
                if needed := _reference(key.kind, kind, self.of[key].spec):
                    used.setdefault(needed, key)
            for key, standing in list(self.of.items()):
                if key.kind is kind and standing.stand is Stand.GONE and key.name in used:
                    self._as_recorded(
                        key, "in-use", f"its manifest was removed, but {used[key.name]} needs it"
                    )

    def _need_a_server(self) -> None:
        """Without a usable server there are no sections: its sites and databases wait."""
        for key, standing in list(self.of.items()):
            if key.kind not in (Kind.SITE, Kind.DATABASE) or standing.stand is not Stand.WANTED:
                continue
            name = _reference(key.kind, Kind.SERVER, standing.spec)
            server = self.of.get(Key(Kind.SERVER, name))
            if server is None:
                self._wait(key, standing, "invalid", f"no Server/{name} is declared")
            elif server.manifest is None:
                why = server.why or "its record cannot be read"
                self._wait(key, standing, server.code or "invalid", f"Server/{name} cannot be used: {why}")

    def _wait(self, key: Key, standing: Standing, code: str, why: str) -> None:
        self._as_recorded(key, code, why, standing.declared, standing.previous)

    def _findings(self) -> tuple[Finding, ...]:
        addresses = tuple(str(key) for key in sorted(self.left_out))
        nothing_declared = not self.fleet.entries and not self.fleet.broken and self.recorded.resources
        if nothing_declared or (not self.fleet.entries and addresses):
            message = (
                f"The source declares no valid resource, but {count(len(self.recorded.resources), 'resource')} "
                f"are recorded. Nothing is deleted."
            )
            hint = "Check the branch and the folder. To give up a fleet, remove its resources in several commits."
            return (Finding("empty-source", message, True, addresses, hint, approvable=False),)  # noqa: FBT003
        if addresses or not self.fleet.whole:
            message = f"Part of the source could not be read: {count(len(addresses), 'removal')} left out."
            hint = "Correct the problems; the removals follow with the next plan."
            return (Finding("incomplete-source", message, False, addresses, hint),)  # noqa: FBT003
        return ()


def _reference(kind: Kind, wanted: Kind, spec: Mapping[str, Json]) -> str:
    """The name of the resource of kind `wanted` that a spec of `kind` refers to; empty when there is none."""
    for name, referred in RULES[kind].references.items():
        if referred == wanted.value and isinstance(value := spec.get(name), str):
            return value
    return ""
