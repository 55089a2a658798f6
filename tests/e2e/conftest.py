"""A stage with a web node of each family, shared by the tests of a module: each test brings resources of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab import Lab

from .harness import Stage, boot


@pytest.fixture(scope="module")
def stage(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Servers `el` and `deb`, enrolled and converged."""
    nodes = boot(lab, el="el9-web", deb="debian12-web")
    made = Stage.build(tmp_path_factory.mktemp("stage"))
    try:
        for name, node in nodes.items():
            made.enroll(name, node)
        made.apply()
        yield made
    finally:
        for node in nodes.values():
            node.remove()
