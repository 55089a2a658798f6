"""SSH keys: pairs that OpenSSH agrees with, and a clear word for each that cannot be used."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from reconciler.errors import SettingsFault
from reconciler.kit.secret import Secret
from reconciler.nodes import keys


def keygen(folder: Path, *options: str) -> Path:
    path = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-C", "c", "-f", str(path), *options], check=True, timeout=60)
    return path


def test_openssh_reads_a_generated_pair_alike(tmp_path: Path) -> None:
    made = keys.generate("web1")
    path = tmp_path / "id"
    path.touch(0o600)
    path.write_text(made.private.reveal())
    public = subprocess.run(
        ["ssh-keygen", "-y", "-f", path], check=True, capture_output=True, text=True
    ).stdout
    assert public.split()[:2] == made.public.split()[:2]
    (tmp_path / "id.pub").write_text(made.public + "\n")
    listed = subprocess.run(
        ["ssh-keygen", "-lf", tmp_path / "id.pub"], check=True, capture_output=True, text=True
    )
    assert listed.stdout.split()[1] == keys.fingerprint(made.public)
    assert made.public.endswith(" web1")
    assert keys.pair(made.private).public.split()[:2] == made.public.split()[:2]


def test_two_pairs_differ() -> None:
    assert keys.generate().public != keys.generate().public


@pytest.mark.parametrize(
    "form", [("-t", "ed25519"), ("-t", "rsa", "-b", "2048"), ("-t", "ecdsa"), ("-t", "rsa", "-m", "PEM")]
)
def test_keys_of_openssh_are_read(tmp_path: Path, form: tuple[str, ...]) -> None:
    path = keygen(tmp_path, "-N", "", *form)
    private = keys.read_identity(path)
    public = path.with_suffix(".pub").read_text()
    assert keys.pair(private).public.split()[:2] == public.split()[:2]
    assert keys.canonical(public, comment="x") == " ".join(public.split()[:2]) + " x"


@pytest.mark.parametrize("form", [(), ("-m", "PEM"), ("-m", "PKCS8")])
def test_an_encrypted_key_is_refused_as_such(tmp_path: Path, form: tuple[str, ...]) -> None:
    path = keygen(tmp_path, "-N", "secret words", "-t", "ecdsa", *form)
    with pytest.raises(SettingsFault, match="passphrase") as caught:
        keys.read_identity(path)
    assert str(path) in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not an SSH private key"),
        ("hello", "not an SSH private key"),
        ("ssh-ed25519 AAAA", "is a public key"),
        ("PuTTY-User-Key-File-3: ssh-ed25519\n", "PuTTY"),
        (
            "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
            "not an SSH private key",
        ),
    ],
)
def test_what_is_no_private_key_is_refused_with_a_reason(text: str, said: str) -> None:
    with pytest.raises(SettingsFault, match=said):
        keys.parse_private(Secret(text))


def test_a_damaged_key_is_refused_without_showing_it() -> None:
    lines = keys.generate().private.reveal().splitlines()
    lines[2] = lines[2][::-1]
    with pytest.raises(SettingsFault) as caught:
        keys.parse_private(Secret("\n".join(lines)))
    assert lines[2] not in caught.value.message + caught.value.hint
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "line",
    [
        "",
        "ssh-ed25519",
        "ssh-ed25519 AAAA",
        "hello world",
        "ssh-ed25519 AAAA\nssh-ed25519 BBBB",
        "'; rm -rf / #",
    ],
)
def test_what_is_no_public_key_is_refused(line: str) -> None:
    with pytest.raises(SettingsFault):
        keys.parse_public(line)


def test_a_private_key_given_as_public_is_not_shown() -> None:
    private = keys.generate().private.reveal()
    with pytest.raises(SettingsFault) as caught:
        keys.parse_public(private)
    assert private.splitlines()[1] not in caught.value.message


def test_a_short_rsa_key_is_refused(tmp_path: Path) -> None:
    line = keygen(tmp_path, "-N", "", "-t", "rsa", "-b", "1024").with_suffix(".pub").read_text()
    with pytest.raises(SettingsFault, match="1024 bits"):
        keys.parse_public(line)


def test_missing_and_odd_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsFault, match="No such file"):
        keys.read_identity(tmp_path / "none")
    (tmp_path / "odd").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsFault, match="not an SSH private key"):
        keys.read_identity(tmp_path / "odd")


def test_the_default_identities_are_those_of_openssh(tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir()
    for name in ("id_rsa", "id_ed25519", "config"):
        (tmp_path / ".ssh" / name).touch()
    assert [path.name for path in keys.default_identities(tmp_path)] == ["id_ed25519", "id_rsa"]
    assert keys.default_identities(tmp_path / "nobody") == ()
