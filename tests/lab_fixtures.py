"""Fixtures with real nodes for any test. Each test that uses one gets the marker `lab` by itself.

Where the lab cannot run, such tests are skipped with the reason, except when CI=true: there they fail.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NoReturn, Protocol

import pytest

from lab import ImageMissing, Lab, Node, why_not
from lab.images.bake import DEBIAN_UNITS, EL_UNITS

FIXTURES = {
    "lab",
    "make_node",
    "make_nodes",
    "node",
    "el_node",
    "debian_node",
    "web_node",
    "el_web_node",
    "debian_web_node",
    "machine",
}
WEB_UNITS = {"el9-web": EL_UNITS, "debian12-web": DEBIAN_UNITS}


class MakeNode(Protocol):
    """Starts a node that is removed when the test ends."""

    def __call__(self, image: str, name: str | None = None) -> Node: ...


class MakeNodes(Protocol):
    """Starts several nodes at once, which is quicker than one after the other."""

    def __call__(self, *images: str) -> list[Node]: ...


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "lab: needs real nodes (root, systemd-nspawn, node images)")


def pytest_itemcollected(item: pytest.Item) -> None:
    if FIXTURES & set(getattr(item, "fixturenames", ())):
        item.add_marker("lab")


def unavailable(reason: str) -> NoReturn:
    """Skips the test, or fails it where a missing lab must not go unnoticed."""
    message = f"node lab not available: {reason}"
    if os.environ.get("CI") == "true":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The lab of this test process, which has a private network from here on: 198.18.0.1 and the nodes."""
    reasons = why_not()
    if reasons:
        unavailable("; ".join(reasons))
    with Lab() as made:
        yield made


@pytest.fixture
def _nodes(lab: Lab) -> Iterator[list[Node]]:
    """The nodes of one test, all removed when it ends."""
    made: list[Node] = []
    yield made
    for node in made:
        node.remove()


def _start(lab: Lab, made: list[Node], wanted: list[tuple[str, str]]) -> list[Node]:
    started = []
    for image, name in wanted:
        try:
            started.append(lab.add(name, image))
        except ImageMissing as error:
            unavailable(str(error))
        made.append(started[-1])
    lab.up(*started)
    for node in started:
        if node.image.name in WEB_UNITS:
            node.wait_active(*WEB_UNITS[node.image.name])
    return started


@pytest.fixture
def make_node(lab: Lab, _nodes: list[Node]) -> MakeNode:
    """Starts nodes: `make_node("el9")`. Web images come with all their services active."""

    def make(image: str, name: str | None = None) -> Node:
        return _start(lab, _nodes, [(image, name or f"node{len(_nodes) + 1}")])[0]

    return make


@pytest.fixture
def make_nodes(lab: Lab, _nodes: list[Node]) -> MakeNodes:
    """Starts a fleet: `make_nodes("el9-web", "el9-web", "debian12-web")`."""

    def make(*images: str) -> list[Node]:
        first = len(_nodes) + 1
        return _start(lab, _nodes, [(image, f"node{i}") for i, image in enumerate(images, first)])

    return make


@pytest.fixture(params=["el9", "debian12"])
def node(request: pytest.FixtureRequest, make_node: MakeNode) -> Node:
    """A freshly installed server of each family in turn."""
    return make_node(request.param)


@pytest.fixture
def el_node(make_node: MakeNode) -> Node:
    """A freshly installed server that looks like Enterprise Linux 9."""
    return make_node("el9")


@pytest.fixture
def debian_node(make_node: MakeNode) -> Node:
    """A freshly installed Debian 12 server."""
    return make_node("debian12")


@pytest.fixture(params=["el9-web", "debian12-web"], ids=["el9", "debian12"])
def web_node(request: pytest.FixtureRequest, make_node: MakeNode) -> Node:
    """A server of each family in turn with the whole web stack installed and running."""
    return make_node(request.param)


@pytest.fixture
def el_web_node(make_node: MakeNode) -> Node:
    """An EL server with nginx, PHP 8.2 and 8.4, MariaDB, PostgreSQL and redis running."""
    return make_node("el9-web")


@pytest.fixture
def debian_web_node(make_node: MakeNode) -> Node:
    """A Debian server with nginx, PHP 8.2, MariaDB, PostgreSQL and redis running."""
    return make_node("debian12-web")
