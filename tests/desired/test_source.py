"""Reading commits of real repositories, and what is refused before git sees it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.desired import source
from reconciler.desired.snapshot import read_folder
from reconciler.desired.source import (
    check_revision,
    dirty,
    head_commit,
    is_ancestor,
    load_snapshot,
    locate,
    read_commit,
)
from reconciler.errors import SourceFault

SITE = "apiVersion: reconciler/v1\nkind: SSHKey\nmetadata: {name: %s}\n"
Git = Callable[..., str]


def _git(folder: Path, *arguments: str, **environment: str) -> str:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    done = subprocess.run(
        ["git", "-c", "user.name=A Writer", "-c", "user.email=writer@example.test", *arguments],
        cwd=folder,
        env={**clean, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


def _write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _commit(folder: Path, message: str = "Change the fleet") -> str:
    _git(folder, "add", "-A")
    _git(
        folder, "commit", "-q", "--allow-empty", "-m", message, GIT_COMMITTER_DATE="2026-01-31T12:00:00+0100"
    )
    return _git(folder, "rev-parse", "HEAD")


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository with two commits on `main`; the second one is tagged v1.0."""
    folder = tmp_path / "fleet"
    folder.mkdir()
    _git(folder, "init", "-q", "-b", "main")
    _write(folder, one_dot_yaml=SITE % "one", README_dot_md="# Fleet\n")
    _commit(folder, "Begin the fleet")
    _write(folder, keys__two_dot_yml=SITE % "two", _dot_ci__x_dot_yaml="on: push\n")
    _commit(folder, "Add a key\n\nIt is the second one.")
    _git(folder, "tag", "v1.0")
    return folder


def _children() -> list[str]:
    """The child processes of this one."""
    me = os.getpid()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == me:
                found.append(entry.name)
    return found


def test_a_commit_is_read_with_its_facts_and_its_manifests_only(repo: Path) -> None:
    snapshot = read_commit(repo, "HEAD")
    assert snapshot.commit == _git(repo, "rev-parse", "HEAD")
    assert (snapshot.author_name, snapshot.author_email) == ("A Writer", "writer@example.test")
    assert snapshot.message == "Add a key\n\nIt is the second one."
    assert snapshot.committed_at.isoformat() == "2026-01-31T11:00:00+00:00"
    assert {path: text.decode() for path, text in snapshot.files.items()} == {
        "one.yaml": SITE % "one",
        "keys/two.yml": SITE % "two",
    }
    assert sorted(str(key) for key in load_snapshot(snapshot).fleet.entries) == ["SSHKey/one", "SSHKey/two"]


@pytest.mark.parametrize("rev", ["HEAD~1", "main~1", "main^", "v1.0~1", "heads/main~1"])
def test_older_revisions_are_read_by_name(repo: Path, rev: str) -> None:
    assert set(read_commit(repo, rev).files) == {"one.yaml"}


def test_a_commit_is_read_by_the_first_digits_of_its_id(repo: Path) -> None:
    head = head_commit(repo)
    assert read_commit(repo, head[:10]).commit == head
    assert read_commit(repo, head).commit == head


def test_a_bare_repository_reads_like_one_with_a_work_tree(repo: Path, tmp_path: Path) -> None:
    _git(tmp_path, "clone", "-q", "--bare", str(repo), "bare.git")
    bare = tmp_path / "bare.git"
    assert read_commit(bare, "main") == read_commit(repo, "main")
    assert dirty(bare) is False
    assert locate(bare) == (bare, "")


def test_a_linked_work_tree_reads_like_its_repository(repo: Path, tmp_path: Path) -> None:
    _git(repo, "worktree", "add", "-q", "--detach", str(tmp_path / "linked"), "HEAD~1")
    assert set(read_commit(tmp_path / "linked", "HEAD").files) == {"one.yaml"}
    assert set(read_commit(tmp_path / "linked", "main").files) == {"one.yaml", "keys/two.yml"}
    assert not dirty(tmp_path / "linked")


