"""Where the key comes from, in which order, and what is refused."""

from __future__ import annotations

import base64
import os
import traceback
from pathlib import Path

import pytest

from reconciler.errors import SettingsFault
from reconciler.kit.secret import Secret
from reconciler.secrets import keyring

A, B, C = (f"base64:{base64.b64encode(letter * 32).decode()}" for letter in (b"a", b"b", b"c"))
LARAVEL = "base64:J63qRTDLub5NuZvP+kb8YIorGS6qFYHKVo6u7179stY="  # as `php artisan key:generate` writes it


def put(path: Path, text: str, mode: int = 0o600) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def first(state: Path, environ: dict[str, str]) -> str:
    return keyring.load(state, environ).keys[0].reveal()


def test_the_credential_comes_before_the_environment_and_that_before_the_file(tmp_path: Path) -> None:
    state, credentials = tmp_path / "state", tmp_path / "credentials"
    put(state / "app.key", C + "\n")
    environ: dict[str, str] = {}
    assert first(state, environ) == C
    environ["APP_KEY"] = B
    assert first(state, environ) == B
    environ["CREDENTIALS_DIRECTORY"] = str(credentials)
    assert first(state, environ) == B
    put(credentials / "app_key", A, 0o440)
    assert first(state, environ) == A


def test_older_keys_follow_the_current_one(tmp_path: Path) -> None:
    put(tmp_path / "app.key", f"{A}\n{B},{C}\n\n")
    keys = keyring.load(tmp_path, {})
    assert keys.keys == (Secret(A), Secret(B), Secret(C))
    place = {"table": "t", "row_id": "r", "column": "c"}
    old = keyring.parse(C, "here").box().seal("x", **place)
    assert keys.box().open(old, **place) == Secret("x")


def test_laravels_form_is_read() -> None:
    assert keyring.parse(LARAVEL, "here").box().version


def test_a_generated_key_is_good_and_different_each_time() -> None:
    one, two = keyring.generate(), keyring.generate()
    assert one != two
    assert keyring.parse(one.reveal(), "here").keys == (one,)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no key"),
        (" ,\n", "holds no key"),
        ("canary-canary-canary-canary-canar", "does not start with base64:"),
        ("base64:canary!", "it is not base64"),
        ("base64:canäry", "it is not base64"),
        ("base64:" + base64.b64encode(b"canary").decode(), "6 bytes instead of 32"),
        (f"{A},canary", "does not start with base64:"),
    ],
)
def test_a_malformed_key_says_what_and_where_but_not_the_key(text: str, words: str) -> None:
    with pytest.raises(SettingsFault, match=words) as caught:
        keyring.load(Path("/nowhere"), {"APP_KEY": text})
    assert "the environment variable APP_KEY" in caught.value.message
    assert "32 bytes in base64" in caught.value.hint
    assert "canary" not in "".join(traceback.format_exception(caught.value))


def test_no_key_anywhere_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(SettingsFault, match="no APP_KEY") as caught:
        keyring.load(tmp_path, {})
    assert str(tmp_path / "app.key") in caught.value.message
    assert keyring.find(tmp_path, {}) is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    put(tmp_path / "app.key", A, mode)
    with pytest.raises(SettingsFault, match=rf"open to others \(mode {mode:04o}\)") as caught:
        keyring.load(tmp_path, {})
    assert "chmod 600" in caught.value.hint


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_key_file_of_another_user_is_refused(tmp_path: Path) -> None:
    os.chown(put(tmp_path / "app.key", A), 12345, 12345)
    with pytest.raises(SettingsFault, match="belongs to user 12345"):
        keyring.load(tmp_path, {})


def test_a_key_file_that_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "real", A)
    (tmp_path / "app.key").symlink_to(tmp_path / "real")
    with pytest.raises(SettingsFault, match="cannot be read"):
        keyring.load(tmp_path, {})
    (tmp_path / "app.key").unlink()
    os.mkfifo(tmp_path / "app.key", 0o600)
    with pytest.raises(SettingsFault, match="not a plain file"):
        keyring.load(tmp_path, {})
    (tmp_path / "app.key").unlink()
    (tmp_path / "app.key").write_bytes(b"\xff\xfe")
    (tmp_path / "app.key").chmod(0o600)
    with pytest.raises(SettingsFault, match="does not hold a key"):
        keyring.load(tmp_path, {})


def test_a_written_key_is_private_and_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "app.key"
    keyring.write_file(path, Secret(A))
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        keyring.write_file(path, Secret(B))
    assert first(tmp_path, {}) == A
    assert [file.name for file in tmp_path.iterdir()] == ["app.key"]


def test_the_repr_names_the_source_only() -> None:
    assert repr(keyring.parse(A, "a test")) == "Keyring(1 from a test)"
