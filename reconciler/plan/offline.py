"""Two commits compared without a database: the earlier one plays the recorded state."""

from __future__ import annotations

from reconciler.desired.fleet import Loaded
from reconciler.desired.kinds import Kind
from reconciler.plan.allocate import placeholder
from reconciler.plan.draft import server_of
from reconciler.plan.recorded import Recorded, RecordedResource


def recorded_from(loaded: Loaded, commit: str) -> Recorded:
    """The recorded state as it would be had `commit` been applied to empty nodes.

    Its identities are placeholders, which plans show as `(known after apply)`; its lineage fits no database, so a plan
    made from it can be read but never applied. Resources that are broken in `commit` are not in it; those that are
    suspended are, since they were applied once as far as a commit can tell. Steps are rendered by `make_plan`, and only
    for the servers that differ.
    """
    fleet = loaded.fleet
    resources = {}
    for key in sorted(fleet.entries.keys() - fleet.broken):
        entry = fleet.entries[key]
        manifest = entry.json
        resources[key] = RecordedResource(
            key=key,
            manifest=manifest,
            server=server_of(key, manifest),
            identity=placeholder(key) if key.kind is Kind.SITE else {},
            revision=commit,
            source=entry.origin.source,
        )
    return Recorded(resources=resources, lineage=f"commit:{commit}", base_commit=commit, offline=True)
