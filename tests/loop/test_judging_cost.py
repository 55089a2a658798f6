"""What recording a judgement costs the database does not grow with the fleet."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from reconciler.desired.snapshot import Snapshot, load_snapshot
from reconciler.loop import target
from reconciler.loop.assess import Inputs, assess
from reconciler.plan.offline import recorded_from
from reconciler.secrets import Box
from reconciler.store import Store, Tx
from reconciler.testing import builders


@pytest.fixture
def store(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """An empty database."""
    made = tmp_path_factory.mktemp("judging") / "state.sqlite"
    Store.create(made, Box([b"k" * 32])).close()
    shutil.copy(made, tmp_path / "state.sqlite")
    opened = Store.open(tmp_path / "state.sqlite", Box([b"k" * 32]))
    yield opened
    opened.close()


def _statements(store: Store, sites: int) -> int:
    """How many statements it takes to record that nothing of a fleet changes."""
    files = {path: text.encode() for path, text in builders.fleet_files(1, sites).items()}
    snapshot = Snapshot("a" * 40, files=files)
    loaded = load_snapshot(snapshot)
    recorded = recorded_from(loaded, "b" * 40)
    assessment = assess(Inputs(loaded, recorded, snapshot, "2026-01-01T00:00:00Z", "engine"))
    assert len(assessment.plan.changes) == sites + 2
    count = 0

    def executed(*_: object) -> None:
        nonlocal count
        count += 1

    def unit(tx: Tx) -> None:
        sa.event.listen(tx.connection, "before_cursor_execute", executed)
        target.record(tx, "main", assessment, loaded, target.Surroundings())
        sa.event.remove(tx.connection, "before_cursor_execute", executed)

    store.write(unit)
    return count


def test_a_judgement_takes_as_many_statements_for_many_resources_as_for_few(store: Store) -> None:
    few, many = _statements(store, 2), _statements(store, 40)
    assert 0 < many <= few
