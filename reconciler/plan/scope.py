"""Which nodes must be rendered at all: a plan for one changed file should not cost as much as one for the whole fleet."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.desired.fleet import Key
from reconciler.desired.kinds import Kind
from reconciler.plan.draft import Draft, references
from reconciler.plan.model import Action
from reconciler.plan.recorded import Recorded
from reconciler.plan.standing import Stand


def touched_servers(drafts: Mapping[Key, Draft], recorded: Recorded, engine: str) -> frozenset[str]:
    """Names, recorded and declared, of the servers on which anything may differ from what is recorded.

    A resource whose manifest is as recorded has the recorded steps if the same engine made them. Recorded engines are
    compared only when they are known; an offline state is rendered by the engine that plans, so its always fits.
    """
    restless = {key for key, draft in drafts.items() if not _quiet(draft, recorded, engine)}
    names: set[str | None] = set()
    for key in restless:
        draft = drafts[key]
        found = draft.standing.recorded
        names |= {draft.server, draft.previous_server, found.server if found else None}
    for key, draft in drafts.items():
        if key.kind is Kind.SERVER and not restless.isdisjoint(references(key, draft.after)):
            names.add(key.name)
    return frozenset(name for name in names if name is not None)


def _quiet(draft: Draft, recorded: Recorded, engine: str) -> bool:
    if draft.action is not Action.NO_OP:
        return False
    found = draft.standing.recorded
    if draft.standing.stand is not Stand.WANTED or found is None:
        return True
    if found.failed or found.rotating or found.upgrading:
        return False
    return draft.server is None or recorded.offline or (found.engine == engine and engine != "")
