"""Signatures by SSH keys: whose they are, and what is told apart."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reconciler.desired import lineage, signers
from reconciler.desired.git_process import Ended
from reconciler.desired.signatures import Signers, refused, split, verify
from reconciler.errors import SettingsFault, SourceFault
from tests.desired.repositories import Repository
from tests.desired.signing import SshKey, user


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "fleet")
    made.put("base")
    return made


@pytest.fixture
def key(tmp_path: Path) -> SshKey:
    """Ada's key; Ada is the author of every commit."""
    return SshKey(tmp_path, "ada")


@pytest.fixture
def known(key: SshKey) -> Signers:
    return signers.of_users([user("ada", key.public)])


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_a_commit_signed_by_a_user_is_good_and_says_who(repo: Repository, tmp_path: Path, kind: str) -> None:
    key = SshKey(tmp_path, kind, kind)
    commit = key.sign(repo)
    (verdict,) = verify(repo.folder, [commit], "head", signers.of_users([user("ada", key.public)]))
    assert (verdict.state, verdict.ok, verdict.foreign) == ("good", True, False)
    assert (verdict.commit, verdict.signer, verdict.author) == (
        commit,
        "ada@example.test",
        "ada@example.test",
    )
    assert verdict.key.startswith("SHA256:")
    assert verdict.message == f"commit {commit[:12]}: signed by ada@example.test"


def test_a_commit_in_a_repository_with_long_ids_is_verified(
    tmp_path: Path, key: SshKey, known: Signers
) -> None:
    repo = Repository(tmp_path / "long", "--object-format=sha256")
    commit = key.sign(repo)
    assert b"gpgsig-sha256 " in repo.raw(commit)
    assert verify(repo.folder, [commit], "head", known)[0].ok


def test_an_unsigned_commit_is_told_as_that(repo: Repository, known: Signers) -> None:
    (verdict,) = verify(repo.folder, [repo.head], "head", known)
    assert (verdict.state, verdict.signer) == ("unsigned", "")
    assert "not signed" in str(verdict)


def test_a_key_that_nobody_has_is_unknown(repo: Repository, tmp_path: Path, known: Signers) -> None:
    stranger = SshKey(tmp_path, "stranger")
    commit = stranger.sign(repo)
    (verdict,) = verify(repo.folder, [commit], "head", known)
    assert (verdict.state, verdict.signer) == ("unknown", "")
    assert verdict.key in str(verdict)
    assert not verify(repo.folder, [commit], "head", Signers())[0].ok


