"""What the tests of sources stand on."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from reconciler.secrets import Box
from reconciler.store import Store
from tests.desired.signing import SshKey
from tests.loop.repository import Fleet


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database."""
    path = tmp_path_factory.mktemp("template") / "state.sqlite"
    Store.create(path, Box([b"k" * 32])).close()
    return path


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
