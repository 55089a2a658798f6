"""Desired against recorded (and observed) becomes a plan.

settle    which manifest counts for each resource     standing.py, moves.py
draft     what differs between the manifests          draft.py, diff.py, kinds/
allocate  system users of new sites                   allocate.py
render    the steps on every node, in plan form       rendered.py, reconciler/blueprint
decide    action, reason, risks and steps of each     changes.py
guard     what may not happen without a person        guards.py
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from reconciler.desired.fleet import Key, Loaded
from reconciler.desired.kinds import Kind
from reconciler.plan.allocate import Allocator
from reconciler.plan.changes import Deciding
from reconciler.plan.draft import Draft, Drafting
from reconciler.plan.guards import Thresholds, inspect
from reconciler.plan.kinds import CREATION_ORDER
from reconciler.plan.model import Action, Change, DriftItem, Plan
from reconciler.plan.recorded import Recorded
from reconciler.plan.rendered import render_scope
from reconciler.plan.scope import touched_servers
from reconciler.plan.sections import BlueprintRenderer, SectionRenderer
from reconciler.plan.standing import Holds, Standings, settle


class Head(Protocol):
    """The revision that is planned."""

    @property
    def commit(self) -> str:
        """Commit id, or `worktree`."""
        ...

    @property
    def author_name(self) -> str:
        """Who wrote the commit; empty when unknown."""
        ...

    @property
    def author_email(self) -> str:
        """Their address; empty when unknown."""
        ...


def make_plan(  # noqa: PLR0913 - three inputs, and what describes them
    loaded: Loaded,
    recorded: Recorded,
    *,
    head: Head,
    created_at: str,
    engine: str,
    drift: Sequence[DriftItem] = (),
    refreshed: bool = False,
    unreachable: Mapping[str, str] | None = None,
    renderer: SectionRenderer | None = None,
    hold: Holds | None = None,
    thresholds: Thresholds | None = None,
) -> Plan:
    """Compare a revision with the recorded state. Pure: the same inputs give the same plan.

    `created_at` is RFC 3339; `engine` names this version of the program and its templates. `drift`, `refreshed` and
    `unreachable` (server to reason) say what asking the nodes gave. Problems of manifests are carried along; they never
    raise. `renderer` stands in for the blueprints in tests. What is in `hold` (resource to reason) stays as recorded.
    `thresholds` are those of the guard against mass deletion.
    """
    renderer = renderer or BlueprintRenderer()
    standings = settle(loaded.fleet, recorded, hold)
    renamed = _renamed_servers(standings)
    drafting = Drafting(loaded.fleet, renamed)
    drafts = {key: drafting.draft(key, standing) for key, standing in sorted(standings.of.items())}
    identities = _identities(drafts, Allocator(recorded, renamed))
    scope = touched_servers(drafts, recorded, engine)
    rendered = render_scope(standings, loaded.fleet, recorded, identities, renderer, scope)
    deciding = Deciding(drafts, rendered, identities, renderer, drafting.locate)
    changes = ordered([deciding.decide(draft) for draft in drafts.values()])
    return Plan(
        base_commit=recorded.base_commit,
        head_commit=head.commit,
        serial=recorded.serial,
        lineage=recorded.lineage,
        engine=engine,
        created_at=created_at,
        changes=changes,
        drift=tuple(sorted(drift, key=lambda item: (item.key, item.server, item.step))),
        findings=(*standings.findings, *inspect(changes, recorded, thresholds)),
        problems=tuple(sorted(loaded.problems)),
        author_name=head.author_name,
        author_email=head.author_email,
        refreshed=refreshed,
        unreachable=dict(sorted((unreachable or {}).items())),
    )


def ordered(changes: Sequence[Change]) -> tuple[Change, ...]:
    """What others need first, removals last and the other way round; by name within a kind."""
    rank = {kind: number for number, kind in enumerate(CREATION_ORDER)}

    def place(change: Change) -> tuple[bool, int, str]:
        removal = change.action in (Action.DELETE, Action.FORGET)
        number = rank[change.key.kind]
        return (removal, -number if removal else number, change.key.name)

    return tuple(sorted(changes, key=place))


def _renamed_servers(standings: Standings) -> dict[str, str]:
    return {
        standing.previous.name: key.name
        for key, standing in standings.of.items()
        if key.kind is Kind.SERVER and standing.previous is not None
    }


def _identities(drafts: Mapping[Key, Draft], allocator: Allocator) -> dict[Key, Mapping[str, str]]:
    """What is recorded stays for good; a site that is new, or new on its server, gets the next number there."""
    identities: dict[Key, Mapping[str, str]] = {}
    for key, draft in drafts.items():
        found = draft.standing.recorded
        new = draft.action is Action.CREATE or (
            draft.action is Action.REPLACE and draft.previous_server is not None
        )
        if new and key.kind is Kind.SITE and draft.server is not None:
            identities[key] = allocator.take(key, draft.server)
        else:
            identities[key] = dict(found.identity) if found is not None else {}
    return identities
