"""A migrated, empty database for every history to begin with."""

from __future__ import annotations

import pytest

from reconciler.secrets import Box
from reconciler.store import Store

from . import world


@pytest.fixture(scope="session", autouse=True)
def _template(tmp_path_factory: pytest.TempPathFactory) -> None:
    world.TEMPLATE = tmp_path_factory.mktemp("template") / "state.sqlite"
    Store.create(world.TEMPLATE, Box([world.KEY])).close()
