"""The state directory: made once, refused when it is not safe."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler.errors import SettingsFault, WrongKey
from reconciler.secrets import keyring
from reconciler.store import create_state, identity, open_state


def listing(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        file.name: (file.stat().st_mode & 0o777, file.stat().st_mtime_ns, file.read_bytes())
        for file in folder.iterdir()
    }


def test_a_state_is_made_with_everything_in_it_private(tmp_path: Path) -> None:
    folder = tmp_path / "var" / "lib" / "reconciler"
    made = create_state(folder, {})
    assert made.created == ("folder", "key", "database")
    assert made.existing == ()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {name: facts[0] for name, facts in listing(folder).items()} == {
        "app.key": 0o600,
        "state.sqlite": 0o600,
    }
    assert made.key_source == str(folder / "app.key")
    with open_state(folder, {}) as store:
        assert store.read(identity.lineage) == made.lineage


def test_the_umask_does_not_open_anything(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        create_state(tmp_path / "state", {})
        with open_state(tmp_path / "state", {}) as store:
            store.write(lambda tx: identity.put(tx, "a", "b"))
            modes = {file.stat().st_mode & 0o777 for file in (tmp_path / "state").iterdir()}
    finally:
        os.umask(before)
    assert modes == {0o600}
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_a_second_time_changes_nothing_and_says_so(tmp_path: Path) -> None:
    first = create_state(tmp_path / "state", {})
    before = listing(tmp_path / "state")
    second = create_state(tmp_path / "state", {})
    assert (second.created, second.existing) == ((), ("folder", "key", "database"))
    assert second.lineage == first.lineage
    assert listing(tmp_path / "state") == before


def test_a_key_from_elsewhere_is_used_and_not_written_down(tmp_path: Path) -> None:
    key = keyring.generate().reveal()
    made = create_state(tmp_path / "state", {"APP_KEY": key})
    assert made.created == ("folder", "database")
    assert made.existing == ("key",)
    assert made.key_source == "the environment variable APP_KEY"
    assert list(listing(tmp_path / "state")) == ["state.sqlite"]
    with pytest.raises(SettingsFault, match="no APP_KEY"):
        open_state(tmp_path / "state", {})
    with pytest.raises(WrongKey):
        open_state(tmp_path / "state", {"APP_KEY": keyring.generate().reveal()})
    open_state(tmp_path / "state", {"APP_KEY": key}).close()


def test_a_database_whose_key_is_gone_never_gets_a_new_one(tmp_path: Path) -> None:
    create_state(tmp_path / "state", {})
    (tmp_path / "state" / "app.key").unlink()
    with pytest.raises(SettingsFault, match="its key is missing") as caught:
        create_state(tmp_path / "state", {})
    assert "put the key back" in caught.value.hint
    assert not (tmp_path / "state" / "app.key").exists()


def test_what_an_interrupted_creation_left_is_completed(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    keyring.write_file(folder / "app.key", keyring.generate())
    (folder / ".state.sqlite.new").write_bytes(b"half")
    (folder / ".state.sqlite.new-wal").write_bytes(b"half")
    made = create_state(folder, {})
    assert (made.created, made.existing) == (("database",), ("folder", "key"))
    assert sorted(listing(folder)) == ["app.key", "state.sqlite"]


def test_a_symlink_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "state").symlink_to(tmp_path / "real")
    for attempt in (create_state, open_state):
        with pytest.raises(SettingsFault, match="is a symlink"):
            attempt(tmp_path / "state", {})
    assert list((tmp_path / "real").iterdir()) == []


def test_a_dangling_symlink_in_place_of_the_database_is_refused(tmp_path: Path) -> None:
    create_state(tmp_path / "state", {})
    (tmp_path / "state" / "state.sqlite").unlink()
    (tmp_path / "state" / "state.sqlite").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SettingsFault, match="not a plain file"):
        create_state(tmp_path / "state", {})
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(SettingsFault, match="is not a folder"):
        create_state(tmp_path / "state", {})


def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o770)
    with pytest.raises(SettingsFault, match="others may write") as caught:
        create_state(tmp_path / "state", {})
    assert "chmod 700" in caught.value.hint


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_what_belongs_to_another_user_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    with pytest.raises(SettingsFault, match="belongs to user 12345"):
        create_state(folder, {})
    assert list(folder.iterdir()) == []
    os.chown(folder, 0, 0)
    create_state(folder, {})
    os.chown(folder / "state.sqlite", 12345, 12345)
    with pytest.raises(SettingsFault, match="belongs to user 12345"):
        open_state(folder, {})


def test_a_place_where_nothing_can_be_made_is_a_clear_fault(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsFault, match="Not a directory"):
        create_state(tmp_path / "file" / "state", {})
    with pytest.raises(SettingsFault, match="there is no state directory") as caught:
        open_state(tmp_path / "missing", {})
    assert "reconciler init" in caught.value.hint
