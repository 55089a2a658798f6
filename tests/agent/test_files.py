"""Files, folders and links, also where their owner is an attacker."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.agent import atomic, walk
from reconciler.agent.faults import StepFault

from .building import bundle, directory, file, gone, section, sha, symlink
from .talking import Here, Talk

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of another user")
STRANGER = 54321
HOME = "/home/web1"


@pytest.fixture
def home(here: Here) -> Path:
    """A home that belongs to somebody else."""
    path = here.path(HOME)
    (path / "public_html").mkdir(parents=True)
    for folder in (path, path / "public_html"):
        os.chown(folder, STRANGER, STRANGER)
    return path


@pytest.fixture
def talk(here: Here) -> Iterator[Talk]:
    with here.talk() as talking:
        yield talking


def failed(talk: Talk, outcome: dict[str, object]) -> str:
    """The message of the one section, which must have failed."""
    assert outcome["state"] == "failed", outcome
    sections = outcome["sections"]
    assert isinstance(sections, dict)
    return str(sections["Site/shop"]["message"])


def one(*steps: dict[str, object]) -> dict[str, object]:
    return bundle(section("Site/shop", *steps))


@needs_root
@pytest.mark.parametrize("make", ["file", "directory", "symlink", "removal"])
def test_a_folder_swapped_for_a_link_is_refused_and_nothing_is_written(
    here: Here, home: Path, talk: Talk, make: str
) -> None:
    (home / "public_html").rmdir()
    (home / "public_html").symlink_to("/etc")
    path = HOME + "/public_html/x"
    here.write("/etc/x", "old")
    step = {
        "file": file(path, b"new"),
        "directory": directory(path),
        "symlink": symlink(path, "y"),
        "removal": gone(file(path, b"")),
    }[make]
    message = failed(talk, talk.apply(1, one(step), b"new"))
    assert "/home/web1/public_html is a symbolic link" in message
    assert here.path("/etc/x").read_text() == "old"


@needs_root
def test_a_link_in_place_of_the_file_is_replaced_not_followed(here: Here, home: Path, talk: Talk) -> None:
    victim = here.write("/etc/victim", "old")
    victim.chmod(0o600)
    (home / "wp.php").symlink_to(victim)
    assert talk.apply(1, one(file(HOME + "/wp.php", b"new", mode="0666")), b"new")["state"] == "succeeded"
    assert (home / "wp.php").read_bytes() == b"new"
    assert not (home / "wp.php").is_symlink()
    assert (victim.read_text(), oct(victim.stat().st_mode & 0o777)) == ("old", "0o600")


@needs_root
def test_a_folder_step_never_changes_what_a_link_points_at(here: Here, home: Path, talk: Talk) -> None:
    victim = here.path("/etc/victim")
    victim.mkdir(mode=0o700)
    (home / "logs").symlink_to(victim)
    assert "symlink, not a directory" in failed(
        talk, talk.apply(1, one(directory(HOME + "/logs", mode="0777")))
    )
    assert oct(victim.stat().st_mode & 0o777) == "0o700"


@needs_root
def test_a_second_name_of_a_system_file_is_not_given_away(here: Here, home: Path, talk: Talk) -> None:
    """The site links a root-owned file with the same body into its home; owner and mode must not reach the original."""
    victim = here.write("/etc/victim", "same")
    victim.chmod(0o600)
    os.link(victim, home / "wp.php")
    assert talk.apply(1, one(file(HOME + "/wp.php", b"same", mode="0666")), b"same")["state"] == "succeeded"
    assert oct(victim.stat().st_mode & 0o777) == "0o600"
    assert oct((home / "wp.php").stat().st_mode & 0o777) == "0o666"


@needs_root
def test_a_pipe_in_place_of_a_file_does_not_hang_the_agent(home: Path, talk: Talk) -> None:
    os.mkfifo(home / "wp.php")
    assert "neither a file nor a folder" in failed(
        talk, talk.apply(1, one(file(HOME + "/wp.php", b"new")), b"new")
    )


@needs_root
def test_swapping_folders_while_files_are_written_never_leads_out_of_the_home(
    inside: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A site swaps its folder for a link and back as fast as it can; every write lands in the home or fails."""
    home = inside.path(HOME)
    (home / "real").mkdir(parents=True)
    for folder in (home, home / "real"):
        os.chown(folder, STRANGER, STRANGER)
    outside = inside.path("/etc/outside")
    outside.mkdir()
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            os.rename(home / "real", home / "aside")
            os.symlink(outside, home / "real")
            os.unlink(home / "real")
            os.rename(home / "aside", home / "real")

    attacker = threading.Thread(target=swap)
    attacker.start()
    written = refused = 0
    try:
        while written < 200 or (refused < 20 and written < 5000):
            try:
                with walk.parent_of(HOME + "/real/x") as parent:
                    atomic.replace(parent, lambda fd: atomic.write_all(fd, b"x"), atomic.Owner(0, 0, 0o600))
                written += 1
            except (StepFault, OSError):
                refused += 1
    finally:
        stop.set()
        attacker.join()
    assert refused
    assert list(outside.iterdir()) == []