@pytest.mark.parametrize(
    "change",
    [
        (b"\n\nSigned", b"\n\nSigned and altered"),
        (b"author Ada", b"author Eve"),
        (b"tree ", b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nx "),
        (b"committer Ada <ada@", b"committer Ada <eve@"),
    ],
)
def test_a_commit_altered_after_it_was_signed_is_told_as_that(
    repo: Repository, key: SshKey, known: Signers, change: tuple[bytes, bytes]
) -> None:
    raw = repo.raw(key.sign(repo))
    assert change[0] in raw
    altered = repo.hash(raw.replace(*change, 1))
    (verdict,) = verify(repo.folder, [altered], "head", known)
    assert verdict.state == "altered"


def test_a_signature_taken_from_another_commit_does_not_fit(
    repo: Repository, key: SshKey, known: Signers
) -> None:
    signed = repo.raw(key.sign(repo, "One"))
    start = signed.index(b"gpgsig ")
    header = signed[start : signed.index(b"END SSH SIGNATURE-----\n") + len(b"END SSH SIGNATURE-----\n")]
    plain = repo.raw(repo.commit("Two"))
    moved = repo.hash(plain.replace(b"\n\nTwo", b"\n" + header.rstrip(b"\n") + b"\n\nTwo", 1))
    assert verify(repo.folder, [moved], "head", known)[0].state == "altered"


def test_a_signature_made_for_another_purpose_is_not_taken(
    repo: Repository, key: SshKey, known: Signers, tmp_path: Path
) -> None:
    raw = repo.raw(repo.commit("Plain"))
    (tmp_path / "payload").write_bytes(raw)
    subprocess.run(
        ["ssh-keygen", "-q", "-Y", "sign", "-n", "file", "-f", str(key.path), str(tmp_path / "payload")],
        check=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    armored = (tmp_path / "payload.sig").read_bytes().strip().replace(b"\n", b"\n ")
    commit = repo.hash(raw.replace(b"\n\n", b"\ngpgsig " + armored + b"\n\n", 1))
    (verdict,) = verify(repo.folder, [commit], "head", known)
    assert verdict.state == "malformed"
    assert "'file'" in verdict.detail


def test_two_signatures_or_none_that_can_be_read_are_malformed(
    repo: Repository, key: SshKey, known: Signers
) -> None:
    raw = repo.raw(key.sign(repo))
    start, end = raw.index(b"gpgsig "), raw.index(b"\n\n")
    twice = repo.hash(raw[:end] + b"\n" + raw[start:end] + raw[end:])
    torn = repo.hash(raw.replace(b"U1NIU0lH", b"QUFBQUFB", 1))
    other = repo.hash(raw.replace(b"BEGIN SSH SIGNATURE", b"BEGIN SIGNED MESSAGE", 1))
    found = verify(repo.folder, [twice, torn, other], "strict", known)
    assert [verdict.state for verdict in found] == ["malformed"] * 3
    assert "more than one" in found[0].detail


def test_the_payload_is_what_git_itself_signs() -> None:
    raw = b"tree 1\nauthor a\ngpgsig -----BEGIN\n x\n \n y\nencoding u\ngpgsig-sha256 z\n w\n\nbody\ngpgsig not a header\n"
    payload, found = split(raw)
    assert payload == b"tree 1\nauthor a\nencoding u\n\nbody\ngpgsig not a header\n"
    assert found == [b"-----BEGIN\nx\n\ny\n"]
    assert split(raw, 64)[1] == [b"z\nw\n"]
    merged = b"tree 1\nmergetag object 2\n gpgsig inside\n more\ncommitter c\n\nbody"
    assert split(merged) == (merged, [])


def test_another_persons_signature_is_good_and_both_are_told(
    repo: Repository, key: SshKey, known: Signers
) -> None:
    commit = key.sign(repo, "Signed", "--author", "Bob <bob@example.test>")
    (verdict,) = verify(repo.folder, [commit], "head", known)
    assert (verdict.ok, verdict.foreign) == (True, True)
    assert (verdict.signer, verdict.author) == ("ada@example.test", "bob@example.test")
    assert verdict.committer == "ada@example.test"
    assert "signed by ada@example.test" in str(verdict)
    assert "bob@example.test as its author" in str(verdict)


def test_an_address_inside_another_one_is_another_person(
    repo: Repository, key: SshKey, known: Signers
) -> None:
    commit = key.sign(repo, "Signed", "--author", "A <a@example.test>")
    assert verify(repo.folder, [commit], "head", known)[0].foreign


def _line(key: SshKey, options: str) -> str:
    return f"ada@example.test {options} {key.public}\n".replace("  ", " ")


def test_keys_count_only_while_they_are_valid_at_the_moment_of_the_check(
    repo: Repository, key: SshKey, tmp_path: Path
) -> None:
    commit = key.sign(repo)
    now = datetime.now(UTC)
    path = tmp_path / "allowed"
    cases = [
        (f'valid-before="{now + timedelta(days=2):%Y%m%d}"', None, "good"),
        (f'valid-before="{now - timedelta(days=2):%Y%m%d}"', None, "expired"),
        (f'valid-before="{now + timedelta(days=2):%Y%m%d}"', now + timedelta(days=9), "expired"),
        (f'valid-after="{now + timedelta(days=2):%Y%m%d}"', None, "expired"),
        (f'valid-after="{now + timedelta(days=2):%Y%m%d}"', now + timedelta(days=9), "good"),
        ('namespaces="file"', None, "unknown"),
        ('namespaces="git,file"', None, "good"),
        ("", None, "good"),
    ]
    for options, at, state in cases:
        path.write_text(_line(key, options))
        (verdict,) = verify(repo.folder, [commit], "head", signers.read(path), at=at)
        assert verdict.state == state, (options, at, verdict)
        if state == "expired":
            assert verdict.signer == "ada@example.test"


def test_a_backdated_commit_does_not_make_an_expired_key_good(
    repo: Repository, key: SshKey, tmp_path: Path
) -> None:
    words = (
        "-c",
        "gpg.format=ssh",
        "-c",
        f"user.signingkey={key.path}",
        "commit",
        "-q",
        "-S",
        "--allow-empty",
    )
    repo.git(
        *words, "-m", "Old", GIT_COMMITTER_DATE="2020-01-01T00:00:00Z", GIT_AUTHOR_DATE="2020-01-01T00:00:00Z"
    )
    (tmp_path / "allowed").write_text(_line(key, 'valid-before="20210101"'))
    (verdict,) = verify(repo.folder, [repo.head], "head", signers.read(tmp_path / "allowed"))
    assert verdict.state == "expired"


def test_a_revoked_key_is_refused_whoever_lists_it(
    repo: Repository, key: SshKey, known: Signers, tmp_path: Path
) -> None:
    commit = key.sign(repo)
    folder = tmp_path / "signers"
    folder.mkdir()
    (folder / "allowed_signers").write_text(_line(key, ""))
    (folder / "revoked_keys").write_text(f"# gone\n{key.public} lost laptop\n")
    for given in (signers.read(folder), known | signers.read(folder)):
        (verdict,) = verify(repo.folder, [commit], "head", given)
        assert (verdict.state, verdict.signer) == ("revoked", "ada@example.test")


def test_patterns_and_several_principals_name_the_commits_own_person(
    repo: Repository, key: SshKey, tmp_path: Path
) -> None:
    commit = key.sign(repo)
    path = tmp_path / "allowed"
    path.write_text(f'"*@example.test,!eve@example.test" {key.public}\n')
    assert verify(repo.folder, [commit], "head", signers.read(path))[0].signer == "ada@example.test"
    path.write_text(f"bob@example.test,ada@example.test {key.public}\n")
    verdict = verify(repo.folder, [commit], "head", signers.read(path))[0]
    assert (verdict.ok, verdict.signer) == (True, "bob@example.test")


def test_a_certificate_of_a_known_authority_is_good_and_of_another_one_is_not(
    repo: Repository, tmp_path: Path
) -> None:
    authority, other, key = SshKey(tmp_path, "ca"), SshKey(tmp_path, "other"), SshKey(tmp_path, "worker")
    words = [
        "ssh-keygen",
        "-q",
        "-s",
        str(authority.path),
        "-I",
        "x",
        "-n",
        "ada@example.test",
        f"{key.path}.pub",
    ]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
    key.path.with_name("worker.pub").write_text(key.path.with_name("worker-cert.pub").read_text())
    repo.git(
        *("-c", "gpg.format=ssh", "-c", f"user.signingkey={key.path.with_name('worker-cert.pub')}"),
        *("commit", "-q", "--allow-empty", "-S", "-m", "By certificate"),
        SSH_AUTH_SOCK="",
    )
    path = tmp_path / "allowed"
    path.write_text(f"*@example.test cert-authority {authority.public}\n")
    assert verify(repo.folder, [repo.head], "head", signers.read(path))[0].signer == "ada@example.test"
    path.write_text(f"*@example.test cert-authority {other.public}\n")
    assert verify(repo.folder, [repo.head], "head", signers.read(path))[0].state == "unknown"


def test_the_policy_says_which_commits_must_be_signed(repo: Repository, key: SshKey, known: Signers) -> None:
    base = repo.head
    repo.put("two")
    key.sign(repo)
    commits = lineage.between(repo.folder, base, repo.head)
    assert verify(repo.folder, commits, "none", known) == ()
    assert [v.commit for v in verify(repo.folder, commits, "head", known)] == [repo.head]
    strict = verify(repo.folder, commits, "strict", known)
    assert [(v.commit, v.state) for v in strict] == [(commits[0], "unsigned"), (commits[1], "good")]
    assert refused(strict) == strict[:1]
    assert verify(repo.folder, (), "strict", known) == ()


def test_strict_covers_merges_and_what_they_bring(repo: Repository, key: SshKey, known: Signers) -> None:
    base = repo.head
    repo.git("checkout", "-q", "-b", "side")
    side = repo.put("side")
    repo.git("checkout", "-q", "main")
    key.sign(repo, "On main")
    merge = key.merge(repo, "side")
    found = {
        v.commit: v.state
        for v in verify(repo.folder, lineage.between(repo.folder, base, merge), "strict", known)
    }
    assert len(found) == 3
    assert [commit for commit, state in found.items() if state != "good"] == [side]
    repo.git("checkout", "-q", "-b", "clean", base)
    key.sign(repo, "On a branch")
    repo.git("checkout", "-q", "main")
    repo.git("reset", "-q", "--hard", base)
    repo.git("merge", "-q", "--no-ff", "-m", "An unsigned merge", "clean")
    found = {
        v.commit: v.state
        for v in verify(repo.folder, lineage.between(repo.folder, base, repo.head), "strict", known)
    }
    assert found[repo.head] == "unsigned"


def test_hundreds_of_commits_are_read_in_one_go(repo: Repository, known: Signers) -> None:
    base = repo.head
    stream = "".join(
        f"commit refs/heads/main\ncommitter A <a@b> {n} +0000\ndata 1\nx\n"
        + (f"from {base}\n" if n == 0 else "")
        for n in range(450)
    )
    repo.git("fast-import", "--quiet", "--force", given=stream.encode())
    commits = lineage.between(repo.folder, base, repo.git("rev-parse", "main"))
    assert len(commits) == 450
    assert {v.state for v in verify(repo.folder, commits, "strict", known)} == {"unsigned"}


def test_a_missing_commit_is_a_fault(repo: Repository, known: Signers) -> None:
    with pytest.raises(SourceFault, match="cannot be read"):
        verify(repo.folder, ["1" * 40], "head", known)


def test_an_ssh_keygen_that_is_too_old_is_told_as_that(
    repo: Repository, key: SshKey, known: Signers, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = key.sign(repo)
    old = Ended(1, b"", "unknown option -- Y\nusage: ssh-keygen [-q] [-b bits]\n")
    monkeypatch.setattr("reconciler.desired.git_process.run", lambda *_, **__: old)
    raw = repo.raw(commit)
    monkeypatch.setattr("reconciler.desired.source.objects", lambda *_, **__: [raw])
    with pytest.raises(SourceFault, match="cannot check signatures") as fault:
        verify(repo.folder, [commit], "head", known)
    assert "OpenSSH 8" in fault.value.hint


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("ada@example.test\n", ":1"),
        ("# fine\n\nada@example.test ssh-ed25519 not*base64\n", ":3"),
        ("ada@example.test no-such-option ssh-ed25519 AAAA\n", ":1"),
        ('ada@example.test valid-before="soon" ssh-ed25519 AAAA\n', ":1"),
        ("ssh-ed25519 AAAA\n", ":1"),
    ],
)
def test_a_line_of_signers_that_cannot_be_read_is_named_with_its_place(
    tmp_path: Path, text: str, place: str
) -> None:
    path = tmp_path / "allowed"
    path.write_text(text)
    with pytest.raises(SettingsFault, match=f"{path}{place}: not a line"):
        signers.read(path)


def test_signers_that_are_not_there_are_a_fault(tmp_path: Path) -> None:
    with pytest.raises(SettingsFault, match="cannot be read"):
        signers.read(tmp_path / "none")
    (tmp_path / "folder").mkdir()
    with pytest.raises(SettingsFault, match="holds no signer"):
        signers.read(tmp_path / "folder")
    (tmp_path / "folder" / "revoked_keys").write_text("nonsense\n")
    with pytest.raises(SettingsFault, match="not an OpenSSH public key"):
        signers.read(tmp_path / "folder")


def test_an_address_with_a_patterns_characters_stands_for_nobody_else(repo: Repository, key: SshKey) -> None:
    mallory = user("ada", key.public)
    mallory = mallory.model_copy(update={"spec": mallory.spec.model_copy(update={"email": "*@example.test"})})
    commit = key.sign(repo)
    assert verify(repo.folder, [commit], "head", signers.of_users([mallory]))[0].signer == "_@example.test"
