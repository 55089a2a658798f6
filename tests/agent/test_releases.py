"""The step `release`, in a folder node: systemctl and journalctl are scripts, units of commands are shell scripts of the test."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest

from .building import archive, bundle, section, sha
from .talking import Here, Talk, ulid

HOME = "/home/web1"
SYSTEMCTL = """
verb=; units=
for word; do case "$word" in --*) ;; *) if [ -z "$verb" ]; then verb=$word; else units="$units $word"; fi;; esac; done
echo "$verb$units" >> $root/calls
if [ $verb = start ]; then
  for unit in $units; do
    name=${unit%%@*}; release=${unit#*@}; release=${release%.service}
    cd $root/home/web1/releases/$release || exit 1
    sh $root/$name.sh > $root/said-$unit 2>&1 || exit 1
  done
fi
"""
JOURNALCTL = """
for word; do case "$word" in _SYSTEMD_UNIT=*) cat $root/said-${word#*=} 2>/dev/null;; esac; done
exit 0
"""


@pytest.fixture
def node(request: pytest.FixtureRequest) -> Here:
    """Served by the Python of the tests, or by the oldest one where a test says so."""
    found = request.getfixturevalue(getattr(request, "param", "here"))
    assert isinstance(found, Here)
    for name in ("releases", "shared"):
        found.path(f"{HOME}/{name}").mkdir(parents=True)
    found.program_on_path("systemctl", SYSTEMCTL)
    found.program_on_path("journalctl", JOURNALCTL)
    return found


@pytest.fixture
def talk(node: Here) -> Iterator[Talk]:
    with node.talk() as talking:
        yield talking


def release(commit: str, body: bytes, **more: Any) -> dict[str, Any]:
    step: dict[str, Any] = {
        "type": "release",
        "key": "release:shop",
        "site": "shop",
        "user": "bin",
        "home": HOME,
    }
    step |= {"commit": commit * 40, "recipe": sha(b"recipe"), "sha256": sha(body), "size": len(body)}
    step |= {
        "root": "",
        "shared": [],
        "build": False,
        "after": False,
        "seconds": 60,
        "keep": 3,
        "check": None,
    }
    step |= more
    return bundle(section("Site/shop", step))


def deploy(talk: Talk, number: int, commit: str, body: bytes, **more: Any) -> dict[str, Any]:
    outcome = talk.apply(number, release(commit, body, **more), body)
    part = outcome["sections"]["Site/shop"]
    assert isinstance(part, dict)
    return part


def served(node: Here) -> dict[str, str]:
    """The files of the release that the link names."""
    current = node.path(f"{HOME}/current")
    assert current.is_symlink()
    return {
        str(path.relative_to(current)): path.read_text()
        for path in sorted(current.rglob("*"))
        if path.is_file()
    }


def folders(node: Here) -> list[str]:
    return sorted(name[-12:] for name in os.listdir(node.path(f"{HOME}/releases")))


def in_sync(talk: Talk) -> bool:
    return bool(talk.ask("check", digest=talk.ask("hello", protocol=1)["bundle"])["in_sync"])


@pytest.mark.parametrize("node", ["oldest", "here"], indirect=True)
def test_a_commit_is_served_and_the_next_one_takes_its_place(node: Here, talk: Talk) -> None:
    assert deploy(talk, 1, "a", archive(index="one", public__app="-> ../index"))["state"] == "succeeded"
    assert served(node) == {"index": "one", "public/app": "one"}
    assert os.readlink(node.path(f"{HOME}/current")) == f"releases/{ulid(1).lower()}-{'a' * 12}"
    assert in_sync(talk)
    assert deploy(talk, 2, "a", archive(index="one", public__app="-> ../index"))["state"] == "unchanged"
    assert deploy(talk, 3, "b", archive(index="two"))["state"] == "succeeded"
    assert served(node) == {"index": "two"}
    assert folders(node) == ["a" * 12, "b" * 12]


def test_a_link_that_somebody_moved_is_put_back(node: Here, talk: Talk) -> None:
    deploy(talk, 1, "a", archive(index="one"))
    current = node.path(f"{HOME}/current")
    current.unlink()
    current.symlink_to("/etc")
    assert not in_sync(talk)
    assert deploy(talk, 2, "a", archive(index="one"))["state"] == "succeeded"
    assert served(node) == {"index": "one"}
    assert folders(node) == ["a" * 12]


def test_files_have_plain_modes_and_their_bit_to_be_run(node: Here, talk: Talk) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as made:
        for name, mode in (("run", 0o4755), ("read", 0o666)):
            info = tarfile.TarInfo(name)
            info.mode = mode
            made.addfile(info)
    deploy(talk, 1, "a", gzip.compress(packed.getvalue(), mtime=0))
    modes = {
        name: stat.S_IMODE(node.path(f"{HOME}/current/{name}").stat().st_mode) for name in ("run", "read")
    }
    assert modes == {"run": 0o755, "read": 0o644}


@pytest.mark.parametrize("node", ["oldest", "here"], indirect=True)
def test_what_is_shared_comes_from_the_first_release_and_outlives_it(node: Here, talk: Talk) -> None:
    shared = {"shared": ["storage", "data/app.db"], "keep": 2}
    deploy(talk, 1, "a", archive(storage__keep="first", data__app="x", index="1"), **shared)
    assert os.readlink(node.path(f"{HOME}/current/storage")) == "../../shared/storage"
    node.path(f"{HOME}/current/storage/upload").write_text("of a visitor")
    deploy(talk, 2, "b", archive(storage__keep="second", index="2"), **shared)
    kept = node.path(f"{HOME}/current/storage")
    assert {path.name: path.read_text() for path in kept.iterdir()} == {
        "keep": "first",
        "upload": "of a visitor",
    }
    assert node.path(f"{HOME}/shared/data/app.db").is_dir()
    deploy(talk, 3, "c", archive(index="3"), **shared)
    assert folders(node) == ["b" * 12, "c" * 12]
    assert node.path(f"{HOME}/shared/storage/upload").read_text() == "of a visitor"


def test_every_release_has_the_sites_env(node: Here, talk: Talk) -> None:
    node.write(f"{HOME}/.env", "A=1")
    deploy(talk, 1, "a", archive(**{".env": "B=2", "index": "1"}))
    assert node.path(f"{HOME}/current/.env").read_text() == "A=1"


def test_a_shared_folder_that_is_a_link_is_refused(node: Here, talk: Talk) -> None:
    node.path(f"{HOME}/shared/storage").symlink_to("/etc")
    part = deploy(talk, 1, "a", archive(index="1"), shared=["storage"])
    assert (part["state"], "symbolic link" in part["message"]) == ("failed", True)
    assert not node.path(f"{HOME}/current").is_symlink()


@pytest.mark.parametrize(
    ("name", "text"),
    [("..__up", "x"), ("a__..__..__up", "x"), ("out", "-> ../../etc/passwd"), ("out", "-> /etc/passwd")],
)
def test_an_archive_that_leads_out_of_its_release_is_refused(
    node: Here, talk: Talk, name: str, text: str
) -> None:
    deploy(talk, 1, "a", archive(index="one"))
    part = deploy(talk, 2, "b", archive(index="two", **{name: text}))
    assert (part["state"], "leads out of the release" in part["message"]) == ("failed", True)
    assert served(node) == {"index": "one"}
    assert folders(node) == ["a" * 12]
    assert in_sync(talk) is False


def test_build_commands_run_in_the_release_before_it_is_served(node: Here, talk: Talk) -> None:
    node.write("/panel-build-shop.sh", "cat index > built; test ! -e ../../current; echo made it")
    deploy(talk, 1, "a", archive(index="one"), build=True)
    assert served(node)["built"] == "one"
    said = [e["text"] for e in talk.events if e["type"] == "log"]
    assert said == ["made it\n"]


@pytest.mark.parametrize("node", ["oldest", "here"], indirect=True)
def test_a_build_that_fails_leaves_what_is_served_and_tells_its_last_words(node: Here, talk: Talk) -> None:
    node.write("/panel-build-shop.sh", "true")
    deploy(talk, 1, "a", archive(index="one"), build=True)
    node.write("/panel-build-shop.sh", "echo no such package; exit 1")
    part = deploy(talk, 2, "b", archive(index="two"), build=True)
    assert part["state"] == "failed"
    assert part["message"] == "a build command failed: no such package"
    assert served(node) == {"index": "one"}
    assert folders(node) == ["a" * 12]


def test_a_command_after_the_switch_that_fails_brings_the_release_before_back(node: Here, talk: Talk) -> None:
    node.write("/panel-after-shop.sh", "cat $root/home/web1/current/index; cat ../../current/index > seen")
    deploy(talk, 1, "a", archive(index="one"), after=True)
    assert served(node)["seen"] == "one"
    node.write("/panel-after-shop.sh", "cat ../../current/index; exit 3")
    part = deploy(talk, 2, "b", archive(index="two"), after=True)
    assert part["message"] == "a command after the switch failed: two"
    assert served(node)["index"] == "one"
    assert folders(node) == ["a" * 12]


@pytest.mark.parametrize("node", ["oldest", "here"], indirect=True)
def test_going_back_builds_nothing_and_needs_no_archive(node: Here, talk: Talk) -> None:
    node.write("/panel-build-shop.sh", "echo built >> $root/builds")
    node.write("/panel-after-shop.sh", "true")
    for number, commit in ((1, "a"), (2, "b")):
        deploy(talk, number, commit, archive(index=commit), build=True, after=True)
    wanted = release("a", archive(index="a"), build=True, after=True)
    digest = talk.ask("bundle", bundle=wanted)["digest"]
    prepared = talk.ask("prepare", digest=digest, sections=None)
    assert prepared["wants"] == []
    assert prepared["differences"][0]["note"] == "it is still on the node"
    node.path("/calls").write_text("")
    assert talk.apply(3, wanted)["state"] == "succeeded"
    assert served(node)["index"] == "a"
    assert "start" not in node.path("/calls").read_text()


def test_another_way_of_building_makes_the_same_commit_anew(node: Here, talk: Talk) -> None:
    deploy(talk, 1, "a", archive(index="one"))
    assert deploy(talk, 2, "a", archive(index="one"), recipe=sha(b"other"))["state"] == "succeeded"
    assert len(folders(node)) == 2


def test_a_document_root_that_the_commit_lacks_is_told(node: Here, talk: Talk) -> None:
    part = deploy(talk, 1, "a", archive(index="one"), root="public")
    assert (
        part["message"]
        == "commit aaaaaaaaaaaa has no folder public once it is built; correct spec.documentRoot"
    )


def test_only_so_many_releases_are_kept_and_never_the_one_before_is_lost(node: Here, talk: Talk) -> None:
    for number, commit in enumerate("abcde"):
        deploy(talk, 10 + number, commit, archive(index=commit), keep=2)
    assert folders(node) == ["d" * 12, "e" * 12]
    deploy(talk, 20, "d", archive(index="d"), keep=2)
    deploy(talk, 21, "f", archive(index="f"), keep=2)
    assert folders(node) == ["d" * 12, "f" * 12]


def test_a_folder_in_place_of_the_link_is_left_alone(node: Here, talk: Talk) -> None:
    node.write(f"{HOME}/current/mine", "precious")
    part = deploy(talk, 1, "a", archive(index="one"))
    assert part["message"].endswith("is a folder, not a link; move it aside")
    assert node.path(f"{HOME}/current/mine").read_text() == "precious"


def test_killed_at_any_write_the_link_names_a_whole_release_and_the_next_apply_settles_it(node: Here) -> None:
    node.write("/panel-build-shop.sh", "cp index built")
    node.write("/panel-after-shop.sh", "touch after")
    more: dict[str, Any] = {"build": True, "after": True, "keep": 2}
    died = 0
    for point in range(1, 40):
        with node.talk() as talk:
            deploy(talk, 1000 + point, "a", archive(index="one"), **more)
        with node.talk(PANEL_TEST_DIE_AT=str(point)) as talk:
            body = archive(index="two")
            first = talk.apply(2000 + point, release("b", body, **more), body)
        whole = served(node)
        assert whole["built"] == whole["index"]
        if first["state"] == "succeeded":
            break
        died += 1
        assert first["state"] == "interrupted"
        with node.talk() as talk:
            assert deploy(talk, 3000 + point, "b", archive(index="two"), **more)["state"] != "failed"
            assert in_sync(talk)
        assert served(node) == {"index": "two", "built": "two", "after": ""}
        assert folders(node) == ["a" * 12, "b" * 12]
        node.path(f"{HOME}/current").unlink()
        node.path("/var/lib/panel/releases/shop.json").unlink()
    else:
        raise AssertionError("the apply has more durable writes than the test tries")
    assert died > 6