def test_a_folder_of_the_repository_can_be_the_fleet(repo: Path) -> None:
    assert set(read_commit(repo, "HEAD", "keys").files) == {"two.yml"}
    assert set(read_commit(repo, "HEAD", "./keys/").files) == {"two.yml"}
    assert locate(repo / "keys") == (repo, "keys")
    assert locate(repo) == (repo, "")


@pytest.mark.parametrize("folder", ["nowhere", "one.yaml", "key", "-x", ":(glob)k*", "k*"])
def test_a_folder_that_the_commit_lacks_is_a_fault_and_not_an_empty_fleet(repo: Path, folder: str) -> None:
    with pytest.raises(SourceFault, match="has no folder"):
        read_commit(repo, "HEAD", folder)


@pytest.mark.parametrize("folder", ["..", "../x", "/etc", "keys/../..", "a\0b"])
def test_a_folder_outside_the_repository_is_refused(repo: Path, folder: str) -> None:
    with pytest.raises(SourceFault, match="no folder within"):
        read_commit(repo, "HEAD", folder)


def test_an_empty_commit_has_no_files_and_is_no_fault(repo: Path) -> None:
    _git(repo, "rm", "-q", "-r", ".")
    _commit(repo)
    snapshot = read_commit(repo, "HEAD")
    assert snapshot.files == {}
    assert snapshot.problems == ()


def test_uncommitted_files_do_not_show_in_a_commit(repo: Path) -> None:
    _write(repo, three_dot_yaml=SITE % "three")
    assert "three.yaml" not in read_commit(repo, "HEAD").files


HOSTILE = [
    "--output=/tmp/x", "-u", "-uX", "--upload-pack=touch /tmp/x", "ext::sh -c touch% /tmp/x", "a b", "a..b", "a...b", "HEAD^{tree}",
    "HEAD:one.yaml", ":/Add", "@", "@{-1}", "main@{1}", "HEAD~", "HEAD~-1", "HEAD~x", "HEAD~9999999", "HEAD^2~", "^main", "a\nb", "main\n", "",
    " ", "a\0b", "/main", "main/", "a//b", "a.lock", ".hidden", "x/.y", "a.", "a*", "a?", "[a]", "a\\b", "main~1^", "x" * 300,
]  # fmt: skip


