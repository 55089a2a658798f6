"""A fleet's source on real repositories: what is accepted, what waits for a person, and that a fault loses nothing."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from reconciler.app import accepting
from reconciler.desired import git_process, signers
from reconciler.desired.fleet import Key
from reconciler.desired.kinds import Kind
from reconciler.desired.mirror import Mirror
from reconciler.desired.signers import Signers
from reconciler.errors import SourceUnreachable, UsageFault
from reconciler.loop import source as loop_source
from reconciler.loop.settings import FleetSpec
from reconciler.loop.source import GitSource, Head
from reconciler.secrets import Box
from reconciler.store import Store, Tx
from reconciler.store.queries import conditions, events, revisions, sources
from reconciler.testing.builders import Repository, manifest
from tests.desired.signing import SshKey


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database."""
    path = tmp_path_factory.mktemp("template") / "state.sqlite"
    Store.create(path, Box([b"k" * 32])).close()
    return path


class Fleet(Repository):
    """A repository that is a remote, a store, and one fleet's source; `restart` makes another source on the same store."""

    def __init__(self, folder: Path, store: Store) -> None:
        super().__init__(folder / "fleet")
        self.store = store
        self.mirror_folder = folder / "mirrors" / "main.git"
        self.spec = FleetSpec("main", poll=1.0)
        self.remotes = [str(self.folder)]
        self.bootstrap: Callable[[], Signers] = Signers
        self._mirrors: list[Mirror] = []
        self.source = self.restart()

    def restart(self, **spec: object) -> GitSource:
        """Another source, as a daemon that is started again has it."""
        self.spec = replace(self.spec, **spec)  # type: ignore[arg-type]
        mirror = Mirror(self.mirror_folder, self.remotes, frozenset({"file", "https"}), seconds=60)
        self._mirrors.append(mirror)
        self.source = GitSource(self.spec, mirror, self.store, self._bootstrap)
        return self.source

    def _bootstrap(self) -> Signers:
        return self.bootstrap()

    def away(self, *, away: bool = True) -> None:
        """Let nobody answer at the remote's address, or the repository again."""
        self.remotes = ["https://127.0.0.1:1/fleet.git" if away else str(self.folder)]
        self.restart()

    def close(self) -> None:
        for mirror in self._mirrors:
            mirror.close()

    @property
    def head(self) -> str:
        return self.git("rev-parse", "HEAD")

    def add(self, name: str, message: str = "") -> str:
        """Commit one more resource."""
        self.put("SSHKey", name)
        return self.commit(message or f"Add {name}")

    async def look(self) -> Head | None:
        return await self.source.look()

    async def followed(self) -> str:
        """The commit that a look follows; empty for none."""
        head = await self.source.look()
        return head.commit if head is not None else ""

    async def state(self) -> sources.Source:
        found = await self.store.aread(lambda tx: sources.get(tx, "main"))
        assert found is not None
        return found

    async def says(self) -> str:
        """The source's condition: status and reason."""
        found = await self.store.aread(lambda tx: conditions.get(tx, "Fleet", "main", "SourceReady"))
        assert found is not None
        return f"{found.status} {found.reason}"

    async def happened(self) -> list[str]:
        """The reasons of the fleet's events, the oldest first."""
        found = await self.store.aread(lambda tx: events.listed(tx, kind="Fleet", name="main", limit=200))
        return [event.reason for event in reversed(found)]

    async def accept(self, commit: str) -> None:
        """As `reconciler source accept`."""
        await self.store.awrite(lambda tx: accepting.accept(tx, "main", commit, "ada"))

    async def names(self, commit: str) -> set[str]:
        """The keys that a revision declares."""
        _, loaded = await self.source.read(commit)
        return {key.name for key in loaded.fleet.entries}


@pytest.fixture
async def fleet(template: Path, tmp_path: Path) -> AsyncIterator[Fleet]:
    """A fleet whose repository has one commit and was never looked at."""
    path = tmp_path / "state.sqlite"
    shutil.copy(template, path)
    store = Store.open(path, Box([b"k" * 32]))
    made = Fleet(tmp_path, store)
    made.add("one", "Begin")
    try:
        yield made
    finally:
        made.close()
        store.close()


@pytest.fixture
def keys(tmp_path: Path) -> Callable[[str], SshKey]:
    """Makes SSH keys."""
    folder = tmp_path / "keys"
    folder.mkdir()
    return lambda name: SshKey(folder, name)


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


# -- signatures


def _user(repo: Fleet, name: str, *signing: SshKey) -> None:
    keys = [key.public for key in signing]
    repo.put("User", name, email=f"{name}@example.test", signingKeys=keys)


def _allowed(path: Path, name: str, key: SshKey) -> Signers:
    path.write_text(f'{name}@example.test namespaces="git" {key.public}\n')
    return signers.read(path)


async def test_the_first_revision_is_signed_by_somebody_of_the_settings(
    fleet: Fleet, keys: Callable[[str], SshKey], tmp_path: Path
) -> None:
    ada = keys("ada")
    fleet.restart(policy="head")
    assert await fleet.look() is None
    assert (await fleet.state()).state == "unsigned"
    assert await fleet.says() == "False SourceUnsigned"
    fleet.bootstrap = lambda: _allowed(tmp_path / "allowed", "ada", ada)
    signed = ada.sign(fleet)  # type: ignore[arg-type]
    assert await fleet.look() == Head(signed, new=True)


