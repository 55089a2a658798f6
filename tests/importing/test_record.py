"""Manifests that were lost come back from the record, valid and the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.app import importing
from reconciler.app.settings import Settings
from reconciler.desired.snapshot import Snapshot, load_snapshot
from reconciler.kit import canonical
from reconciler.plan import manifests
from reconciler.store import Tx, create_state, open_state
from reconciler.store.queries import inventory
from tests.blueprint.fleets import fleet_of

CASES = Path(__file__).resolve().parents[1] / "cases" / "blueprint"
KEY = "kind: SSHKey\nmetadata: {name: admin}\nspec: {}\n---\n"


@pytest.mark.parametrize(
    "case",
    ["el9-wordpress", "el9-jobs", "el9-proxy", "debian12-static", "debian12-answers", "debian12-laravel"],
)
def test_what_was_applied_is_written_down_again(case: str, tmp_path: Path) -> None:
    fleet = fleet_of(KEY + (CASES / case / "fleet.yaml").read_text())
    create_state(tmp_path / "state")
    settings = Settings(tmp_path / "state", tmp_path / "fleet")

    def applied(tx: Tx) -> None:
        for key, entry in fleet.entries.items():
            value = manifests.to_json(entry.manifest)
            server = None if key.kind.value == "SSHKey" else "web1"
            digest = canonical.digest(value)
            inventory.put(
                tx,
                inventory.Applied(key.kind.value, key.name, value, digest, [], "c0ffee", "a.yaml", 1, server),
            )

    with open_state(settings.state) as store:
        store.write(applied)
        none = importing.here(settings)
        made = importing.of_record(store, settings, "web1", none.fleet)
    assert made is not None
    kept = importing.checked(made, none)
    assert [str(note) for note in kept.notes] == [str(note) for note in made.notes]
    written = importing.write(kept, tmp_path / "fleet")
    assert len(written.new) == len(fleet.entries)
    files = {path.relative_to(tmp_path / "fleet").as_posix(): path.read_bytes() for path in written.new}
    again = load_snapshot(Snapshot("c", files=files))
    assert again.errors == ()
    for key, entry in fleet.entries.items():
        found = again.fleet.entries[key].manifest.spec
        for name in type(found).model_fields:
            assert getattr(found, name) == getattr(entry.manifest.spec, name), name
    assert importing.write(kept, tmp_path / "fleet").new == ()