@pytest.mark.parametrize("rev", HOSTILE)
def test_hostile_revisions_never_reach_git(repo: Path, rev: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_run", lambda *_: pytest.fail("git was run"))
    with pytest.raises(SourceFault, match="is no revision"):
        read_commit(repo, rev)


@pytest.mark.parametrize(
    "rev", ["HEAD", "HEAD~12", "main", "feature/a-b_c.d", "v1.0", "abcd", "0" * 64, "origin/main", "ünï"]
)
def test_ordinary_revisions_pass_the_check(rev: str) -> None:
    check_revision(rev)


def test_a_branch_named_like_an_option_is_no_option(repo: Path) -> None:
    _git(repo, "update-ref", "refs/heads/--output=pwned", "HEAD")
    with pytest.raises(SourceFault):
        read_commit(repo, "--output=pwned")
    assert not (repo / "pwned").exists()


def test_an_unknown_revision_an_empty_repository_and_no_repository_are_told_apart(
    repo: Path, tmp_path: Path
) -> None:
    with pytest.raises(SourceFault, match="no revision elsewhere") as unknown:
        read_commit(repo, "elsewhere")
    assert "fetch" in unknown.value.hint
    with pytest.raises(SourceFault, match="no revision HEAD~9"):
        read_commit(repo, "HEAD~9")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(SourceFault, match="not in a git repository") as none:
        read_commit(empty, "HEAD")
    assert "git init" in none.value.hint
    _git(empty, "init", "-q")
    with pytest.raises(SourceFault, match="nothing has been committed"):
        read_commit(empty, "HEAD")
    with pytest.raises(SourceFault, match="no such folder"):
        read_commit(tmp_path / "nowhere", "HEAD")


def test_a_tag_of_something_else_than_a_commit_is_no_revision(repo: Path) -> None:
    blob = _git(repo, "rev-parse", "HEAD:one.yaml")
    _git(repo, "tag", "of-a-blob", blob)
    for rev in ("of-a-blob", blob):
        with pytest.raises(SourceFault, match="no revision"):
            read_commit(repo, rev)


def test_links_and_submodules_that_may_hold_manifests_are_problems(repo: Path, tmp_path: Path) -> None:
    (repo / "sites").symlink_to("../elsewhere")
    (repo / "link.yaml").symlink_to("one.yaml")
    (repo / "GUIDE").symlink_to("README.md")
    (repo / ".hidden").symlink_to("/etc")
    _git(repo, "update-index", "--add", "--cacheinfo", f"160000,{head_commit(repo)},module")
    _git(repo, "add", "sites", "link.yaml", "GUIDE", ".hidden")
    _git(repo, "commit", "-q", "-m", "Add links")
    snapshot = read_commit(repo, "HEAD")
    assert [(p.code, p.source.path) for p in snapshot.problems] == [
        ("symlink", "link.yaml"),
        ("submodule", "module"),
        ("symlink", "sites"),
    ]
    assert not load_snapshot(snapshot).fleet.whole


def test_a_huge_manifest_is_a_problem_and_its_content_is_not_read(repo: Path) -> None:
    (repo / "huge.yaml").write_text("# " + "x" * 300_000, encoding="utf-8")
    (repo / "huge.bin").write_bytes(b"x" * 300_000)
    _commit(repo)
    for snapshot in (read_commit(repo, "HEAD"), read_folder(repo)):
        assert [(p.code, p.source.path) for p in snapshot.problems] == [("file-too-large", "huge.yaml")]
        assert "huge.yaml" not in snapshot.files


def test_file_names_that_are_not_text_are_problems(repo: Path) -> None:
    with open(os.fsencode(repo) + b"/caf\xe9.yaml", "w", encoding="utf-8") as file:
        file.write(SITE % "three")
    _write(repo, **{"with blank\nand line.yaml": SITE % "four"})
    _commit(repo)
    for snapshot in (read_commit(repo, "HEAD"), read_folder(repo)):
        assert [(p.code, p.source.path) for p in snapshot.problems] == [("path-not-text", "caf\\xe9.yaml")]
        assert "with blank\nand line.yaml" in snapshot.files


def test_ancestors_are_told_from_rewritten_history(repo: Path) -> None:
    old = head_commit(repo)
    assert is_ancestor(repo, "HEAD~1", "HEAD")
    assert is_ancestor(repo, old, old)
    assert not is_ancestor(repo, "HEAD", "HEAD~1")
    _git(repo, "commit", "-q", "--amend", "-m", "Another second commit")
    assert not is_ancestor(repo, old, "HEAD")


def test_a_work_tree_is_dirty_with_changed_staged_or_new_files_below_the_folder(repo: Path) -> None:
    assert not dirty(repo)
    _write(repo, new_dot_yaml=SITE % "new")
    assert dirty(repo)
    assert not dirty(repo, "keys")
    _git(repo, "add", "new.yaml")
    assert dirty(repo)
    _commit(repo)
    assert not dirty(repo)
    _write(repo, keys__two_dot_yml="")
    assert dirty(repo, "keys")


def test_the_environment_of_a_git_hook_does_not_lead_to_another_repository(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    _git(other, "init", "-q")
    _write(other, other_dot_yaml=SITE % "other")
    _commit(other)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git" / "index"))
    assert set(read_commit(repo, "HEAD").files) == {"one.yaml", "keys/two.yml"}
    assert not dirty(repo)


def test_objects_in_a_pushs_quarantine_are_read_only_where_that_is_asked_for(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = head_commit(repo)
    _git(tmp_path, "clone", "-q", "--bare", str(repo), "server.git")
    server, quarantine = tmp_path / "server.git", tmp_path / "quarantine"
    _write(repo, three_dot_yaml=SITE % "three")
    pushed = _commit(repo)
    for path in (repo / ".git" / "objects").glob("??/*"):  # the push's objects, outside of the server's own
        target = quarantine / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(quarantine))
    monkeypatch.setenv("GIT_ALTERNATE_OBJECT_DIRECTORIES", str(server / "objects"))
    monkeypatch.setenv("GIT_QUARANTINE_PATH", str(quarantine))
    with pytest.raises(SourceFault, match="no revision"):
        read_commit(server, pushed)
    incoming = source.Incoming.of(os.environ)
    assert "three.yaml" in read_commit(server, pushed, incoming=incoming).files
    assert is_ancestor(server, known, pushed, incoming=incoming)
    assert source.Incoming.of({}).environment() == {}


def test_programs_named_by_the_repository_are_not_run(repo: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\ntouch {mark}\n", encoding="utf-8")
    script.chmod(0o755)
    for name in ("core.fsmonitor", "core.pager", "gpg.program", "diff.external", "core.sshCommand"):
        _git(repo, "config", name, str(script))
    _git(repo, "config", "core.hooksPath", str(tmp_path))
    mark.unlink(missing_ok=True)
    read_commit(repo, "HEAD")
    is_ancestor(repo, "HEAD~1", "HEAD")
    dirty(repo)
    assert not mark.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")
def test_a_repository_of_another_user_is_refused(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_UID", raising=False)
    os.chown(repo / ".git", 12345, 12345)
    with pytest.raises(SourceFault, match="dubious ownership") as refused:
        read_commit(repo, "HEAD")
    assert "12345" in refused.value.hint
    monkeypatch.setenv("SUDO_UID", "12345")
    assert read_commit(repo, "HEAD").files


def test_a_damaged_object_is_a_fault_that_names_it(repo: Path) -> None:
    blob = _git(repo, "rev-parse", "HEAD:one.yaml")
    (repo / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(SourceFault, match=r"cannot be read") as fault:
        read_commit(repo, "HEAD")
    assert "git fsck" in fault.value.hint or blob[:7] in fault.value.message


def test_no_git_process_is_left_after_use(repo: Path) -> None:
    before = set(_children())
    for _ in range(3):
        read_commit(repo, "HEAD")
        head_commit(repo)
        is_ancestor(repo, "HEAD~1", "HEAD")
        dirty(repo)
    with pytest.raises(SourceFault):
        read_commit(repo, "elsewhere")
    assert set(_children()) <= before


def test_a_commit_message_in_another_encoding_is_read(repo: Path) -> None:
    _git(repo, "-c", "i18n.commitEncoding=ISO-8859-1", "commit", "-q", "--allow-empty", "-m", "plain")
    raw = b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor  <> 1 +0000\ncommitter x <x> 99999999999999 +0000\n\n"
    name, email, at, message = source._commit_facts(raw + b"caf\xe9")
    assert (name, email, message) == ("", "", "caf\ufffd")
    assert at.year == 1970


def test_a_folder_is_read_without_git_and_without_following_links(tmp_path: Path) -> None:
    folder = tmp_path / "fleet"
    _write(folder, sites__a_dot_yaml=SITE % "a", _dot_git__x_dot_yaml="[", notes_dot_txt="x")
    (folder / "out").symlink_to("/etc")
    (folder / "b.yaml").symlink_to("sites/a.yaml")
    (folder / "GUIDE").symlink_to("notes.txt")
    os.mkfifo(folder / "pipe.yaml")
    snapshot = read_folder(folder)
    assert snapshot.commit == "worktree"
    assert set(snapshot.files) == {"sites/a.yaml"}
    assert [(p.code, p.source.path) for p in snapshot.problems] == [
        ("symlink", "b.yaml"),
        ("symlink", "out"),
        ("unreadable-file", "pipe.yaml"),
    ]


def test_a_folder_that_is_none_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(SourceFault, match="no such folder"):
        read_folder(tmp_path / "nowhere")
    with pytest.raises(SourceFault, match="not a folder"):
        read_folder(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert read_folder(tmp_path / "empty").files == {}