async def test_users_of_the_accepted_revision_may_sign_the_next_one(
    fleet: Fleet, keys: Callable[[str], SshKey], tmp_path: Path
) -> None:
    ada, ben = keys("ada"), keys("ben")
    _user(fleet, "ada", ada)
    fleet.bootstrap = lambda: _allowed(tmp_path / "allowed", "ada", ada)
    fleet.restart(policy="head")
    ada.sign(fleet)  # type: ignore[arg-type]
    await fleet.look()
    fleet.bootstrap = Signers
    _user(fleet, "ben", ben)
    own = ben.sign(fleet, "Let me in")  # type: ignore[arg-type]
    assert await fleet.followed() != own
    state = await fleet.state()
    assert state.state == "unsigned"
    assert "unknown key" in state.message
    vouched = ada.sign(fleet, "Let Ben in")  # type: ignore[arg-type]
    assert await fleet.look() == Head(vouched, new=True)
    theirs = ben.sign(fleet, "Ben's turn")  # type: ignore[arg-type]
    assert await fleet.look() == Head(theirs, new=True)


async def test_strict_asks_for_every_commit(
    fleet: Fleet, keys: Callable[[str], SshKey], tmp_path: Path
) -> None:
    ada = keys("ada")
    _user(fleet, "ada", ada)
    fleet.bootstrap = lambda: _allowed(tmp_path / "allowed", "ada", ada)
    fleet.restart(policy="strict")
    first = ada.sign(fleet)  # type: ignore[arg-type]
    assert await fleet.look() == Head(first, new=True)
    careless = fleet.add("two")
    tip = ada.sign(fleet, "On top")  # type: ignore[arg-type]
    assert await fleet.look() == Head(first, new=False)
    assert careless[:12] in (await fleet.state()).message
    fleet.restart(policy="head")
    assert await fleet.look() == Head(tip, new=True)


async def test_no_operator_overrides_the_policy(
    fleet: Fleet, keys: Callable[[str], SshKey], tmp_path: Path
) -> None:
    ada = keys("ada")
    _user(fleet, "ada", ada)
    fleet.bootstrap = lambda: _allowed(tmp_path / "allowed", "ada", ada)
    fleet.restart(policy="head")
    first = ada.sign(fleet)  # type: ignore[arg-type]
    await fleet.look()
    fleet.git("commit", "-q", "--amend", "--no-gpg-sign", "-m", "Not signed any more")
    assert await fleet.look() == Head(first, new=False)
    await fleet.accept(fleet.head)
    assert await fleet.look() == Head(first, new=False)
    assert (await fleet.state()).state == "unsigned"
    with pytest.raises(UsageFault, match="signature policy"):
        await fleet.accept(fleet.head)


async def test_an_accepted_rewrite_is_judged_by_the_keys_of_before_it(
    fleet: Fleet, keys: Callable[[str], SshKey], tmp_path: Path
) -> None:
    ada, ben = keys("ada"), keys("ben")
    base = fleet.head
    _user(fleet, "ada", ada)
    fleet.bootstrap = lambda: _allowed(tmp_path / "allowed", "ada", ada)
    fleet.restart(policy="strict")
    first = ada.sign(fleet)  # type: ignore[arg-type]
    await fleet.look()
    fleet.bootstrap = Signers
    fleet.git("reset", "-q", "--hard", base)
    fleet.add("unsigned")
    _user(fleet, "ben", ben)
    ben.sign(fleet)  # type: ignore[arg-type]
    await fleet.look()
    await fleet.accept(fleet.head)
    assert await fleet.look() == Head(first, new=False)
    assert "unknown key" in (await fleet.state()).message
    fleet.git("reset", "-q", "--hard", base)
    _user(fleet, "ada", ada)
    again = ada.sign(fleet, "Once more")  # type: ignore[arg-type]
    await fleet.look()
    await fleet.accept(again)
    assert await fleet.look() == Head(again, new=True)


async def test_what_was_accepted_is_not_judged_again_when_the_remote_comes_back(
    fleet: Fleet, keys: Callable[[str], SshKey], tmp_path: Path
) -> None:
    ada = keys("ada")
    fleet.bootstrap = lambda: _allowed(tmp_path / "allowed", "ada", ada)
    fleet.restart(policy="strict")
    signed = ada.sign(fleet)  # type: ignore[arg-type]
    await fleet.look()
    fleet.bootstrap = Signers
    fleet.away()
    await fleet.look()
    fleet.away(away=False)
    assert await fleet.look() == Head(signed, new=False)
    assert (await fleet.state()).state == "ok"


async def test_signers_that_cannot_be_read_are_said_and_nothing_is_accepted(
    fleet: Fleet, tmp_path: Path
) -> None:
    first = fleet.head
    await fleet.look()
    fleet.bootstrap = lambda: signers.read(tmp_path / "missing")
    fleet.restart(policy="head")
    fleet.add("two")
    assert await fleet.look() == Head(first, new=False)
    state = await fleet.state()
    assert state.state == "refused"
    assert "missing" in state.message


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
