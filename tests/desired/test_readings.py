"""Readings that are kept between revisions: the same fleet as without, only what changed is read, and never too much kept."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.desired import source
from reconciler.desired.fleet import Key, Loaded
from reconciler.desired.kinds import Kind
from reconciler.desired.readings import Readings, read
from reconciler.desired.tree import load
from reconciler.testing.builders import Repository, fleet_files, manifest

_DEFAULTS = """\
apiVersion: reconciler/v1
kind: Defaults
metadata: {name: %s}
spec: {appliesTo: Site, matchLabels: {%s}, priority: %d, values: {php: {memoryLimit: %s}, documentRoot: %s}}
"""
_TEXTS = (
    manifest("Site", "site1-1", {"server": "web1", "domain": "one.test", "phpVersion": "8.2"}),
    manifest(
        "Site", "site1-1", {"server": "web1", "domain": "one.test", "phpVersion": "8.2"}, labels={"a": "b"}
    ),
    manifest("Site", "site1-2", {"server": "web2", "domain": "one.test", "phpVersion": "8.9"}),
    manifest("Site", "site9", {"server": "web9", "domain": "nine.test", "phpVersion": "8.2", "x-note": [1]}),
    manifest("Server", "web1", {"address": "198.18.0.1", "os": "debian_12", "sshKey": "fleet", "oops": 1}),
    manifest("SSHKey", "fleet", {}) + "---\n" + manifest("SSHKey", "second", {}),
    manifest(
        "Rollout", "all", {"selector": {"group": "x"}, "waves": [{"name": "w", "selector": {"a": "b"}}]}
    ),
    _DEFAULTS % ("one", "", 0, "64M", "public"),
    _DEFAULTS % ("one", "", 0, "128M", "web"),
    _DEFAULTS % ("two", "a: b", 0, "1", "web"),
    _DEFAULTS % ("two", "a: b", 5, '"1"', "web"),
    _DEFAULTS % ("two", "a: b", 5, "true", "/../x"),
    "kind: Defaults\nspec: [",
    "# reconciler: ignore\nanything: [at all",
    "- no map\n",
    "apiVersion: reconciler/v1\nkind: Sight\nmetadata: {name: a}\n",
    "a: &b 1\n--- \nc: *b\n",
    "",
)
_PATHS = ("sites/site1-1.yaml", "servers/web1.yaml", "a.yaml", "z/z.yml", ".hidden/a.yaml", "words.txt")
_edits = st.lists(
    st.tuples(st.sampled_from(_PATHS), st.one_of(st.none(), st.sampled_from(_TEXTS))), min_size=1, max_size=3
)


def _plain() -> dict[str, bytes]:
    return {path: text.encode() for path, text in fleet_files(2, 2, databases=1).items()}


def _ids(files: dict[str, bytes]) -> dict[str, str]:
    return {path: hashlib.sha1(content).hexdigest() for path, content in files.items()}


def _places(loaded: Loaded) -> list[object]:
    paths = ((), ("spec",), ("spec", "domain"), ("spec", "php", "memoryLimit"), ("metadata", "name"))
    keys = sorted({*loaded.fleet.entries, *loaded.fleet.broken, Key(Kind.SITE, "none")})
    return [(key, path, loaded.fleet.locate(key, path)) for key in keys for path in paths]


def _same(one: Loaded, other: Loaded) -> None:
    assert one.problems == other.problems
    assert one.fleet == other.fleet
    assert list(one.fleet.entries) == list(other.fleet.entries)
    assert _places(one) == _places(other)
    assert [entry.json for entry in one.fleet.entries.values()] == [
        entry.json for entry in other.fleet.entries.values()
    ]


@settings(max_examples=60, deadline=None)
@given(st.lists(_edits, min_size=1, max_size=6), st.sampled_from([3, 8, 1000]), st.booleans())
def test_revisions_read_one_after_the_other_give_what_each_gives_alone(
    revisions: list[list[tuple[str, str | None]]], room: int, named: bool
) -> None:
    readings = Readings(count=room)
    files = _plain()
    for edits in revisions:
        for path, text in edits:
            if text is None:
                files.pop(path, None)
            else:
                files[path] = text.encode()
        kept = load(files, ids=_ids(files) if named else {}, readings=readings)
        _same(kept, load(files))
        assert len(readings) <= room


def test_only_what_changed_is_read_again() -> None:
    readings, files = Readings(), _plain()
    first = load(files, ids=_ids(files), readings=readings)
    assert readings.misses == len(files)
    files["sites/site1-1.yaml"] = files["sites/site1-1.yaml"].replace(b"site1-1.test", b"other.test")
    second = load(files, ids=_ids(files), readings=readings)
    assert readings.misses == len(files) + 1
    site, other = Key(Kind.SITE, "site1-1"), Key(Kind.SITE, "site1-2")
    assert second.fleet.entries[site] != first.fleet.entries[site]
    assert second.fleet.entries[other] is first.fleet.entries[other]
    load(files, ids=_ids(files), readings=readings)
    assert readings.misses == len(files) + 1


def test_a_default_that_only_differs_in_its_type_is_not_taken_for_the_one_of_before() -> None:
    readings, files = Readings(), _plain()
    for value in ("1", "true", '"1"'):
        files["defaults.yaml"] = (_DEFAULTS % ("one", "", 0, value, "public")).encode()
        _same(load(files, ids=_ids(files), readings=readings), load(files))


def test_the_revision_that_is_read_keeps_its_own_though_there_is_no_room_for_all() -> None:
    files = {f"{number:02}.yaml": manifest("SSHKey", f"k{number}", {}).encode() for number in range(20)}
    readings = Readings(count=10)
    for _ in range(3):
        load(files, ids=_ids(files), readings=readings)
    assert len(readings) == 10
    assert readings.misses == 20 + 2 * 10  # the ten that are kept are never read again


@pytest.mark.parametrize("size", [100, 400])
def test_the_bytes_of_what_is_kept_are_bounded(size: int) -> None:
    readings = Readings(size=size)
    for number in range(10):
        files = {"a.yaml": manifest("SSHKey", f"key{number}", {}).encode()}
        load(files, ids=_ids(files), readings=readings)
        assert 0 < readings.size <= size


def test_what_is_given_out_stays_as_it_is_when_it_is_put_together() -> None:
    readings, files = Readings(), _plain()
    once = readings.read(files, _ids(files))
    again = readings.read(files, _ids(files))
    assert len(again.candidates) == len(once.candidates) == len(read(files).candidates)


def test_a_commit_reads_only_the_objects_that_are_not_known(tmp_path: Path) -> None:
    repo = Repository(tmp_path / "fleet")
    repo.write(fleet_files(1, 2))
    first = source.read_commit(repo.folder, repo.commit())
    known = {first.ids[path]: content for path, content in first.files.items()}
    marked = {object_id: b"known " + content for object_id, content in known.items()}
    repo.change("Site", "site1-1", domain="other.test")
    repo.write({"copies/site1-2.yaml": (repo.folder / "sites/site1-2.yaml").read_text()})
    second = source.read_commit(repo.folder, repo.commit(), known=marked)
    fresh = source.read_commit(repo.folder, "HEAD")
    assert second.ids == fresh.ids
    assert second.files["sites/site1-1.yaml"] == fresh.files["sites/site1-1.yaml"]
    assert second.files["copies/site1-2.yaml"] == b"known " + fresh.files["sites/site1-2.yaml"]
    assert sum(content.startswith(b"known ") for content in second.files.values()) == len(fresh.files) - 1
