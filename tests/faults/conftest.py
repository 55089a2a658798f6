"""One node with one site, shared by the tests of this folder: each leaves it at the newest commit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from lab import Lab
from lab.host import run
from tests.e2e.harness import boot

from . import evidence
from .stage import Stage


@pytest.fixture(scope="package")
def settled(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Server `web1` with the site `shop`, converged by a daemon that was ended in good order."""
    folder = tmp_path_factory.mktemp("stage")
    state = folder / "state"
    state.mkdir(mode=0o700)
    with ExitStack() as leaving:
        nodes = boot(lab, web1="debian12-web")
        for node in nodes.values():
            leaving.callback(node.remove)
        # a disk of its own, small enough to be filled
        run("mount", "-t", "tmpfs", "-o", "size=48M,mode=0700", "reconciler-state", state)
        leaving.callback(run, "umount", "-l", state)
        stage = leaving.enter_context(Stage.on(folder, **nodes))
        stage.site("shop", "web1")
        stage.push("Declare the shop")
        with stage.served():
            stage.reach(120)
        stage.upload("shop")
        stage.check()
        assert evidence.unplanned(stage.state, nodes.values(), {}), "else the checks would see nothing"
        yield stage


@pytest.fixture
def stage(settled: Stage) -> Iterator[Stage]:
    """The stage; no daemon runs. Afterwards everything is as the newest commit says and nothing is left."""
    settled.end()
    yield settled
    settled.end()
    if not settled.at_newest():  # a test has failed: the next one starts anew all the same
        with settled.served(60):
            settled.reach(60)
    settled.check()
    settled.leaves_nothing()
