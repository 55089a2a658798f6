"""One node with one site, shared by the tests of a module: each test leaves it at the newest commit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab import Lab
from tests.e2e.harness import boot

from .stage import Stage


@pytest.fixture(scope="package")
def settled(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Server `web1` with the site `shop`, converged by a daemon that was ended in good order."""
    nodes = boot(lab, web1="debian12-web")
    stage = Stage.on(tmp_path_factory.mktemp("stage"), **nodes)
    try:
        stage.site("shop", "web1")
        stage.push("Declare the shop")
        with stage.served():
            stage.reach(120)
        stage.upload("shop")
        stage.check()
        yield stage
    finally:
        stage.close()
        for node in nodes.values():
            node.remove()


@pytest.fixture
def stage(settled: Stage) -> Iterator[Stage]:
    """The module's stage; no daemon runs. Afterwards everything is as the newest commit says and nothing is left."""
    settled.end()
    yield settled
    settled.end()
    if not settled.at_newest():  # a test has failed: the next one starts anew all the same
        with settled.served(60):
            settled.reach(60)
    settled.check()
    settled.leaves_nothing()