def test_a_link_that_root_made_among_the_systems_folders_is_followed(here: Here, talk: Talk) -> None:
    here.path("/etc/real-nginx").mkdir()
    here.path("/etc/nginx").rmdir()
    here.path("/etc/nginx").symlink_to("real-nginx")
    assert talk.apply(1, one(file("/etc/nginx/a.conf", b"new")), b"new")["state"] == "succeeded"
    assert here.path("/etc/real-nginx/a.conf").read_bytes() == b"new"


def test_owner_and_mode_are_set_without_asking_for_the_body(here: Here, talk: Talk) -> None:
    here.write("/etc/panel/a", "same").chmod(0o600)
    digest = talk.ask("bundle", bundle=one(file("/etc/panel/a", b"same", mode="0640")))["digest"]
    prepared = talk.ask("prepare", digest=digest, sections=None)
    assert prepared["wants"] == []
    assert prepared["differences"][0]["changes"] == [{"field": "mode", "from": "0600", "to": "0640"}]
    assert talk.apply(1, one(file("/etc/panel/a", b"same", mode="0640")))["state"] == "succeeded"
    assert oct(here.path("/etc/panel/a").stat().st_mode & 0o777) == "0o640"


def test_a_once_file_is_made_and_then_left_to_its_owner(here: Here, talk: Talk) -> None:
    wanted = one(file("/etc/panel/a", b"new", once=True))
    assert talk.apply(1, wanted, b"new")["sections"]["Site/shop"]["changed"] == 1
    here.write("/etc/panel/a", "mine").chmod(0o600)
    assert talk.apply(2, wanted)["sections"]["Site/shop"]["state"] == "unchanged"
    assert here.path("/etc/panel/a").read_text() == "mine"


def test_removals_take_files_links_and_empty_folders_only(here: Here, talk: Talk) -> None:
    made = [
        directory("/etc/panel/d"),
        directory("/etc/panel/full"),
        file("/etc/panel/a", b"x"),
        symlink("/etc/panel/l", "a"),
    ]
    assert talk.apply(1, one(*made), b"x")["state"] == "succeeded"
    here.write("/etc/panel/full/kept", "x")
    removed = one(*[gone(step) for step in reversed(made)])
    outcome = talk.apply(2, removed)
    assert (outcome["state"], outcome["sections"]["Site/shop"]["changed"]) == ("succeeded", 3)
    assert sorted(path.name for path in here.path("/etc/panel").iterdir()) == ["full"]
    assert talk.ask("check", digest=outcome and talk.ask("hello", protocol=1)["bundle"])["in_sync"]


def test_a_missing_folder_an_unknown_owner_and_a_folder_in_the_way_are_named(here: Here, talk: Talk) -> None:
    missing = one(file("/etc/panel/no/such/a", b"x"))
    assert "cannot write /etc/panel/no/such/a" in failed(talk, talk.apply(1, missing, b"x"))
    stranger = one({**file("/etc/panel/a", b"x"), "owner": "nobody-here"})
    assert "there is no user nobody-here" in failed(talk, talk.apply(2, stranger, b"x"))
    here.path("/etc/panel/dir").mkdir()
    assert "not a file" in failed(talk, talk.apply(3, one(file("/etc/panel/dir", b"x")), b"x"))
    assert here.path("/etc/panel/dir").is_dir()


def test_no_body_and_no_leftover_of_a_crash_stays(here: Here, talk: Talk) -> None:
    left = here.path("/etc/panel") / atomic.temporary_name("a")
    left.write_text("half")
    assert talk.apply(1, one(file("/etc/panel/a", b"x")), b"x")["state"] == "succeeded"
    assert [path.name for path in here.path("/etc/panel").iterdir()] == ["a"]


def test_the_cache_of_hashes_is_not_fooled_by_a_quick_change(here: Here, talk: Talk) -> None:
    """Same size, same second: the sha256 must still be that of the body."""
    talk.apply(1, one(file("/etc/panel/a", b"aaaa")), b"aaaa")
    digest = talk.ask("hello", protocol=1)["bundle"]
    for _ in range(20):
        for body, in_sync in ((b"bbbb", False), (b"aaaa", True)):
            with here.path("/etc/panel/a").open("r+b") as target:
                target.write(body)
            assert talk.ask("check", digest=digest)["in_sync"] is in_sync


def test_a_difference_names_hashes_and_no_content(here: Here, talk: Talk) -> None:
    here.write("/etc/panel/a", "secret-of-the-site")
    wanted = one(file("/etc/panel/a", b"another-body-here!", secret=True))
    digest = talk.ask("bundle", bundle=wanted)["digest"]
    found = talk.ask("prepare", digest=digest, sections=None)["differences"]
    assert found[0]["changes"][0] == {
        "field": "sha256",
        "from": sha(b"secret-of-the-site"),
        "to": sha(b"another-body-here!"),
    }
    assert "secret-of" not in str(found)
