"""A store whose time a test sets, and receivers that listen on loopback."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from reconciler.secrets import Box
from reconciler.store import Store

from .receivers import KEY, Receiver, Time


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("migrated") / "state.sqlite"
    Store.create(path, Box([KEY])).close()
    return path


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def store(migrated: Path, tmp_path: Path, time: Time) -> Iterator[Store]:
    path = tmp_path / "state.sqlite"
    shutil.copy(migrated, path)
    with Store.open(path, Box([KEY]), clock=time) as opened:
        yield opened


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as listening:
        yield listening
