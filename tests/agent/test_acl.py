"""Access lists for one more user, against what the kernel itself says of them."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from reconciler.agent import acl

USER = 4711


def _mode(path: Path) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "home"
    made.mkdir(mode=0o710)
    try:
        acl.grant(str(made), USER + 1, 1)
        acl.revoke(str(made), USER + 1)
    except OSError:
        pytest.skip("no access control lists on this file system")
    return made


def test_what_is_granted_can_be_taken_back_and_leaves_nothing(folder: Path) -> None:
    before = _mode(folder)
    acl.grant(str(folder), USER, 1)
    assert _mode(folder) == before, "the mode that a home is compared by stays"
    assert acl.XATTR in os.listxattr(folder)
    acl.grant(str(folder), USER, 1)
    acl.revoke(str(folder), USER)
    assert acl.XATTR not in os.listxattr(folder)
    assert _mode(folder) == before


def test_another_users_access_is_left_alone(folder: Path) -> None:
    acl.grant(str(folder), USER, 1)
    kept = os.getxattr(folder, acl.XATTR)
    acl.grant(str(folder), USER + 1, 5)
    acl.revoke(str(folder), USER + 1)
    acl.revoke(str(folder), USER + 2)
    now = os.getxattr(folder, acl.XATTR)
    # the mask is that of the widest access there was
    assert [now[4 + 8 * n : 12 + 8 * n] for n in range(3)] == [kept[4 + 8 * n : 12 + 8 * n] for n in range(3)]


def test_a_socket_can_be_opened_to_one_more(folder: Path) -> None:
    path = folder / "php.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o600)
        acl.grant(str(path), USER, 6)
        assert acl.XATTR in os.listxattr(path)
        acl.revoke(str(path), USER)
        assert _mode(path) == 0o600


def test_a_link_is_not_followed(folder: Path) -> None:
    (folder / "target").write_text("")
    (folder / "link").symlink_to("target")
    with pytest.raises(OSError, match=r"Operation not supported"):
        acl.grant(str(folder / "link"), USER, 6)
    assert os.listxattr(folder / "target") == []
