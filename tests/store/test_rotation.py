"""A password that is being replaced is kept beside the new one until the node has that."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.kit.secret import Secret
from reconciler.secrets import Box
from reconciler.store import Store, Tx
from reconciler.store.identity import age
from reconciler.store.queries import databases
from reconciler.store.rotate import rotate

from .filled import PASSWORD, fill

OLD, NEW = b"o" * 32, b"n" * 32


@pytest.fixture
def filled(tmp_path: Path) -> tuple[Path, str]:
    path = tmp_path / "state.sqlite"
    with Store.create(path, Box([OLD])) as store:
        return path, store.write(fill).database


def both(tx: Tx, row: str) -> tuple[Secret, Secret | None]:
    return databases.password_of(tx, row), databases.pending_of(tx, row)


def test_a_new_password_waits_beside_the_old_one_and_no_third_one_is_made(filled: tuple[Path, str]) -> None:
    path, row = filled
    with Store.open(path, Box([OLD])) as store:
        assert store.read(databases.rotating) == frozenset()
        before = store.read(databases.mark)
        assert store.write(lambda tx: databases.begin_rotation(tx, row))
        old, new = store.read(lambda tx: both(tx, row))
        assert old == Secret(PASSWORD)
        assert new not in (None, old)
        assert store.read(databases.mark) != before, "those who redact look again"
        assert not store.write(lambda tx: databases.begin_rotation(tx, row))
        assert store.read(lambda tx: both(tx, row)) == (old, new)
        assert store.read(databases.rotating) == {"shop-db"}
        store.write(lambda tx: databases.end_rotation(tx, row))
        assert store.read(lambda tx: both(tx, row)) == (new, None)
        store.write(lambda tx: databases.end_rotation(tx, row))
        assert store.read(lambda tx: both(tx, row)) == (new, None), "done once"


def test_a_new_key_seals_the_pending_password_and_the_age_identity_anew(filled: tuple[Path, str]) -> None:
    path, row = filled
    with Store.open(path, Box([OLD])) as store:
        store.write(lambda tx: databases.begin_rotation(tx, row))
        known = store.read(lambda tx: both(tx, row))
        identity = store.read(age)
    with Store.open(path, Box([NEW, OLD])) as store:
        store.write(rotate)
    with Store.open(path, Box([NEW])) as store:
        assert store.read(lambda tx: both(tx, row)) == known
        again = store.read(age)
    assert identity is not None
    assert again is not None
    assert again.public == identity.public
    assert known[1] is not None
    assert known[1].reveal().encode() not in path.read_bytes()


def test_a_pending_password_can_be_dropped(filled: tuple[Path, str]) -> None:
    path, row = filled
    with Store.open(path, Box([OLD])) as store:
        store.write(lambda tx: databases.begin_rotation(tx, row))
        store.write(lambda tx: databases.drop_rotation(tx, row))
        assert store.read(lambda tx: both(tx, row)) == (Secret(PASSWORD), None)
