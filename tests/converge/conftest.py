"""A fleet in memory with two servers, three sites and a database, applied."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.secrets import Box
from reconciler.store import Store
from tests.model.world import KEY, World


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("migrated") / "state.sqlite"
    Store.create(path, Box([KEY])).close()
    return path


@pytest.fixture
def world(migrated: Path, tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, migrated)
    made.server("north", "198.18.0.20")
    made.server("south", "198.18.0.21")
    for name, server in (("ant", "north"), ("bee", "south"), ("cat", "north")):
        made.declared["Site", name] = {"server": server, "domain": f"{name}.test", "phpVersion": "8.2"}
    made.declared["Database", "ant"] = {
        "server": "north", "site": "ant", "engine": "mariadb", "name": "ant", "username": "ant",
    }  # fmt: skip
    made.apply()
    yield made
    made.close()
    shutil.rmtree(tmp_path, ignore_errors=True)
