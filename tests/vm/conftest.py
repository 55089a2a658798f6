"""One virtual machine for all tests of this folder, each of which begins with it as it was freshly installed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.host import LabUnavailable
from lab.vm import Machine
from tests.lab_fixtures import unavailable

from .stage import Stage
from .world import OPENED, PROVISIONED, World, provision

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One of several test processes runs all of these: they go first, and what is late is what another takes over."""
    mine = [item for item in items if HERE in item.path.parents]
    for item in mine:
        item.add_marker(pytest.mark.xdist_group("vm"))
    items[:] = [*mine, *(item for item in items if HERE not in item.path.parents)]


@pytest.fixture(scope="package")
def running(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """The machine; it ends with the last test of this folder."""
    try:
        made = Machine()
    except LabUnavailable as reason:
        unavailable(str(reason))
    capture = request.config.pluginmanager.getplugin("capturemanager")
    assert capture is not None
    with capture.global_and_fixture_disabled():
        sys.stderr.write(f"\nvirtual machine up in {made.seconds:.1f} s\n")
    with made:
        yield made


@pytest.fixture
def machine(running: Machine) -> Machine:
    """The machine as it was freshly installed."""
    running.reset()
    return running


@pytest.fixture(scope="package")
def built(running: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two sites, put on the freshly installed machine by the daemon, which has ended. Kept as PROVISIONED."""
    running.reset()
    with Stage.over(running, tmp_path_factory.mktemp("vm")) as stage:
        world = provision(running, stage)
        running.snapshot(PROVISIONED)
        yield world


@pytest.fixture
def world(built: World) -> World:
    """The machine as the daemon left it."""
    built.machine.restore(PROVISIONED)
    return built


@pytest.fixture(scope="module")
def opened(built: World) -> World:
    """Nothing but SELinux is between the sites. Shared by the tests of a module, which leave it so."""
    built.machine.restore(PROVISIONED)
    built.open_up()
    built.machine.snapshot(OPENED)
    return built
