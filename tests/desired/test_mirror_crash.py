"""Whatever a crash leaves behind, the next fetch gets over it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.desired import mirror_folder
from reconciler.desired.mirror import Mirror
from reconciler.desired.source import read_commit
from reconciler.errors import SourceFault, SourceUnreachable
from tests.desired.repositories import Repository, listening, processes, wait_until

FETCH = """
import asyncio, sys
from pathlib import Path
from reconciler.desired.mirror import Mirror
asyncio.run(Mirror(Path(sys.argv[1]), sys.argv[2:], seconds=120).fetch("main"))
"""


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "fleet")
    made.put("one")
    return made


@pytest.fixture
def mirror(repo: Repository, tmp_path: Path) -> Iterator[Mirror]:
    made = Mirror(tmp_path / "mirrors" / "main", [repo.address], seconds=60)
    yield made
    made.close()


def _planted(folder: Path, name: str, content: bytes = b"") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


async def test_stale_locks_and_half_files_are_cleared_away(mirror: Mirror, repo: Repository) -> None:
    await mirror.fetch("main")
    ref = mirror_folder.ask(mirror.folder, "for-each-ref", "--format=%(refname)").output.decode().strip()
    names = [
        *("HEAD.lock", "config.lock", "packed-refs.lock", "shallow.lock", f"{ref}.lock", "gc.pid"),
        *("objects/pack/tmp_pack_AbCdEf", "objects/pack/tmp_idx_AbCdEf", "objects/12/tmp_obj_AbCdEf"),
        f"objects/pack/pack-{'1' * 40}.keep",
    ]
    planted = [_planted(mirror.folder, name, b"123456") for name in names]
    repo.put("two")
    assert (await mirror.fetch("main")).commit == repo.head
    assert [path for path in planted if path.exists()] == []


@pytest.mark.parametrize("content", [b"", b"\0" * 41, b"12345", b"z" * 40 + b"\n"])
async def test_refs_that_were_written_half_are_brought_again(
    mirror: Mirror, repo: Repository, content: bytes
) -> None:
    await mirror.fetch("main")
    ref = mirror_folder.ask(mirror.folder, "for-each-ref", "--format=%(refname)").output.decode().strip()
    (mirror.folder / ref).write_bytes(content)
    _planted(mirror.folder, "refs/kept/" + "1" * 40, content)
    again = await mirror.fetch("main")
    assert (again.commit, again.changed) == (repo.head, True)
    assert set(read_commit(mirror.folder, repo.head).files) == {"one.yaml"}


def _no_head(folder: Path) -> None:
    (folder / "HEAD").unlink()


def _torn_config(folder: Path) -> None:
    (folder / "config").write_bytes(b"[core\n\trepo")


def _torn_pack(folder: Path) -> None:
    for pack in (folder / "objects" / "pack").glob("*.pack"):
        pack.chmod(0o600)
        pack.write_bytes(pack.read_bytes()[:40])


def _no_index(folder: Path) -> None:
    for index in (folder / "objects" / "pack").glob("*.idx"):
        index.unlink()


def _a_file(folder: Path) -> None:
    mirror_folder.discard(folder)
    folder.write_text("not a folder")


def _half_made(folder: Path) -> None:
    mirror_folder.discard(folder)
    (folder / "objects").mkdir(parents=True)
    (folder.parent / f".{folder.name}.new-left").mkdir()


@pytest.mark.parametrize("harm", [_no_head, _torn_config, _torn_pack, _no_index, _a_file, _half_made])
async def test_a_damaged_mirror_is_made_again(
    mirror: Mirror, repo: Repository, harm: Callable[[Path], None]
) -> None:
    await mirror.fetch("main")
    harm(mirror.folder)
    repo.put("two")
    assert (await mirror.fetch("main")).commit == repo.head
    assert set(read_commit(mirror.folder, repo.head).files) == {"one.yaml", "two.yaml"}
    assert sorted(p.name for p in mirror.folder.parent.iterdir()) == ["main", "main.gitconfig", "main.lock"]


async def test_a_deleted_mirror_is_made_again(mirror: Mirror, repo: Repository) -> None:
    await mirror.fetch("main")
    mirror_folder.discard(mirror.folder)
    assert (await mirror.fetch("main")).commit == repo.head


def _fetching(folder: Path, *remotes: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", FETCH, str(folder), *remotes],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


async def test_the_git_that_a_killed_daemon_left_is_ended_and_does_not_hold_up_the_next(
    mirror: Mirror, repo: Repository
) -> None:
    started = threading.Event()

    def hang(line: object) -> None:
        started.wait(60)

    with listening(hang) as port:
        remote = f"https://127.0.0.1:{port}/x.git"
        # An orphan holds the lock only inside of a fetch: the branch is known, its transfer hangs.
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(mirror.folder), remote],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        try:
            wait_until(lambda: processes(f"git-remote-https {remote}") or processes(f"fetch -- {remote}"))
            wait_until(lambda: (mirror.folder.with_name("main.lock")).read_text().strip())
            holder.send_signal(signal.SIGKILL)
            holder.wait(20)
            assert processes(remote), "the git of the killed process should still be there"
            async with asyncio.timeout(60):
                assert (await mirror.fetch("main")).commit == repo.head
            wait_until(lambda: not processes(remote))
        finally:
            holder.kill()
            holder.wait(20)
            started.set()


HOLD = """
import sys, threading
from pathlib import Path
from reconciler.desired import mirror_folder
from reconciler.desired.git_process import Bounds
from reconciler.desired.mirror import Mirror
folder, remote = Path(sys.argv[1]), sys.argv[2]
mirror = Mirror(folder, [remote], seconds=120)
with mirror_folder.held(folder, 10, threading.Event()) as lock:
    bounds = Bounds(120, inherit=(lock.descriptor,), started=lock.note)
    mirror_folder.ensure(folder, "sha1", bounds)
    mirror._transfer(mirror.remotes[0], "main", "refs/remotes/a/b", bounds)
