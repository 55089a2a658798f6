"""A fleet's source on real repositories: what is accepted, what waits for a person, and that a fault loses nothing."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from reconciler.desired import git_process
from reconciler.desired.fleet import Key
from reconciler.desired.kinds import Kind
from reconciler.errors import SourceUnreachable
from reconciler.loop import source as loop_source
from reconciler.loop.source import Head
from reconciler.store import Tx
from reconciler.store.queries import revisions
from reconciler.testing.builders import Repository, manifest
from tests.loop.repository import Fleet

# -- forward


async def test_the_first_look_accepts_the_tip_and_records_who_wrote_it(fleet: Fleet) -> None:
    first = fleet.head
    assert await fleet.look() == Head(first, new=True)
    known = await fleet.store.aread(lambda tx: revisions.get(tx, first))
    assert known is not None
    assert (known.author_email, known.message, known.status) == ("ada@example.test", "Begin", "accepted")
    assert known.tree == fleet.git("rev-parse", "HEAD^{tree}")
    state = await fleet.state()
    assert (state.state, state.head_commit, state.seen_commit) == ("ok", first, first)
    assert await fleet.says() == "True Accepted"
    assert await fleet.names(first) == {"one"}


async def test_a_look_without_news_accepts_nothing_again(fleet: Fleet) -> None:
    first = fleet.head
    await fleet.look()
    assert await fleet.look() == Head(first, new=False)
    assert (await fleet.happened()).count("RevisionAccepted") == 1


async def test_several_commits_at_once_are_one_revision(fleet: Fleet) -> None:
    await fleet.look()
    between = fleet.add("two")
    tip = fleet.add("three")
    assert await fleet.look() == Head(tip, new=True)
    assert await fleet.names(tip) == {"one", "two", "three"}
    assert await fleet.store.aread(lambda tx: revisions.get(tx, between)) is None
    assert (await fleet.happened()).count("RevisionAccepted") == 2


async def test_a_merge_is_a_way_forward(fleet: Fleet) -> None:
    await fleet.look()
    fleet.git("checkout", "-q", "-b", "feature")
    fleet.add("feature")
    fleet.git("checkout", "-q", "main")
    fleet.add("meanwhile")
    fleet.git("merge", "-q", "--no-ff", "-m", "Merge feature", "feature")
    assert await fleet.look() == Head(fleet.head, new=True)


# -- rewritten


async def test_a_rewritten_branch_is_followed_only_when_an_operator_accepts_it(fleet: Fleet) -> None:
    first = fleet.head
    await fleet.look()
    old = fleet.add("two")
    await fleet.look()
    fleet.git("reset", "-q", "--hard", first)
    new = fleet.add("other")
    for _ in range(2):
        assert await fleet.look() == Head(old, new=False)
    state = await fleet.state()
    assert (state.state, state.head_commit, state.seen_commit) == ("rewritten", old, new)
    assert f"source accept {new[:12]}" in state.message
    assert await fleet.says() == "False SourceRewritten"
    assert await fleet.names(old) == {"one", "two"}

    await fleet.accept(new[:9])
    assert await fleet.look() == Head(new, new=True)
    state = await fleet.state()
    assert (state.state, state.head_commit, state.accept_commit) == ("ok", new, None)
    assert await fleet.names(new) == {"one", "other"}
    assert (await fleet.happened()).count("SourceRewritten") == 1


async def test_a_branch_taken_back_waits_as_well(fleet: Fleet) -> None:
    first = fleet.head
    await fleet.look()
    second = fleet.add("two")
    await fleet.look()
    fleet.git("reset", "-q", "--hard", first)
    assert await fleet.followed() == second
    assert "was rewound" in (await fleet.state()).message
    await fleet.accept(first)
    assert await fleet.look() == Head(first, new=True)
    assert await fleet.names(first) == {"one"}


async def test_what_was_accepted_of_a_rewrite_is_that_commit_and_no_later_one(fleet: Fleet) -> None:
    first = fleet.head
    await fleet.look()
    old = fleet.add("two")
    await fleet.look()
    fleet.git("reset", "-q", "--hard", first)
    seen = fleet.add("other")
    await fleet.look()
    await fleet.accept(seen)
    fleet.git("reset", "-q", "--hard", first)
    fleet.add("another")
    assert await fleet.followed() == old
    assert (await fleet.state()).state == "rewritten"


async def test_a_branch_put_back_where_it_was_is_in_order_again(fleet: Fleet) -> None:
    first = fleet.head
    await fleet.look()
    second = fleet.add("two")
    await fleet.look()
    fleet.git("reset", "-q", "--hard", first)
    await fleet.look()
    fleet.git("reset", "-q", "--hard", second)
    assert await fleet.look() == Head(second, new=False)
    assert (await fleet.state()).state == "ok"
    assert await fleet.says() == "True Accepted"
    assert (await fleet.happened()).count("RevisionAccepted") == 2


async def test_the_accepted_commit_outlives_many_rewrites(fleet: Fleet) -> None:
    first = fleet.head
    await fleet.look()
    old = fleet.add("two")
    await fleet.look()
    for number in range(25):
        fleet.git("reset", "-q", "--hard", first)
        fleet.add(f"other{number}")
        assert await fleet.followed() == old
    gc = ["git", "--git-dir", str(fleet.mirror_folder), "gc", "-q", "--prune=now"]
    subprocess.run(gc, check=True, capture_output=True)
    fleet.restart()
    assert await fleet.names(old) == {"one", "two"}


# -- faults


async def test_an_unreachable_remote_loses_nothing_and_comes_back(fleet: Fleet) -> None:
    first = fleet.head
    await fleet.look()
    fleet.away()
    for _ in range(2):
        assert await fleet.look() == Head(first, new=False)
    state = await fleet.state()
    assert (state.state, state.head_commit, state.seen_commit) == ("unreachable", first, first)
    assert await fleet.says() == "False SourceUnreachable"
    assert await fleet.names(first) == {"one"}
    fleet.away(away=False)
    assert await fleet.look() == Head(first, new=False)
    assert await fleet.says() == "True Accepted"
    second = fleet.add("two")
    assert await fleet.look() == Head(second, new=True)
    assert (await fleet.happened()).count("SourceUnreachable") == 1


async def test_a_repository_that_is_not_there_is_a_mistake_to_correct_and_loses_nothing(fleet: Fleet) -> None:
    first = fleet.head
    await fleet.look()
    fleet.folder.rename(fleet.folder.with_name("away"))
    assert await fleet.look() == Head(first, new=False)
    assert await fleet.says() == "False SourceRefused"
    assert await fleet.names(first) == {"one"}
    fleet.folder.with_name("away").rename(fleet.folder)
    assert await fleet.look() == Head(first, new=False)
    assert await fleet.says() == "True Accepted"


@pytest.mark.parametrize("fault", ["empty", "no branch"])
async def test_a_repository_that_has_nothing_to_show_deletes_nothing(fleet: Fleet, fault: str) -> None:
    first = fleet.head
    await fleet.look()
    if fault == "empty":
        shutil.rmtree(fleet.folder)
        Repository(fleet.folder)
    else:
        fleet.git("checkout", "-q", "-b", "trunk")
        fleet.git("branch", "-q", "-D", "main")
    assert await fleet.look() == Head(first, new=False)
    state = await fleet.state()
    assert (state.state, state.head_commit) == ("empty", first)
    assert await fleet.says() == "False SourceEmpty"
    assert await fleet.names(first) == {"one"}


async def test_before_anything_was_pushed_there_is_nothing_to_follow(fleet: Fleet) -> None:
    shutil.rmtree(fleet.folder)
    empty = Repository(fleet.folder)
    assert await fleet.look() is None
    assert (await fleet.state()).state == "empty"
    empty.put("SSHKey", "one")
    first = empty.commit()
    assert await fleet.look() == Head(first, new=True)


async def test_a_mirror_that_goes_behind_the_daemons_back_is_made_again(fleet: Fleet) -> None:
    first = fleet.head
    await fleet.look()
    shutil.rmtree(fleet.mirror_folder)
    assert await fleet.look() == Head(first, new=False)
    assert await fleet.names(first) == {"one"}
    fleet.add("two")
    shutil.rmtree(fleet.mirror_folder)
    assert await fleet.look() == Head(fleet.head, new=True)


async def test_a_mirror_with_holes_is_made_again_when_a_revision_cannot_be_read(fleet: Fleet) -> None:
    first = fleet.head
    await fleet.look()
    fleet.restart()
    for pack in (fleet.mirror_folder / "objects" / "pack").iterdir():
        pack.unlink()
    commit = subprocess.run(
        ["git", "cat-file", "commit", first], cwd=fleet.folder, capture_output=True, check=True
    ).stdout
    tree = subprocess.run(
        ["git", "cat-file", "tree", f"{first}^{{tree}}"], cwd=fleet.folder, capture_output=True, check=True
    ).stdout
    for kind, body in (("commit", commit), ("tree", tree)):
        words = ["git", "hash-object", "-t", kind, "-w", "--stdin", "--literally"]
        subprocess.run(
            words, input=body, env={"GIT_DIR": str(fleet.mirror_folder)}, check=True, capture_output=True
        )
    assert await fleet.look() == Head(first, new=False)
    assert await fleet.names(first) == {"one"}


async def test_a_restart_without_the_mirror_goes_on_with_what_was_accepted(fleet: Fleet) -> None:
    first = fleet.head
    await fleet.look()
    shutil.rmtree(fleet.mirror_folder.parent)
    fleet.restart()
    second = fleet.add("two")
    assert await fleet.look() == Head(second, new=True)
    assert (await fleet.state()).state == "ok"
    assert await fleet.names(first) == {"one"}


async def test_a_rewritten_branch_is_known_as_such_though_the_mirror_was_lost(fleet: Fleet) -> None:
    first = fleet.head
    await fleet.look()
    fleet.git("commit", "-q", "--amend", "-m", "Begin again")
    shutil.rmtree(fleet.mirror_folder.parent)
    fleet.restart()
    assert await fleet.look() == Head(first, new=False)
    assert (await fleet.state()).state == "rewritten"
    await fleet.accept(fleet.head)
    assert await fleet.look() == Head(fleet.head, new=True)


async def test_a_restart_without_mirror_and_remote_says_that_the_remote_is_away(fleet: Fleet) -> None:
    first = fleet.head
    await fleet.look()
    shutil.rmtree(fleet.mirror_folder.parent)
    fleet.away()
    assert await fleet.look() == Head(first, new=False)
    with pytest.raises(SourceUnreachable, match="no remote"):
        await fleet.source.read(first)
    assert await fleet.says() == "False SourceUnreachable"
    fleet.away(away=False)
    assert await fleet.look() == Head(first, new=False)
    assert await fleet.names(first) == {"one"}


async def test_the_second_remote_serves_while_the_first_is_gone(fleet: Fleet, tmp_path: Path) -> None:
    spare = tmp_path / "spare.git"
    subprocess.run(
        ["git", "clone", "-q", "--bare", str(fleet.folder), str(spare)], check=True, capture_output=True
    )
    fleet.remotes = [str(fleet.folder), str(spare)]
    fleet.restart()
    await fleet.look()
    assert (await fleet.state()).remote == str(fleet.folder)
    second = fleet.add("two")
    fleet.git("push", "-q", str(spare), "main")
    fleet.folder.rename(fleet.folder.with_name("away"))
    assert await fleet.look() == Head(second, new=True)
    state = await fleet.state()
    assert (state.state, state.remote) == ("ok", str(spare))
    assert str(fleet.folder) in state.message


async def test_a_second_remote_that_lags_behind_is_no_branch_taken_back(fleet: Fleet, tmp_path: Path) -> None:
    spare = tmp_path / "spare.git"
    subprocess.run(
        ["git", "clone", "-q", "--bare", str(fleet.folder), str(spare)], check=True, capture_output=True
    )
    fleet.remotes = [str(fleet.folder), str(spare)]
    fleet.restart()
    second = fleet.add("two")
    await fleet.look()
    fleet.folder.rename(fleet.folder.with_name("away"))
    assert await fleet.look() == Head(second, new=False)
    state = await fleet.state()
    assert state.state == "unreachable"
    assert "is behind" in state.message
    fleet.folder.with_name("away").rename(fleet.folder)
    assert await fleet.look() == Head(second, new=False)
    assert (await fleet.state()).state == "ok"


# -- the folder of the manifests


async def test_a_commit_outside_the_folder_is_accepted_and_declares_the_same(fleet: Fleet) -> None:
    fleet.write({"infra/key.yaml": manifest("SSHKey", "inside", {})})
    first = fleet.commit()
    fleet.restart(path="infra")
    assert await fleet.followed() == first
    before, was = await fleet.source.read(first)
    fleet.write({"README.md": "Words.", "elsewhere/key.yaml": manifest("SSHKey", "outside", {})})
    second = fleet.commit("Change what is elsewhere")
    assert await fleet.look() == Head(second, new=True)
    after, now = await fleet.source.read(second)
    assert (after.files, now.fleet.entries) == (before.files, was.fleet.entries)
    assert await fleet.source.tree(first) == await fleet.source.tree(second)
    assert set(now.fleet.entries) == {Key(Kind.SSH_KEY, "inside")}


async def test_a_commit_that_drops_the_folder_is_refused(fleet: Fleet) -> None:
    fleet.write({"infra/key.yaml": manifest("SSHKey", "inside", {})})
    first = fleet.commit()
    fleet.restart(path="infra")
    await fleet.look()
    fleet.write({"infra/key.yaml": None})
    fleet.commit()
    assert await fleet.look() == Head(first, new=False)
    state = await fleet.state()
    assert state.state == "refused"
    assert "no folder infra" in state.message


async def test_looks_that_follow_each_other_closely_write_once_and_a_fault_is_always_taken_back(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fleet.look()
    written: list[object] = []
    real = fleet.store.awrite

    async def write(unit: Callable[[Tx], object]) -> object:
        written.append(unit)
        return await real(unit)

    monkeypatch.setattr(fleet.store, "awrite", write)
    for _ in range(3):
        await fleet.look()
    assert not written
    monkeypatch.setattr(loop_source, "_LATELY", timedelta())
    await fleet.look()
    assert len(written) == 1
    monkeypatch.undo()
    fleet.away()
    await fleet.look()
    fleet.away(away=False)
    await fleet.look()
    assert await fleet.says() == "True Accepted"


async def test_a_revision_is_read_once_and_of_the_next_one_only_what_is_new(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fleet.look()
    await fleet.names(fleet.head)
    asked: list[bytes] = []
    real = git_process.run

    def run(command: Sequence[str], env: Mapping[str, str], *, given: bytes = b"", **more: object) -> object:
        if "--batch" in command:
            asked.append(given)
        return real(command, env, given=given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(git_process, "run", run)
    second = fleet.add("two")
    await fleet.look()
    assert await fleet.names(second) == {"one", "two"}
    blob = fleet.git("rev-parse", "HEAD:sshkeys/two.yaml")
    assert [given.decode().split() for given in asked] == [[second, blob]]
