"""Archives of commits: the same bytes for the same commit, and nothing in them that leads elsewhere or is not what it seems."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.desired import archive
from reconciler.desired.archive import Packed
from reconciler.errors import SourceFault

from .repositories import Repository

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "repo")
    made.write("index.php", "<?php echo 1;")
    return made


def packed(repo: Repository, folder: Path) -> Packed:
    return archive.pack(repo.folder / ".git", repo.head, folder)


def contents(made: Packed) -> dict[str, tuple[str, int]]:
    with tarfile.open(fileobj=io.BytesIO(made.path.read_bytes())) as found:
        told = {}
        for member in found:
            file = found.extractfile(member) if member.isreg() else None
            told[member.name] = (
                file.read().decode() if file is not None else f"-> {member.linkname}",
                member.mode,
            )
        return told


def test_a_commit_is_packed_as_it_is_whatever_attributes_say(repo: Repository, tmp_path: Path) -> None:
    repo.write(".gitattributes", "secret.txt export-ignore\n*.txt export-subst\n")
    repo.write("secret.txt", "$Format:%H$")
    repo.write("bin/run", "#!/bin/sh\n")
    (repo.folder / "bin/run").chmod(0o755)
    (repo.folder / "link").symlink_to("bin/run")
    repo.write("näh te", "x")
    repo.commit()
    found = contents(packed(repo, tmp_path / "a"))
    assert found["secret.txt"] == ("$Format:%H$", 0o644)
    assert found["bin/run"] == ("#!/bin/sh\n", 0o755)
    assert found["link"][0] == "-> bin/run"
    assert found["näh te"] == ("x", 0o644)


def test_the_same_commit_gives_the_same_bytes(repo: Repository, tmp_path: Path) -> None:
    repo.commit()
    first, second = packed(repo, tmp_path / "a"), packed(repo, tmp_path / "b")
    assert (first.sha256, first.size) == (second.sha256, second.size)
    assert first.path.read_bytes() == second.path.read_bytes()
    assert archive.kept(tmp_path, first.sha256) is None


def _link(target: str) -> Callable[[Repository], None]:
    def make(repo: Repository) -> None:
        (repo.folder / "public").mkdir()
        os.symlink(target, repo.folder / "public/link")

    return make


def _module(repo: Repository) -> None:
    repo.commit()
    repo.git("update-index", "--add", "--cacheinfo", f"160000,{repo.head},vendor/lib")
    repo.git("commit", "-q", "-m", "Add a submodule")


def _bytes(repo: Repository) -> None:
    Path(os.fsdecode(os.fsencode(repo.folder) + b"/\xff.php")).write_text("x")


def _control(repo: Repository) -> None:
    repo.write("a\nb", "x")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_link("../../etc/passwd"), "the link public/link leads out of the release"),
        (_link("/etc/passwd"), "the link public/link leads out of the release"),
        (_module, "vendor/lib is a submodule"),
        (_bytes, "is not UTF-8"),
        (_control, "which is not taken"),
        (lambda repo: repo.write("big.bin", LFS), "big.bin is a pointer of Git LFS"),
    ],
    ids=["link-out", "link-absolute", "submodule", "bytes", "control", "lfs"],
)
def test_what_cannot_be_deployed_is_refused_by_name(
    repo: Repository, tmp_path: Path, make: Callable[[Repository], None], message: str
) -> None:
    make(repo)
    if make is not _module:
        repo.commit()
    with pytest.raises(SourceFault, match=message):
        packed(repo, tmp_path / "a")
    assert list((tmp_path / "a").glob("*")) == []


def test_a_commit_without_files_is_refused(tmp_path: Path) -> None:
    repo = Repository(tmp_path / "repo")
    repo.commit()
    with pytest.raises(SourceFault, match="has no files"):
        packed(repo, tmp_path / "a")


def test_what_is_too_large_for_a_node_is_refused(
    repo: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MOST_PACKED", 1000)
    (repo.folder / "noise").write_bytes(os.urandom(100_000))
    repo.commit()
    with pytest.raises(SourceFault, match="more than a node takes"):
        packed(repo, tmp_path / "a")
    assert list((tmp_path / "a").glob("*")) == []