"""


async def test_a_mirror_that_a_living_process_holds_is_left_to_it(
    mirror: Mirror, repo: Repository, tmp_path: Path
) -> None:
    await mirror.fetch("main")
    repo.put("two")
    with (mirror.folder.with_name("main.lock")).open("rb+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(
            f"{os.getpid()} {mirror_folder._born(os.getpid())} {os.getpid()} {mirror_folder._born(os.getpid())}\n".encode()
        )
        lock.flush()
        impatient = Mirror(mirror.folder, [repo.address], seconds=1)
        async with asyncio.timeout(30):
            with pytest.raises(SourceUnreachable, match="in use by another process"):
                await impatient.fetch("main")
            assert (await impatient.peek("main")).commit == repo.head
        impatient.close()


async def test_killed_at_any_moment_the_next_fetch_succeeds(mirror: Mirror, repo: Repository) -> None:
    for name in "abcdefgh":
        repo.write(f"{name}.txt", "".join(random.Random(name).choices("0123456789", k=200_000)))
    repo.commit()
    chance = random.Random(20261122)
    for turn in range(8):
        repo.put(f"turn{turn}")
        running = _fetching(mirror.folder, repo.address)
        wait_until(lambda r=running: r.poll() is not None or processes(f"-- {repo.address}"), 60)  # type: ignore[misc]
        time.sleep(chance.uniform(0, 0.15))
        running.kill()
        running.wait(20)
        async with asyncio.timeout(120):
            assert (await mirror.fetch("main")).commit == repo.head
        assert len(read_commit(mirror.folder, repo.head).files) == 2 + turn


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_a_folder_that_cannot_be_written_is_named(repo: Repository, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    mirror = Mirror(tmp_path / "locked" / "main", [repo.address])
    with pytest.raises(SourceFault, match="cannot be made"):
        await mirror.fetch("main")
    mirror.close()


async def test_a_file_in_place_of_the_mirrors_folder_is_named(repo: Repository, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    mirror = Mirror(tmp_path / "file" / "main", [repo.address])
    with pytest.raises(SourceFault, match="cannot be"):
        await mirror.fetch("main")
    mirror.close()
