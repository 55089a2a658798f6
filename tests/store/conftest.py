"""An empty and a filled database for each test, copied from one that is migrated once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.secrets import Box
from reconciler.store import Store

from .filled import Filled, fill

KEY = b"k" * 32


@pytest.fixture
def box() -> Box:
    return Box([KEY])


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "state.sqlite"
    Store.create(path, Box([KEY])).close()
    return path


@pytest.fixture
def path(template: Path, tmp_path: Path) -> Path:
    """A database file that no store has open."""
    target = tmp_path / "state.sqlite"
    shutil.copy(template, target)
    return target


@pytest.fixture
def store(path: Path, box: Box) -> Iterator[Store]:
    with Store.open(path, box) as opened:
        yield opened


@pytest.fixture
def filled(store: Store) -> Filled:
    """The ids of a row in every table of `store`."""
    return store.write(fill)
