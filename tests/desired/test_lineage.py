"""How commits stand to each other, and the trees they hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.desired import lineage
from reconciler.desired.lineage import advance, between, exists, tree
from reconciler.errors import SourceFault
from tests.desired.repositories import Repository


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "fleet")


def test_same_forward_behind_and_rewritten_are_told_apart(repo: Repository) -> None:
    one, two = repo.put("one"), repo.put("two")
    assert advance(repo.folder, one, one) == "same"
    assert advance(repo.folder, one, two) == "forward"
    assert advance(repo.folder, two, one) == "behind"
    repo.git("commit", "-q", "--amend", "-m", "Other")
    assert advance(repo.folder, two, repo.head) == "rewritten"
    repo.git("checkout", "-q", "--orphan", "fresh")
    assert advance(repo.folder, one, repo.commit()) == "rewritten"


def test_a_commit_that_is_not_there_any_more_counts_as_rewritten(repo: Repository) -> None:
    one = repo.put("one")
    assert advance(repo.folder, "1" * 40, one) == "rewritten"
    with pytest.raises(SourceFault, match="no revision"):
        advance(repo.folder, one, "1" * 40)
    with pytest.raises(SourceFault, match="no revision"):
        advance(repo.folder, "1" * 40, "2" * 40)


@pytest.mark.parametrize("text", ["HEAD", "main", "-x", "", "abc", "g" * 40, "0" * 41, "a" * 40 + "\n"])
def test_only_full_ids_are_taken(repo: Repository, text: str) -> None:
    one = repo.put("one")
    for call in (
        lambda: advance(repo.folder, text, one),
        lambda: exists(repo.folder, text),
        lambda: tree(repo.folder, text),
    ):
        with pytest.raises(SourceFault, match="no full commit id"):
            call()


def test_the_commits_between_are_listed_ancestors_first_with_merged_ones(repo: Repository) -> None:
    base = repo.put("base")
    repo.git("checkout", "-q", "-b", "side")
    side = repo.put("side")
    repo.git("checkout", "-q", "main")
    main = repo.put("main")
    repo.git("merge", "-q", "--no-ff", "-m", "Merge", "side")
    found = between(repo.folder, base, repo.head)
    assert set(found) == {side, main, repo.head}
    assert found[-1] == repo.head
    assert between(repo.folder, main, repo.head) == (side, repo.head)
    assert between(repo.folder, repo.head, repo.head) == ()
    assert between(repo.folder, repo.head, base) == ()


def test_too_many_commits_between_are_a_fault(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    base = repo.put("base")
    for name in ("a", "b", "c"):
        repo.put(name)
    monkeypatch.setattr(lineage, "MOST_COMMITS", 2)
    with pytest.raises(SourceFault, match="more than 2 commits"):
        between(repo.folder, base, repo.head)


def test_a_missing_commit_between_is_a_fault(repo: Repository) -> None:
    with pytest.raises(SourceFault, match="cannot be listed"):
        between(repo.folder, "1" * 40, repo.put("one"))


def test_trees_are_equal_when_their_files_are(repo: Repository) -> None:
    repo.write("prod/a.yaml", "a\n")
    repo.write("notes.md", "x\n")
    one = repo.commit()
    repo.write("notes.md", "y\n")
    two = repo.commit()
    assert tree(repo.folder, one) != tree(repo.folder, two)
    assert tree(repo.folder, one, "prod") == tree(repo.folder, two, "./prod/")
    assert tree(repo.folder, one, "prod") == repo.git("rev-parse", "HEAD:prod")


@pytest.mark.parametrize("folder", ["nowhere", "notes.md", "pro", ":x", "*"])
def test_a_folder_that_the_commit_lacks_has_no_tree(repo: Repository, folder: str) -> None:
    repo.write("prod/a.yaml", "a\n")
    repo.write("notes.md", "x\n")
    with pytest.raises(SourceFault, match="has no folder"):
        tree(repo.folder, repo.commit(), folder)


@pytest.mark.parametrize("folder", ["..", "/etc", "../x", "a\nb", "a\0b"])
def test_a_path_outside_the_repository_has_no_tree(repo: Repository, folder: str) -> None:
    with pytest.raises(SourceFault, match="no folder within"):
        tree(repo.folder, repo.put("one"), folder)


def test_a_tree_of_an_unknown_commit_is_a_fault(repo: Repository) -> None:
    repo.put("one")
    with pytest.raises(SourceFault, match="there is no commit"):
        tree(repo.folder, "1" * 40)
    blob = repo.git("rev-parse", "HEAD:one.yaml")
    assert not exists(repo.folder, blob)
