"""First half of planning: what each resource's manifests say, before anything is rendered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.desired.fleet import FieldPath, Fleet, Key
from reconciler.desired.kinds import Kind
from reconciler.desired.problems import Source
from reconciler.kit.canonical import Json
from reconciler.plan.diff import RawDiff, field_diffs
from reconciler.plan.kinds import RULES, spec_of
from reconciler.plan.manifests import modern
from reconciler.plan.model import Action, FieldDiff
from reconciler.plan.standing import Stand, Standing

_ON_NODES = (Kind.SERVER, Kind.SITE, Kind.DATABASE)


@dataclass(frozen=True)
class Draft:
    """What the manifests of one resource say. `differs` is true when the resource itself changes, not only its steps."""

    key: Key
    standing: Standing
    action: Action
    diffs: tuple[FieldDiff, ...]
    before: Mapping[str, Json] | None
    after: Mapping[str, Json] | None
    server: str | None
    previous_server: str | None
    retained: bool = False

    @property
    def differs(self) -> bool:
        """Whether neighbours may see something else than before."""
        return self.action is not Action.NO_OP


class Drafting:
    """Makes drafts. `renamed_servers` maps recorded server names to their new ones: moving with a server is no move."""

    def __init__(self, fleet: Fleet, renamed_servers: Mapping[str, str]) -> None:
        self._fleet = fleet
        self._renamed = renamed_servers

    def draft(self, key: Key, standing: Standing) -> Draft:
        """The draft of one resource."""
        match standing.stand:
            case Stand.WANTED:
                return self._wanted(key, standing)
            case Stand.GONE:
                return self._gone(key, standing)
            case Stand.HELD | Stand.BARRED:
                return self._held(key, standing)

    def _wanted(self, key: Key, standing: Standing) -> Draft:
        after = standing.declared
        assert after is not None  # noqa: S101 - WANTED means declared
        server = server_of(key, after)
        found = standing.recorded
        if found is None:
            return Draft(key, standing, Action.CREATE, (), None, after, server, None)
        diffs = self._diffs(key, found.manifest, after)
        was_on = self._renamed.get(found.server, found.server) if found.server else None
        moved = found.server if was_on not in (None, server) else None
        action, retained = Action.NO_OP, False
        if any(d.forces_replacement for d in diffs):
            action, retained = Action.REPLACE, RULES[key.kind].removed(found.manifest) is Action.FORGET
        elif diffs or standing.previous is not None:
            action = Action.UPDATE
        return Draft(key, standing, action, diffs, found.manifest, after, server, moved, retained)

    def _gone(self, key: Key, standing: Standing) -> Draft:
        found = standing.recorded
        assert found is not None  # noqa: S101 - GONE means recorded
        action = RULES[key.kind].removed(found.manifest)
        return Draft(key, standing, action, (), found.manifest, None, found.server, None)

    def _held(self, key: Key, standing: Standing) -> Draft:
        """Left as it is; but that it is suspended must be recorded, or removing its manifest later would delete it."""
        found = standing.recorded
        if found is None:
            server = server_of(key, standing.declared) if standing.declared else None
            return Draft(key, standing, Action.NO_OP, (), None, None, server, None)
        before = found.manifest
        if standing.code == "suspended" and spec_of(standing.declared).get("suspend") is True:
            after = {**before, "spec": {**spec_of(before), "suspend": True}}
            if diffs := self._diffs(key, before, after):
                return Draft(key, standing, Action.UPDATE, diffs, before, after, found.server, None)
        return Draft(key, standing, Action.NO_OP, (), before, before, found.server, None)

    def _diffs(
        self, key: Key, before: Mapping[str, Json], after: Mapping[str, Json]
    ) -> tuple[FieldDiff, ...]:
        if before == after:
            return ()
        return field_diffs(
            key.kind,
            modern(key.kind, before),
            modern(key.kind, after),
            locate=lambda path: self.locate(key, path),
            in_place=self._follows_a_rename,
        )

    def _follows_a_rename(self, raw: RawDiff) -> bool:
        return (
            raw.path == ("spec", "server")
            and isinstance(raw.before, str)
            and self._renamed.get(raw.before) == raw.after
        )

    def locate(self, key: Key, path: FieldPath) -> Source | None:
        """The place of a field, or of the manifest when `path` is empty and nothing better is known."""
        found = self._fleet.locate(key, path)
        if found is None and not path and (entry := self._fleet.entries.get(key)) is not None:
            return entry.origin.source
        return found


def server_of(key: Key, manifest: Mapping[str, Json]) -> str | None:
    """The server whose node the resource is on; a key or a person is on none."""
    if key.kind not in _ON_NODES:
        return None
    if key.kind is Kind.SERVER:
        return key.name
    server = spec_of(manifest).get("server")
    return server if isinstance(server, str) else None


def references(key: Key, manifest: Mapping[str, Json] | None) -> list[Key]:
    """The resources that a manifest names."""
    spec = spec_of(manifest)
    logins = spec.get("logins")
    people = [
        Key(Kind.USER, str(login["user"]))
        for login in (logins if isinstance(logins, list | tuple) else ())
        if isinstance(login, Mapping) and key.kind is Kind.SERVER
    ]
    return people + [
        Key(Kind(kind), value)
        for field, kind in RULES[key.kind].references.items()
        if isinstance(value := spec.get(field), str)
    ]
