"""Two commits compared without a database: the earlier one plays the recorded state."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.desired.fleet import Key, Loaded
from reconciler.desired.kinds import Kind
from reconciler.plan.allocate import placeholder
from reconciler.plan.draft import server_of
from reconciler.plan.recorded import Recorded, RecordedResource
from reconciler.plan.rendered import render_all
from reconciler.plan.sections import BlueprintRenderer, SectionRenderer
from reconciler.plan.standing import Stand, Standing, Standings, settle


def recorded_from(loaded: Loaded, commit: str, *, renderer: SectionRenderer | None = None) -> Recorded:
    """The recorded state as it would be had `commit` been applied to empty nodes.

    Its identities are placeholders, which plans show as `(known after apply)`; its lineage fits no database, so a plan
    made from it can be read but never applied. Resources that are broken in `commit` are not in it.
    """
    renderer = renderer or BlueprintRenderer()
    standings = _as_if_applied(settle(loaded.fleet, Recorded()), loaded)
    identities: dict[Key, Mapping[str, str]] = {
        key: placeholder(key) if key.kind is Kind.SITE else {} for key in standings.of
    }
    rendered = render_all(standings, loaded.fleet, Recorded(), identities, renderer)
    resources = {
        key: RecordedResource(
            key=key,
            manifest=standing.declared,
            server=server_of(key, standing.declared),
            steps=rendered.steps.get(str(key), ()),
            identity=identities[key],
            revision=commit,
            source=loaded.fleet.locate(key, ()) or loaded.fleet.entries[key].origin.source,
        )
        for key, standing in standings.of.items()
        if standing.manifest is not None and standing.declared is not None
    }
    return Recorded(resources=resources, lineage=f"commit:{commit}", base_commit=commit, offline=True)


def _as_if_applied(standings: Standings, loaded: Loaded) -> Standings:
    """What is suspended in the commit was once applied, as far as the commit can tell."""
    suspended = {
        key: Standing(Stand.WANTED, loaded.fleet.entries[key].manifest, declared=standing.declared)
        for key, standing in standings.of.items()
        if standing.stand is Stand.BARRED and standing.code == "suspended" and standing.declared is not None
    }
    return Standings({**standings.of, **suspended})
