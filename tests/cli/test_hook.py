"""The receive hooks in a real bare repository: what a pusher sees, what is refused, what installing keeps."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.desired.signing import SshKey
from tests.e2e.harness import PROGRAM, Fleet, Said, Stage

NEVER = ("Traceback", "internal fault", "a-value-to-hide")


class Server:
    """A bare repository that the stage's fleet is pushed to."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        self.stage, self.bare = stage, folder / "infra.git"
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(self.bare)], check=True)
        self.fleet.git("remote", "add", "origin", str(self.bare))

    @property
    def fleet(self) -> Fleet:
        return self.stage.fleet

    def install(self, *words: str, code: int = 0) -> Said:
        return self.stage.run("hook", "install", str(self.bare), *words, code=code)

    def push(self, *words: str, ok: bool = True, **environment: str) -> str:
        """Pushes; what git printed, each line of the hook without its `remote: `."""
        done = subprocess.run(
            ["git", "push", "origin", *(words or ("main",))],
            cwd=self.fleet.folder,
            env={**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.returncode == 0) is ok, done.stderr
        for word in NEVER:
            assert word not in done.stderr
        return "\n".join(line.removeprefix("remote: ").rstrip() for line in done.stderr.splitlines())

    def tip(self, ref: str = "refs/heads/main") -> str:
        words = ["git", "--git-dir", str(self.bare), "rev-parse", "--verify", "-q", ref]
        return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


@pytest.fixture
def server(stage: Stage, tmp_path: Path) -> Server:
    """A repository on the server, with nothing in it and no hooks."""
    return Server(stage, tmp_path)


def test_a_good_push_shows_its_plan_against_what_is_applied_and_passes(server: Server) -> None:
    said = server.install().out
    assert "pre-receive: installed" in said
    assert "Pushes to main are checked; signature policy: none." in said
    told = server.push()
    assert "reconciler: main new.." in told
    assert "resources, all valid." in told
    assert "reconciler: compared with what is applied: Plan: " in told
    assert "# Site/shop will be created" in told
    assert "the daemon is not running" in told
    assert server.tip() == server.fleet.git("rev-parse", "HEAD")
    server.fleet.change("Site", "shop", domain="new.example.test")
    server.fleet.commit()
    assert "new.example.test" in server.push()


def test_a_bad_push_is_refused_with_every_problem_and_its_place(server: Server) -> None:
    server.install()
    server.push()
    before = server.tip()
    server.fleet.change("Site", "shop", phpVersion=8.2, colour="red")
    server.fleet.change("Database", "shop", engine="oracle")
    server.fleet.commit()
    told = server.push(ok=False)
    for place in ("site-shop.yaml:", "database-shop.yaml:"):
        assert place in told
    assert "colour" in told
    assert "oracle" in told
    assert "the push to main is refused: 3 errors in the manifests." in told
    assert "Plan:" not in told
    assert server.tip() == before


def test_a_rewritten_a_rewound_and_a_deleted_branch_are_refused(server: Server) -> None:
    server.install()
    server.push()
    server.fleet.change("Site", "shop", domain="two.example.test")
    tip = server.fleet.commit()
    server.push()
    server.fleet.git("commit", "-q", "--amend", "-m", "Another past")
    assert f"does not follow from {tip[:12]}" in server.push("+main", ok=False)
    server.fleet.git("reset", "-q", "--hard", f"{tip}~1")
    assert "takes commits back" in server.push("+main", ok=False)
    assert "cannot be deleted" in server.push(":main", ok=False)
    assert server.tip() == tip


def test_other_branches_and_tags_pass_in_silence(server: Server) -> None:
    server.install()
    server.fleet.put("Site", "broken", server="nowhere")
    server.fleet.commit()
    assert "reconciler" not in server.push("HEAD:refs/heads/feature", "HEAD:refs/tags/v1").replace(
        str(server.bare), ""
    )
    assert server.tip("refs/heads/feature")


def test_one_bad_branch_refuses_the_push_and_the_others_are_told(server: Server) -> None:
    server.install()
    server.fleet.put("Site", "broken", server="nowhere")
    server.fleet.commit()
    server.push("main", "HEAD:refs/heads/feature", ok=False)
    assert server.tip() == ""
    assert server.tip("refs/heads/feature") == ""


def test_without_a_state_the_commit_before_is_compared_with(server: Server, tmp_path: Path) -> None:
    server.install("--state", str(tmp_path / "none"))
    told = server.push()
    assert "not compared with what is applied: there is no state directory" in told
    assert "Plan:" not in told
    server.fleet.change("Site", "shop", domain="new.example.test")
    server.fleet.commit()
    told = server.push()
    assert "compared with the commit before: Plan: 0 to add, 1 to change, 0 to destroy." in told
    assert "new.example.test" in told


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")
def test_a_state_of_another_user_is_no_obstacle(server: Server) -> None:
    server.install()
    os.chown(server.stage.state, 12345, 12345)
    told = server.push()
    assert "belongs to user 12345" in told
    assert server.tip()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")
def test_a_repository_that_git_trusts_is_read_whoever_owns_it(server: Server, tmp_path: Path) -> None:
    server.install()
    for path in (server.bare, *server.bare.rglob("*")):
        os.chown(path, 12345, 12345)
    trust = tmp_path / "gitconfig"
    trust.write_text("[safe]\n\tdirectory = *\n")
    told = server.push(GIT_CONFIG_GLOBAL=str(trust))
    assert "dubious" not in told
    assert "all valid" in told


def test_what_will_wait_for_approval_is_a_note_and_no_refusal(server: Server, tmp_path: Path) -> None:
    for number in range(5):
        server.stage.site(f"site{number}", "web1")
    server.fleet.commit()
    server.install("--state", str(tmp_path / "none"))
    server.push()
    for number in range(5):
        server.fleet.drop("Site", f"site{number}")
    server.fleet.commit()
    told = server.push()
    assert "note: this will wait for approval [mass-deletion]" in told
    assert server.tip() == server.fleet.git("rev-parse", "HEAD")


def test_a_commit_without_any_manifest_is_refused(server: Server) -> None:
    server.install()
    server.push()
    for path in server.fleet.folder.glob("*.yaml"):
        path.unlink()
    server.fleet.commit()
    assert "holds no manifest any more" in server.push(ok=False)


def test_the_first_push_may_be_empty(server: Server) -> None:
    server.install()
    server.fleet.git("checkout", "-q", "--orphan", "start")
    server.fleet.git("rm", "-q", "-rf", ".")
    (server.fleet.folder / "README.md").write_text("soon\n")
    server.fleet.commit()
    assert "no resource yet" in server.push("start:main")


def _settings(server: Server, tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "reconciler.yaml"
    body = "\n".join(f"    {line}" for line in lines)
    path.write_text(f"fleets:\n  - remotes: [{server.bare}]\n{body}\n")
    path.chmod(0o600)
    return path


def test_branch_and_folder_come_from_the_daemons_settings(server: Server, tmp_path: Path) -> None:
    server.fleet.git("mv", "-k", *(p.name for p in server.fleet.folder.glob("*.yaml")), ".")
    (server.fleet.folder / "prod").mkdir()
    for path in server.fleet.folder.glob("*.yaml"):
        path.rename(server.fleet.folder / "prod" / path.name)
    (server.fleet.folder / "elsewhere.yaml").write_text("kind: [\n")
    server.fleet.commit()
    said = server.install("--config", str(_settings(server, tmp_path, "branch: live", "path: prod"))).out
    assert "Pushes to live, folder prod are checked" in said
    assert "reconciler:" not in server.push("HEAD:refs/heads/main")
    assert "all valid" in server.push("HEAD:refs/heads/live")
    (server.fleet.folder / "prod" / "bad.yaml").write_text("kind: [\n")
    server.fleet.commit()
    assert "bad.yaml:" in server.push("HEAD:refs/heads/live", ok=False)


def test_a_repository_of_no_fleet_of_the_settings_needs_a_word(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "reconciler.yaml"
    path.write_text(
        "fleets:\n  - {name: a, remotes: [/srv/a.git]}\n  - {name: b, remotes: [/srv/b.git], branch: b}\n"
    )
    path.chmod(0o600)
    said = server.install("--config", str(path), code=1)
    assert "--fleet: a, b" in said.err
    assert "Pushes to b are checked" in server.install("--config", str(path), "--fleet", "b").out


def test_the_signature_policy_goes_by_the_keys_known_before_the_push(server: Server, tmp_path: Path) -> None:
    boot, own = SshKey(tmp_path, "boot"), SshKey(tmp_path, "own")
    (tmp_path / "signers").write_text(f"ada@example.test {boot.public}\n")
    signed = f"signatures: {{policy: strict, signers: {tmp_path / 'signers'}}}"
    server.install("--config", str(_settings(server, tmp_path, signed)))
    assert "not signed as the fleet's policy (strict) asks for" in server.push(ok=False)

    def commit(key: SshKey, message: str = "Signed") -> None:
        words = ("-c", "gpg.format=ssh", "-c", f"user.signingkey={key.path}")
        server.fleet.git("add", "-A")
        server.fleet.git(*words, "commit", "-q", "-S", "--allow-empty", "-m", message)

    commit(boot)
    server.push()
    server.fleet.change("User", "ada", signingKeys=[own.public])
    commit(own, "Let me in")
    told = server.push(ok=False)
    assert "signed with an unknown key" in told
    server.fleet.git("reset", "-q", "--soft", "HEAD~1")
    commit(boot, "Let her in")
    server.push()
    commit(own)
    server.push()
    server.fleet.commit("Unsigned, in between")
    commit(own, "Signed, after it")
    told = server.push(ok=False)
    assert "not signed" in told
    assert told.count("commit ") >= 1


def test_signers_that_the_pusher_cannot_read_are_left_to_the_daemon(server: Server, tmp_path: Path) -> None:
    (tmp_path / "signers").write_text(f"ada@example.test {SshKey(tmp_path, 'k').public}\n")
    signed = f"signatures: {{policy: head, signers: {tmp_path / 'signers'}}}"
    server.install("--config", str(_settings(server, tmp_path, signed)))
    (tmp_path / "signers").unlink()
    assert "signatures are not checked here, but by the daemon" in server.push()


def test_installing_again_changes_nothing_and_takes_new_settings_over(server: Server) -> None:
    server.install()
    first = {p.name: p.read_bytes() for p in (server.bare / "hooks").iterdir()}
    said = server.install().out
    assert "pre-receive: unchanged" in said
    assert {p.name: p.read_bytes() for p in (server.bare / "hooks").iterdir()} == first
    assert "Pushes to live are checked" in server.install("--branch", "live").out
    assert "reconciler:" not in server.push()


def test_a_hook_of_before_runs_first_and_comes_back(server: Server, tmp_path: Path) -> None:
    seen, wish = tmp_path / "seen", tmp_path / "wish"
    old = server.bare / "hooks" / "pre-receive"
    old.parent.mkdir(exist_ok=True)
    text = f"#!/bin/sh\ncat >> {seen}\n[ ! -e {wish} ] || {{ echo not today; exit 3; }}\n"
    old.write_text(text)
    old.chmod(0o755)
    assert "the hook that was here runs first" in server.install().out
    wish.touch()
    told = server.push(ok=False)
    assert "not today" in told
    assert "reconciler:" not in told
    wish.unlink()
    assert "all valid" in server.push()
    lines = seen.read_text().splitlines()
    assert lines == [f"{'0' * 40} {server.tip()} refs/heads/main"] * 2
    assert "back" in server.stage.run("hook", "uninstall", str(server.bare)).out
    assert old.read_text() == text
    assert not (server.bare / "hooks" / "post-receive").exists()
    assert not (server.bare / "hooks" / "reconciler.json").exists()
    assert "was not installed" in server.stage.run("hook", "uninstall", str(server.bare)).out
    assert old.read_text() == text


def test_a_second_foreign_hook_is_not_overwritten(server: Server) -> None:
    old = server.bare / "hooks" / "pre-receive"
    old.parent.mkdir(exist_ok=True)
    for text in ("#!/bin/sh\nexit 0\n", "#!/bin/sh\nexit 1\n"):
        old.write_text(text)
        old.chmod(0o755)
        said = server.install(code=0 if "exit 0" in text else 1)
    assert "is another hook" in said.err
    assert "merge the two" in said.err
    assert old.read_text() == "#!/bin/sh\nexit 1\n"


@pytest.mark.parametrize("case", ["worktree", "missing", "shared", "linked"])
def test_where_hooks_do_not_belong_none_are_put(server: Server, tmp_path: Path, case: str) -> None:
    target, word = server.bare, ""
    match case:
        case "worktree":
            target, word = server.fleet.folder, "is no bare repository"
        case "missing":
            target, word = tmp_path / "nowhere", "there is no folder"
        case "shared":
            subprocess.run(
                ["git", "-C", str(server.bare), "config", "core.hooksPath", "/srv/hooks"], check=True
            )
            word = "core.hooksPath sends the hooks"
        case _:
            subprocess.run(["rm", "-r", str(server.bare / "hooks")], check=True)
            (tmp_path / "common").mkdir()
            (server.bare / "hooks").symlink_to(tmp_path / "common")
            word = "is a link"
    said = server.stage.run("hook", "install", str(target), code=1)
    assert word in said.err
    assert "Hint: " in said.err
    assert not (server.fleet.folder / ".git" / "hooks" / "pre-receive").exists()


def test_when_the_program_is_gone_the_pusher_is_told_and_nothing_slips_through(server: Server) -> None:
    server.install()
    for name in ("pre-receive", "post-receive"):
        path = server.bare / "hooks" / name
        path.write_text(path.read_text().replace(str(PROGRAM), "/nowhere/reconciler"))
    assert "is gone" in server.push(ok=False)


def test_damaged_hook_settings_are_told(server: Server) -> None:
    server.install()
    (server.bare / "hooks" / "reconciler.json").write_text("{")
    assert "run `reconciler hook install` for this repository again" in server.push(ok=False)


def test_a_long_plan_is_cut(server: Server) -> None:
    for number in range(60):
        server.stage.site(f"site{number}", "web1")
    server.fleet.commit()
    server.install()
    told = server.push()
    assert "more lines: reconciler plan --from A --to B" in told
    assert len(told.splitlines()) < 240


def test_the_answer_does_not_depend_on_somebody_reading_it(server: Server) -> None:
    server.install()
    new = server.fleet.git("rev-parse", "HEAD")
    server.fleet.git("push", "-q", "--no-verify", "origin", "HEAD:refs/heads/side")
    settings = str(server.bare / "hooks" / "reconciler.json")
    bad = server.fleet
    bad.put("Site", "broken", server="nowhere")
    broken = bad.commit()
    bad.git("push", "-q", "origin", "HEAD:refs/heads/broken")
    for commit, code in ((new, 0), (broken, 1)):
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run(
            [PROGRAM, "hook", "run", "pre-receive", "--settings", settings],
            cwd=server.bare,
            env={**os.environ, "GIT_DIR": "."},
            input=f"{'0' * 40} {commit} refs/heads/main\n".encode(),
            stdout=write,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
        os.close(write)
        assert done.returncode == code
        assert done.stderr == b""
