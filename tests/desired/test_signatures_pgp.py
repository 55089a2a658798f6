"""Signatures by PGP keys, judged in a keyring that is thrown away."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reconciler.desired import signers
from reconciler.desired.signatures import Signers, verify
from reconciler.errors import SourceFault
from tests.desired.repositories import Repository, processes
from tests.desired.signing import PgpHome, SshKey, user

pytestmark = pytest.mark.skipif(shutil.which("gpg") is None, reason="needs gpg")

ADA = "Ada <ada@example.test>"


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "fleet")
    made.put("base")
    return made


@pytest.fixture(scope="module")
def home() -> Iterator[PgpHome]:
    """A keyring that makes the keys; its agent ends with it."""
    with tempfile.TemporaryDirectory(prefix="pgp-") as folder:
        made = PgpHome(Path(folder) / "h")
        yield made
        made.close()


@pytest.fixture(scope="module")
def ada(home: PgpHome) -> str:
    return home.generate(ADA)


def test_a_commit_signed_by_a_user_is_good_and_says_who(repo: Repository, home: PgpHome, ada: str) -> None:
    commit = home.sign(repo, ada)
    known = signers.of_users([user("ada", home.export(ada))])
    (verdict,) = verify(repo.folder, [commit], "head", known)
    assert (verdict.state, verdict.signer, verdict.key) == ("good", "ada@example.test", ada)
    assert not verdict.foreign


def test_keys_in_a_folder_are_named_by_their_user_id(
    repo: Repository, home: PgpHome, ada: str, tmp_path: Path
) -> None:
    commit = home.sign(repo, ada)
    (tmp_path / "signers").mkdir()
    (tmp_path / "signers" / "ada.asc").write_text(home.export(ada))
    for path in (tmp_path / "signers", tmp_path / "signers" / "ada.asc"):
        (verdict,) = verify(repo.folder, [commit], "head", signers.read(path))
        assert (verdict.ok, verdict.signer, verdict.foreign) == (True, ADA, False)


def test_a_key_that_nobody_has_is_unknown_even_if_it_claims_a_known_name(
    repo: Repository, home: PgpHome, ada: str
) -> None:
    impostor = home.generate("Ada <ada+2@example.test>")
    commit = home.sign(repo, impostor)
    (verdict,) = verify(repo.folder, [commit], "head", signers.of_users([user("ada", home.export(ada))]))
    assert (verdict.state, verdict.signer) == ("unknown", "")
    assert verify(repo.folder, [commit], "head", Signers())[0].state == "unknown"


def test_an_altered_commit_is_told_as_that(repo: Repository, home: PgpHome, ada: str) -> None:
    raw = repo.raw(home.sign(repo, ada))
    altered = repo.hash(raw.replace(b"\n\nSigned", b"\n\nResigned", 1))
    (verdict,) = verify(repo.folder, [altered], "head", signers.of_users([user("ada", home.export(ada))]))
    assert verdict.state == "altered"


def test_an_expired_key_and_a_revoked_one_are_told_apart(repo: Repository, home: PgpHome) -> None:
    short = home.generate("Short <short@example.test>", expires="10d")
    commit = home.sign(repo, short)
    known = signers.of_users([user("short", home.export(short))])
    assert verify(repo.folder, [commit], "head", known)[0].ok
    later = datetime.now(UTC) + timedelta(days=20)
    (verdict,) = verify(repo.folder, [commit], "head", known, at=later)
    assert (verdict.state, verdict.signer) == ("expired", "short@example.test")
    home.revoke(short)
    known = signers.of_users([user("short", home.export(short))])
    (verdict,) = verify(repo.folder, [commit], "head", known)
    assert (verdict.state, verdict.signer) == ("revoked", "short@example.test")


def test_a_backdated_signature_does_not_make_an_expired_key_good(repo: Repository, home: PgpHome) -> None:
    old = home.generate("Old <old@example.test>", expires="10d", at="20200101T000000")
    commit = home.sign(repo, old, at="20200102T000000")
    known = signers.of_users([user("old", home.export(old))])
    assert verify(repo.folder, [commit], "head", known)[0].state == "expired"


def test_two_pgp_signatures_in_one_are_malformed(repo: Repository, home: PgpHome, ada: str) -> None:
    raw = repo.raw(home.sign(repo, ada))
    payload = raw[: raw.index(b"gpgsig ")] + raw[raw.index(b"\n\n") + 1 :]
    (repo.folder / "payload").write_bytes(payload)
    impostor = home.generate("Eve <eve@example.test>")
    both = home.gpg(
        *("--armor", "--detach-sign", "-u", ada, "-u", impostor, "-o", "-", str(repo.folder / "payload"))
    )
    header = b"gpgsig " + both.strip().encode().replace(b"\n", b"\n ") + b"\n"
    commit = repo.hash(payload.replace(b"\n\n", b"\n" + header + b"\n", 1))
    (verdict,) = verify(repo.folder, [commit], "head", signers.of_users([user("ada", home.export(ada))]))
    assert (verdict.state, verdict.detail[:19]) == ("malformed", "there is not exactl")
    eve = user("eve", home.export(impostor))
    (verdict,) = verify(repo.folder, [commit], "head", signers.of_users([user("ada", home.export(ada)), eve]))
    assert verdict.state == "malformed"


def test_text_that_is_no_signature_is_malformed(repo: Repository, home: PgpHome, ada: str) -> None:
    raw = repo.raw(home.sign(repo, ada))
    at = raw.index(b"BEGIN PGP SIGNATURE-----") + 30
    torn = repo.hash(raw[:at] + b"AAAA" + raw[at + 4 :])
    state = verify(repo.folder, [torn], "head", signers.of_users([user("ada", home.export(ada))]))[0].state
    assert state in ("malformed", "altered", "unknown")


def test_ssh_and_pgp_signatures_are_judged_side_by_side(
    repo: Repository, home: PgpHome, ada: str, tmp_path: Path
) -> None:
    key = SshKey(tmp_path, "ada")
    commits = [home.sign(repo, ada), key.sign(repo)]
    known = signers.of_users([user("ada", key.public, home.export(ada))])
    assert [v.signer for v in verify(repo.folder, commits, "strict", known)] == ["ada@example.test"] * 2


def test_nothing_of_the_keyring_is_left_and_no_agent_runs(
    repo: Repository, home: PgpHome, ada: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    commit = home.sign(repo, ada)
    assert verify(repo.folder, [commit], "head", signers.of_users([user("ada", home.export(ada))]))[0].ok
    assert list(scratch.iterdir()) == []
    assert processes(str(scratch)) == []


def test_without_gpg_the_fault_says_what_to_install(
    repo: Repository, home: PgpHome, ada: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = home.sign(repo, ada)
    known = signers.of_users([user("ada", home.export(ada))])
    for name in ("git", "ssh-keygen"):
        (tmp_path / name).symlink_to(shutil.which(name) or "")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceFault, match="gpg was not found") as fault:
        verify(repo.folder, [commit], "head", known)
    assert "gnupg" in fault.value.hint
