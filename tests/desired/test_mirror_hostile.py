"""Servers that hang, trickle, flood and lie: each costs a deadline or a limit, and leaves no process behind."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.desired import lineage
from reconciler.desired.mirror import Mirror
from reconciler.desired.source import read_commit
from reconciler.errors import SourceFault, SourceUnreachable
from tests.desired.repositories import Repository, listening, processes, wait_until
from tests.nodes import loopback

Played = Callable[[str], Mirror]


def _silent(line: socket.socket) -> None:
    while line.recv(4096):
        pass


def _garbage(line: socket.socket) -> None:
    line.sendall(os.urandom(20_000))
    line.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "fleet")
    made.put("one")
    return made


@pytest.mark.parametrize("form", ["ssh://git@127.0.0.1:{}/x.git", "https://127.0.0.1:{}/x.git"])
async def test_a_server_that_accepts_and_never_answers_costs_one_deadline(form: str, tmp_path: Path) -> None:
    with listening(_silent) as port:
        mirror = Mirror(tmp_path / "mirror", [form.format(port)], seconds=1.5)
        for look in (mirror.peek, mirror.fetch):
            async with asyncio.timeout(30):
                with pytest.raises(SourceUnreachable):
                    await look("main")
        assert processes(f"127.0.0.1:{port}") == []
        mirror.close()


@pytest.mark.parametrize("form", ["ssh://git@127.0.0.1:{}/x.git", "https://127.0.0.1:{}/x.git"])
async def test_a_server_that_sends_garbage_is_tried_again_later(form: str, tmp_path: Path) -> None:
    with listening(_garbage) as port:
        mirror = Mirror(tmp_path / "mirror", [form.format(port)], seconds=20)
        async with asyncio.timeout(40):
            with pytest.raises(SourceUnreachable) as fault:
                await mirror.peek("main")
        assert fault.value.message.isprintable()
        assert len(fault.value.message) < 600
        mirror.close()


async def test_after_a_hanging_remote_the_next_one_is_asked(repo: Repository, tmp_path: Path) -> None:
    with listening(_silent) as port:
        mirror = Mirror(tmp_path / "mirror", [f"https://127.0.0.1:{port}/x.git", repo.address], seconds=1.5)
        async with asyncio.timeout(60):
            fetched = await mirror.fetch("main")
        assert fetched.commit == repo.head
        assert "no answer within 2 seconds" in fetched.passed[0]
        mirror.close()


async def test_a_cancelled_look_ends_its_processes_before_it_returns(tmp_path: Path) -> None:
    with listening(_silent) as port:
        mirror = Mirror(tmp_path / "mirror", [f"https://127.0.0.1:{port}/x.git"], seconds=300)
        task = asyncio.create_task(mirror.peek("main"))
        async with asyncio.timeout(60):
            while not processes(f"127.0.0.1:{port}"):
                await asyncio.sleep(0.02)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert processes(f"127.0.0.1:{port}") == []
        mirror.close()


@pytest.fixture
def played(tmp_path: Path) -> Iterator[Played]:
    """A mirror whose remote is a real sshd that runs a script in place of git-upload-pack."""
    if loopback.SSHD is None or os.geteuid() != 0:
        pytest.skip("needs root and an OpenSSH server")
    folder = tmp_path / "sshd"
    folder.mkdir()
    server = loopback.start(folder)
    key, known = tmp_path / "id", tmp_path / "known"
    key.touch(0o600)
    key.write_text(server.client.private.reveal())
    known.write_text(f"[127.0.0.1]:{server.port} {server.host.public}\n")
    made: list[Mirror] = []

    def play(script: str) -> Mirror:
        path = folder / "play"
        # whatever becomes of the one who asked, it ends by itself
        again = '[ -n "$PLAYED" ] || PLAYED=1 exec timeout -k 1 60 "$0"'
        path.write_text(f"#!/bin/sh\n{again}\n{script}\n")
        path.chmod(0o755)
        (folder / "authorized_keys").write_text(f'command="{path}" {server.client.public}\n')
        address = f"ssh://root@127.0.0.1:{server.port}/x.git"
        made.append(
            Mirror(tmp_path / "mirror", [address], ssh_key=key, known_hosts=known, seconds=3, limit=1 << 20)
        )
        return made[-1]

    yield play
    for mirror in made:
        mirror.close()
    server.stop()


TIP = "1234567890123456789012345678901234567890"
ADVERT = f"{TIP} refs/heads/main"
FLOOD = f"""i=0; printf '00%x%s\\0agent=x\\n' {4 + len(ADVERT) + 9} '{ADVERT}'
while :; do i=$((i+1)); l=$(printf '{TIP} refs/heads/b%09d' $i); printf '%04x%s\\n' $((${{#l}}+5)) "$l" || exit; done"""


@pytest.mark.parametrize(
    ("script", "word"),
    [
        ("sleep 600", "no answer within"),
        ("while printf 0; do sleep 0.1; done", ""),
        ("while head -c 65536 /dev/zero; do :; done", ""),
        ("head -c 100000 /dev/urandom", ""),
        ("printf '0000'; sleep 600", ""),
        ("exit 1", ""),
        ("echo 'ERR words to see' >&2; kill -9 $$", ""),
        (FLOOD, ""),
        ("while echo noise >&2; do :; done", ""),
    ],
    ids=["silent", "trickle", "zeros", "noise", "flush", "fails", "killed", "flood", "errors"],
)
async def test_a_program_at_the_other_end_that_misbehaves_costs_a_deadline(
    played: Played, script: str, word: str
) -> None:
    mirror = played(script)
    async with asyncio.timeout(60):
        with pytest.raises(SourceFault) as fault:
            await mirror.fetch("main")
    assert word in fault.value.message
    assert fault.value.message.isprintable()
    assert len(fault.value.message) < 600
    assert not (mirror.folder / "refs" / "remotes").exists()
    wait_until(lambda: not processes(mirror.remotes[0].address))


async def test_a_repository_that_is_too_large_is_refused_and_cleared_away(
    tmp_path: Path, repo: Repository
) -> None:
    mirror = Mirror(tmp_path / "mirror", [repo.address], limit=1 << 20)
    good = (await mirror.fetch("main")).commit
    (repo.folder / "film.bin").write_bytes(os.urandom(6 << 20))
    bad = repo.commit()
    with pytest.raises(SourceFault, match="larger than 1 MiB") as fault:
        await mirror.fetch("main")
    assert not isinstance(fault.value, SourceUnreachable)
    assert not lineage.exists(mirror.folder, bad)
    assert set(read_commit(mirror.folder, good).files) == {"one.yaml"}
    assert sum(p.stat().st_size for p in mirror.folder.rglob("*") if p.is_file()) < 1 << 20
    repo.git("reset", "-q", "--hard", "HEAD~1")
    assert (await mirror.fetch("main")).commit == good
    mirror.close()


async def test_a_small_pack_with_a_huge_file_in_it_is_brought_in_little_memory_and_not_read(
    tmp_path: Path, repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (repo.folder / "huge.yaml").open("wb") as file:
        file.truncate(200 << 20)
    repo.git("config", "core.bigFileThreshold", "1m")  # the serving end is under the same limit here
    repo.commit()
    monkeypatch.setattr("reconciler.desired.mirror._MEMORY", 160 << 20)
    mirror = Mirror(tmp_path / "mirror", [repo.address], limit=4 << 20)
    commit = (await mirror.fetch("main")).commit
    snapshot = read_commit(mirror.folder, commit)
    assert set(snapshot.files) == {"one.yaml"}
    assert [problem.code for problem in snapshot.problems] == ["file-too-large"]
    mirror.close()
