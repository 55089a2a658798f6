"""Backups taken while others write, and putting them back."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from reconciler.errors import StoreBusy, StoreDamaged, StoreFault, WrongKey
from reconciler.kit.secret import Secret
from reconciler.secrets import Box
from reconciler.store import Store, Tx, backup, identity, restore, schema
from reconciler.store.queries import databases, inventory, servers
from reconciler.store.queries.inventory import Applied

from .filled import PASSWORD, Filled, counts, fill


def apply(tx: Tx) -> int:
    return inventory.put(tx, Applied("Site", "shop", {}, "d", [], "c", "s.yaml", 1))


def test_a_backup_is_whole_while_others_write(store: Store, filled: Filled, tmp_path: Path) -> None:
    assert filled.server
    stop = threading.Event()

    def pair(tx: Tx) -> None:
        number = str(int(identity.get(tx, "left") or 0) + 1)
        identity.put(tx, "left", number)
        identity.put(tx, "bulk", number * 5000)
        identity.put(tx, "right", number)

    store.write(pair)

    def write() -> None:
        while not stop.is_set():
            store.write(pair)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for n in range(5):
            backup.copy(store.path, tmp_path / f"{n}.sqlite")
    finally:
        stop.set()
        writer.join(30)
    for n in range(5):
        with closing(sqlite3.connect(tmp_path / f"{n}.sqlite")) as connection:
            found = dict(connection.execute("SELECT key, value FROM meta WHERE key IN ('left', 'right')"))
            assert found["left"] == found["right"]
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_a_backup_is_private_verified_and_never_overwrites(
    store: Store, filled: Filled, tmp_path: Path
) -> None:
    assert filled.server
    target = tmp_path / "backup.sqlite"
    backup.copy(store.path, target)
    assert target.stat().st_mode & 0o777 == 0o600
    backup.verify(target)
    assert PASSWORD.encode() not in target.read_bytes()
    before = target.read_bytes()
    with pytest.raises(StoreFault, match="exists already"):
        backup.copy(store.path, target)
    with pytest.raises(StoreFault, match="cannot be written"):
        backup.copy(store.path, tmp_path / "no" / "such" / "folder")
    assert target.read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_a_damaged_source_gives_no_backup(store: Store, filled: Filled, tmp_path: Path) -> None:
    assert filled.server
    store.close()
    data = bytearray(store.path.read_bytes())
    data[len(data) // 2 :] = b"\xff" * (len(data) - len(data) // 2)
    store.path.write_bytes(data)
    with pytest.raises(StoreDamaged):
        backup.copy(store.path, tmp_path / "backup.sqlite")
    assert list(tmp_path.glob("*backup*")) == []


def test_a_restore_brings_everything_back_and_no_counter_runs_backwards(
    path: Path, box: Box, tmp_path: Path
) -> None:
    saved = tmp_path / "backup.sqlite"
    with Store.open(path, box) as store:
        ids = store.write(fill)
        before = store.read(counts)
        backup.copy(path, saved)
        kept_bytes = saved.read_bytes()
        for _ in range(3):
            store.write(apply)
            store.write(lambda tx: servers.bump_fence(tx, ids.server))
            store.write(lambda tx: servers.allocate_site_number(tx, ids.server))
        store.write(lambda tx: databases.delete(tx, ids.database))
        serial = store.read(inventory.serial)
    done = restore.restore(saved, path)
    assert saved.read_bytes() == kept_bytes
    with Store.open(path, box) as store:
        assert store.read(counts) == before
        assert store.read(lambda tx: databases.password_of(tx, ids.database)) == Secret(PASSWORD)
        assert store.read(inventory.serial) == done.serial == serial + 1
        server = store.read(lambda tx: servers.get_by_id(tx, ids.server))
        assert (server.fence, server.next_site_number) == (3, 4)
    assert done.kept == path.with_name("state.sqlite.before-restore")
    assert done.kept.stat().st_mode & 0o777 == 0o600
    assert {file.name for file in path.parent.iterdir()} == {
        "state.sqlite",
        "state.sqlite.before-restore",
        "backup.sqlite",
    }


def test_a_process_that_has_the_database_open_sees_the_restored_one(
    store: Store, filled: Filled, tmp_path: Path
) -> None:
    backup.copy(store.path, tmp_path / "backup.sqlite")
    store.write(lambda tx: servers.delete(tx, filled.server))
    restore.restore(tmp_path / "backup.sqlite", store.path)
    assert store.read(lambda tx: servers.get(tx, "web1")) is not None
    assert store.write(lambda tx: servers.bump_fence(tx, filled.server)) == 1


def test_a_restore_replaces_a_file_that_cannot_be_read(path: Path, box: Box, tmp_path: Path) -> None:
    with Store.open(path, box) as store:
        store.write(fill)
        backup.copy(path, tmp_path / "backup.sqlite")
    path.write_bytes(b"scrambled eggs " * 999)
    path.with_name("state.sqlite-wal").write_bytes(b"left over")
    done = restore.restore(tmp_path / "backup.sqlite", path)
    assert done.kept is None
    with Store.open(path, box) as store:
        assert store.read(counts)["sites"] == 1


def test_a_restore_to_an_empty_place(path: Path, box: Box, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    done = restore.restore(path, tmp_path / "new" / "state.sqlite")
    assert (done.kept, done.serial) == (None, 1)
    with Store.open(tmp_path / "new" / "state.sqlite", box) as store:
        assert store.read(inventory.serial) == 1


def test_what_is_no_sound_backup_is_not_restored(store: Store, filled: Filled, tmp_path: Path) -> None:
    assert filled.server
    bad = tmp_path / "bad.sqlite"
    with pytest.raises(StoreFault, match="there is no backup"):
        restore.restore(bad, store.path)
    bad.write_bytes(b"no database " * 500)
    with pytest.raises(StoreDamaged, match="not a database"):
        restore.restore(bad, store.path)
    bad.unlink()
    with closing(sqlite3.connect(bad)) as connection, connection:
        connection.execute("CREATE TABLE recipes (id)")
    with pytest.raises(StoreDamaged, match="belongs to another program"):
        restore.restore(bad, store.path)
    assert store.read(counts)["sites"] == 1
    assert not list(tmp_path.glob(".*"))


def test_a_backup_under_another_key_is_noticed_at_the_next_start(path: Path, tmp_path: Path) -> None:
    Store.create(tmp_path / "other.sqlite", Box([b"o" * 32])).close()
    restore.restore(tmp_path / "other.sqlite", path)
    with pytest.raises(WrongKey):
        Store.open(path, Box([b"k" * 32]))


def test_a_restore_does_not_wait_for_a_lock_without_end(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup.copy(path, tmp_path / "backup.sqlite")
    monkeypatch.setattr(restore, "PATIENCE", 0.3)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy, match="locked by another program"):
            restore.restore(tmp_path / "backup.sqlite", path)
        other.execute("ROLLBACK")
    assert schema.revision_of(path) == schema.HEAD
