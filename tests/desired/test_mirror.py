"""The mirror against real repositories: what it brings, what it refuses, what it tells apart."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from reconciler.desired import lineage, mirror_folder
from reconciler.desired.mirror import Mirror, watch_paths
from reconciler.desired.source import read_commit
from reconciler.errors import SourceFault, SourceUnreachable
from tests.desired.repositories import HttpsServer, Repository, listening
from tests.nodes import loopback


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    """A repository with one commit on main."""
    made = Repository(tmp_path / "fleet")
    made.put("one")
    return made


@pytest.fixture
async def mirror(repo: Repository, tmp_path: Path) -> AsyncIterator[Mirror]:
    """A mirror of it that has fetched nothing yet."""
    made = Mirror(tmp_path / "mirrors" / "main", [repo.address], frozenset({"file"}))
    yield made
    made.close()


async def test_a_branch_is_looked_at_brought_and_read_without_a_checkout(
    mirror: Mirror, repo: Repository
) -> None:
    tip = await mirror.peek("main")
    assert (tip.commit, tip.remote, tip.passed) == (repo.head, repo.address, ())
    assert not mirror.folder.exists()
    fetched = await mirror.fetch("main")
    assert (fetched.commit, fetched.changed, fetched.rebuilt) == (repo.head, True, False)
    assert set(read_commit(mirror.folder, fetched.commit).files) == {"one.yaml"}
    assert not (mirror.folder / "hooks").exists()
    assert not (mirror.folder / "index").exists()


async def test_nothing_is_transferred_when_the_branch_has_not_moved(
    mirror: Mirror, repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    await mirror.fetch("main")
    monkeypatch.setattr(mirror, "_transfer", lambda *_: pytest.fail("it was transferred again"))
    again = await mirror.fetch("main")
    assert (again.commit, again.changed) == (repo.head, False)


async def test_a_new_commit_is_brought_and_follows_from_the_old_one(mirror: Mirror, repo: Repository) -> None:
    old = (await mirror.fetch("main")).commit
    new = repo.put("two")
    assert (await mirror.fetch("main")).commit == new
    assert lineage.advance(mirror.folder, old, new) == "forward"


async def test_only_the_wanted_branch_is_brought(mirror: Mirror, repo: Repository) -> None:
    repo.git("checkout", "-q", "-b", "feature")
    feature = repo.put("feature")
    repo.git("tag", "v1")
    repo.git("checkout", "-q", "main")
    await mirror.fetch("main")
    assert not lineage.exists(mirror.folder, feature)
    refs = mirror_folder.ask(mirror.folder, "for-each-ref", "--format=%(refname)").output.decode()
    assert len(refs.split()) == 1
    assert "tags" not in refs


async def test_a_rewritten_branch_is_brought_and_the_old_tip_stays_comparable(
    mirror: Mirror, repo: Repository
) -> None:
    repo.put("two")
    old = (await mirror.fetch("main")).commit
    repo.git("commit", "-q", "--amend", "-m", "Another word")
    new = (await mirror.fetch("main")).commit
    await mirror.tidy()
    assert lineage.advance(mirror.folder, old, new) == "rewritten"
    assert lineage.exists(mirror.folder, old)


async def test_kept_commits_survive_tidying_and_others_are_let_go(mirror: Mirror, repo: Repository) -> None:
    first = (await mirror.fetch("main")).commit
    second = repo.put("two")
    await mirror.fetch("main")
    await mirror.keep([first, "0" * 40])
    kept = mirror_folder.ask(mirror.folder, "for-each-ref", "--format=%(refname)", "refs/kept/").output
    assert kept.decode().split() == [f"refs/kept/{first}"]
    await mirror.keep([second])
    kept = mirror_folder.ask(mirror.folder, "for-each-ref", "--format=%(refname)", "refs/kept/").output
    assert kept.decode().split() == [f"refs/kept/{second}"]


async def test_packs_do_not_pile_up(
    mirror: Mirror, repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.desired.mirror._PACKS", 3)
    for number in range(6):
        repo.put(f"n{number}")
        await mirror.fetch("main")
        assert mirror_folder.packs(mirror.folder) <= 4
    assert len(read_commit(mirror.folder, repo.head).files) == 7


async def test_a_missing_branch_is_a_fault_that_suggests_the_name(mirror: Mirror, repo: Repository) -> None:
    with pytest.raises(SourceFault, match="there is no branch mian") as fault:
        await mirror.fetch("mian")
    assert not isinstance(fault.value, SourceUnreachable)
    assert "did you mean 'main'?" in fault.value.hint
    assert repo.address in fault.value.message


async def test_a_deleted_branch_is_a_fault_and_what_was_fetched_stays(
    mirror: Mirror, repo: Repository
) -> None:
    commit = (await mirror.fetch("main")).commit
    repo.git("checkout", "-q", "-b", "other")
    repo.git("branch", "-q", "-D", "main")
    for look in (mirror.peek, mirror.fetch):
        with pytest.raises(SourceFault, match="there is no branch main"):
            await look("main")
    assert set(read_commit(mirror.folder, commit).files) == {"one.yaml"}


async def test_an_empty_repository_is_a_fault_and_never_an_empty_fleet(tmp_path: Path) -> None:
    empty = Repository(tmp_path / "empty")
    mirror = Mirror(tmp_path / "mirror", [empty.address])
    for look in (mirror.peek, mirror.fetch):
        with pytest.raises(SourceFault, match="the repository is empty") as fault:
            await look("main")
        assert not isinstance(fault.value, SourceUnreachable)
    mirror.close()


async def test_a_branch_of_the_same_ending_is_not_taken_for_it(mirror: Mirror, repo: Repository) -> None:
    repo.git("branch", "refs/heads/side")
    repo.git("update-ref", "refs/heads/x/refs/heads/side2", "HEAD")
    with pytest.raises(SourceFault, match="no branch side2"):
        await mirror.peek("side2")


async def test_branches_whose_names_exclude_each_other_in_a_folder_can_follow_each_other(
    mirror: Mirror, repo: Repository
) -> None:
    repo.git("branch", "team")
    await mirror.fetch("team")
    repo.git("branch", "-D", "team")
    repo.git("branch", "team/web")
    assert (await mirror.fetch("team/web")).commit == repo.head


@pytest.mark.parametrize(
    "branch", ["", "-x", "--upload-pack=x", "a..b", "a b", "HEAD", "x.lock", "a:b", "a\n", "/a"]
)
async def test_a_text_that_is_no_branch_never_reaches_git(
    mirror: Mirror, branch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "_call", lambda *_: pytest.fail("git was run"))
    with pytest.raises(SourceFault, match="is no name of a branch"):
        await mirror.fetch(branch)


async def test_remotes_are_tried_in_their_order_and_failures_are_told(
    repo: Repository, tmp_path: Path
) -> None:
    gone = tmp_path / "gone"
    mirror = Mirror(tmp_path / "mirror", [str(gone), repo.address])
    tip = await mirror.peek("main")
    assert tip.remote == repo.address
    assert [said.startswith(f"{gone}: ") for said in tip.passed] == [True]
    fetched = await mirror.fetch("main")
    assert (fetched.commit, fetched.remote, fetched.passed) == (repo.head, repo.address, tip.passed)
    mirror.close()


async def test_the_first_remote_that_serves_decides(repo: Repository, tmp_path: Path) -> None:
    other = Repository(tmp_path / "other")
    other.put("other")
    mirror = Mirror(tmp_path / "mirror", [other.address, repo.address])
    assert (await mirror.fetch("main")).commit == other.head
    other.git("branch", "-m", "main", "trunk")
    with pytest.raises(SourceFault, match=f"{other.address}: there is no branch main"):
        await mirror.fetch("main")
    mirror.close()


async def test_no_repository_anywhere_is_a_fault_and_no_server_is_unreachable(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path / "mirror", [str(tmp_path / "a"), str(tmp_path / "b")])
    with pytest.raises(SourceFault, match="cannot be read") as fault:
        await mirror.peek("main")
    assert not isinstance(fault.value, SourceUnreachable)
    assert str(tmp_path / "a") in fault.value.message
    assert str(tmp_path / "b") in fault.value.message
    mirror.close()
    with listening(lambda line: line.close()) as port:
        closed = port
    for address in (f"ssh://git@127.0.0.1:{closed}/x.git", f"https://127.0.0.1:{closed}/x.git"):
        mirror = Mirror(tmp_path / "mirror", [address], seconds=20)
        with pytest.raises(SourceUnreachable, match="no remote") as unreachable:
            await mirror.peek("main")
        assert unreachable.value.reaction == "retry"
        assert address in unreachable.value.message
        mirror.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")
async def test_a_local_repository_of_another_user_can_be_a_remote(mirror: Mirror, repo: Repository) -> None:
    os.chown(repo.folder, 12345, 12345)
    os.chown(repo.folder / ".git", 12345, 12345)
    assert (await mirror.fetch("main")).changed


async def test_programs_that_a_local_repository_names_are_not_run(
    mirror: Mirror, repo: Repository, tmp_path: Path
) -> None:
    mark, script = tmp_path / "ran", tmp_path / "script"
    script.write_text(f'#!/bin/sh\ntouch {mark}\nexec git-upload-pack "$@"\n')
    script.chmod(0o755)
    for name in (
        "uploadpack.packObjectsHook",
        "core.fsmonitor",
        "core.sshCommand",
        "core.alternateRefsCommand",
    ):
        repo.git("config", name, str(script))
    repo.git("config", "core.hooksPath", str(tmp_path))
    (tmp_path / "post-checkout").symlink_to(script)
    (tmp_path / "reference-transaction").symlink_to(script)
    await mirror.fetch("main")
    assert not mark.exists()


async def test_a_repository_with_long_ids_is_mirrored_in_its_own_format(tmp_path: Path) -> None:
    long = Repository(tmp_path / "long", "--object-format=sha256")
    commit = long.put("one")
    assert len(commit) == 64
    short = Repository(tmp_path / "short")
    short.put("one")
    for repository in (long, short, long):
        mirror = Mirror(tmp_path / "mirror", [repository.address])
        assert (await mirror.fetch("main")).commit == repository.head
        assert set(read_commit(mirror.folder, repository.head).files) == {"one.yaml"}
        mirror.close()


async def test_malformed_objects_are_refused_and_the_branch_stays_where_it_was(
    mirror: Mirror, repo: Repository
) -> None:
    good = (await mirror.fetch("main")).commit
    tree = repo.git("rev-parse", "HEAD^{tree}")
    bad = repo.hash(f"tree {tree}\nparent {good}\nauthor nobody\ncommitter nobody\n\nmalformed\n".encode())
    repo.git("update-ref", "refs/heads/main", bad)
    with pytest.raises(SourceFault, match=r"fsck|missing|bad") as fault:
        await mirror.fetch("main")
    assert not isinstance(fault.value, SourceUnreachable)
    assert not lineage.exists(mirror.folder, bad)
    assert set(read_commit(mirror.folder, good).files) == {"one.yaml"}


async def test_no_process_and_no_file_is_left_by_a_cycle(mirror: Mirror, repo: Repository) -> None:
    before = set(loopback.children(os.getpid()))
    for name in ("two", "three"):
        await mirror.peek("main")
        repo.put(name)
        await mirror.fetch("main")
    with pytest.raises(SourceFault):
        await mirror.fetch("nope")
    assert set(loopback.children(os.getpid())) <= before
    left = [
        p.name
        for p in mirror.folder.rglob("*")
        if p.name.startswith("tmp_") or p.suffix in (".lock", ".keep")
    ]
    assert left == []
    assert sorted(p.name for p in mirror.folder.parent.iterdir()) == ["main", "main.gitconfig", "main.lock"]


async def test_what_to_watch_of_a_local_repository_is_named_and_exists(
    repo: Repository, tmp_path: Path
) -> None:
    bare = tmp_path / "bare.git"
    repo.git("clone", "-q", "--bare", repo.address, str(bare))
    for address in (str(bare), f"file://{bare}"):
        assert set(watch_paths(address)) == {bare / "refs", bare / "HEAD", bare / "packed-refs"}
    assert set(watch_paths(repo.address)) == {repo.folder / ".git" / "refs", repo.folder / ".git" / "HEAD"}
    for address in ("ssh://git@example.test/x", "https://example.test/x", str(tmp_path / "none"), "ext::sh"):
        assert watch_paths(address) == ()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[loopback.Loopback]:
    """A real sshd."""
    if loopback.SSHD is None or os.geteuid() != 0:
        pytest.skip("needs root and an OpenSSH server")
    (tmp_path / "sshd").mkdir()
    made = loopback.start(tmp_path / "sshd")
    yield made
    made.stop()


def _key(server: loopback.Loopback, folder: Path) -> Path:
    path = folder / "id git"
    path.touch(0o600)
    path.write_text(server.client.private.reveal())
    return path


def _known(server: loopback.Loopback, folder: Path, key: str) -> Path:
    path = folder / f"known {len(key)} hosts {key[-8:].replace('/', '_')}"
    path.write_text(f"[127.0.0.1]:{server.port} {key}\n")
    return path


async def test_a_branch_is_brought_over_ssh_with_a_pinned_host_key(
    server: loopback.Loopback, repo: Repository, tmp_path: Path
) -> None:
    address = f"ssh://root@127.0.0.1:{server.port}{repo.folder}"
    known = _known(server, tmp_path, server.host.public)
    mirror = Mirror(
        tmp_path / "mirror",
        [address],
        frozenset({"ssh"}),
        ssh_key=_key(server, tmp_path),
        known_hosts=known,
        seconds=60,
    )
    assert (await mirror.peek("main")).commit == repo.head
    assert (await mirror.fetch("main")).commit == repo.head
    mirror.close()


async def test_a_commit_that_no_branch_ends_at_is_brought_from_a_server_that_gives_tips_only(
    server: loopback.Loopback, repo: Repository, tmp_path: Path
) -> None:
    """An sshd that does not hand GIT_PROTOCOL on, as by default: git speaks protocol 0, which gives tips only."""
    wanted = repo.head
    repo.write("two.yaml", "a: 2")
    repo.commit()
    mirror = Mirror(
        tmp_path / "mirror",
        [f"ssh://root@127.0.0.1:{server.port}{repo.folder}"],
        ssh_key=_key(server, tmp_path),
        known_hosts=_known(server, tmp_path, server.host.public),
        seconds=60,
    )
    fetched = await mirror.fetch(wanted)
    assert (fetched.commit, fetched.changed) == (wanted, True)
    assert set(read_commit(mirror.folder, wanted).files) == {"one.yaml"}
    assert not (await mirror.fetch(wanted)).changed
    with pytest.raises(SourceFault, match=f"no commit {'1' * 40} in its branches and tags") as fault:
        await mirror.fetch("1" * 40)
    assert not isinstance(fault.value, SourceUnreachable)
    mirror.close()


async def test_over_ssh_wrong_and_missing_keys_of_either_side_are_faults_with_hints(
    server: loopback.Loopback, repo: Repository, tmp_path: Path
) -> None:
    address = f"ssh://root@127.0.0.1:{server.port}{repo.folder}"
    right, known = _key(server, tmp_path), _known(server, tmp_path, server.host.public)
    stranger = tmp_path / "stranger"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(stranger)], check=True)
    cases: tuple[tuple[Path | None, Path | None, str], ...] = (
        (right, None, "knownHosts"),
        (right, _known(server, tmp_path, server.client.public), "knownHosts"),
        (stranger, known, "sshKey"),
        (None, known, "sshKey"),
    )
    for key, hosts, hint in cases:
        mirror = Mirror(tmp_path / "mirror", [address], ssh_key=key, known_hosts=hosts, seconds=60)
        with pytest.raises(SourceFault) as fault:
            await mirror.peek("main")
        assert not isinstance(fault.value, SourceUnreachable), fault.value
        assert hint in fault.value.hint, fault.value
        mirror.close()


async def test_a_branch_is_brought_over_https_with_credentials_that_nothing_shows(
    repo: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "https").mkdir()
    served = HttpsServer(tmp_path / "https", login="ada:s3cret/word")
    try:
        repo.git("clone", "-q", "--bare", repo.address, str(tmp_path / "https" / "fleet.git"))
        monkeypatch.setenv("GIT_SSL_CAINFO", str(served.cert))
        address = served.address("fleet.git", "ada:s3cret%2Fword")
        mirror = Mirror(tmp_path / "mirror", [address], frozenset({"https"}), seconds=60)
        tip = await mirror.peek("main")
        fetched = await mirror.fetch("main")
        assert fetched.commit == tip.commit == repo.head
        assert tip.remote == served.address("fleet.git")
        assert "s3cret" not in repr((mirror.remotes, tip, fetched))
        for wrong, word in (
            (served.address("fleet.git"), "credentials"),
            (served.address("no.git", "ada:s3cret%2Fword"), "address"),
        ):
            mirror.close()
            mirror = Mirror(tmp_path / "mirror", [wrong], seconds=60)
            with pytest.raises(SourceFault) as fault:
                await mirror.peek("main")
            assert not isinstance(fault.value, SourceUnreachable), fault.value
            assert word in fault.value.hint, fault.value
            assert "s3cret" not in str(fault.value) + fault.value.hint
        mirror.close()
        text = "".join(p.read_text("utf-8", "replace") for p in tmp_path.glob("mirror*/**/*") if p.is_file())
        assert "s3cret" not in text
    finally:
        served.stop()


async def test_a_redirect_is_not_followed_and_an_unknown_certificate_not_trusted(
    repo: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "https").mkdir()
    served = HttpsServer(tmp_path / "https")
    try:
        repo.git("clone", "-q", "--bare", repo.address, str(tmp_path / "https" / "fleet.git"))
        mirror = Mirror(tmp_path / "mirror", [served.address("fleet.git")], seconds=60)
        with pytest.raises(SourceFault) as fault:
            await mirror.peek("main")
        assert "certificate" in fault.value.hint
        monkeypatch.setenv("GIT_SSL_CAINFO", str(served.cert))
        served.redirect = served.address("fleet.git/info/refs?service=git-upload-pack")
        asked = len(served.seen)
        with pytest.raises(SourceFault):
            await mirror.peek("main")
        assert len(served.seen) == asked + 1
        mirror.close()
    finally:
        served.stop()


async def test_looks_at_one_mirror_at_the_same_time_do_not_disturb_each_other(
    mirror: Mirror, repo: Repository, tmp_path: Path
) -> None:
    twin = Mirror(mirror.folder, [repo.address])
    found = await asyncio.gather(*(m.fetch("main") for m in (mirror, twin, mirror, twin)))
    assert {one.commit for one in found} == {repo.head}
    twin.close()
