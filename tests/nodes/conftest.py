"""Fixtures of the SSH tests: a loopback sshd per module, and connections to it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import pytest

from reconciler.nodes.connection import Connection

from . import loopback
from .loopback import Loopback


# A lab moves the test process into other namespaces, so no server outlives its module.
@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    reason = "sshd missing: install openssh-server" if loopback.SSHD is None else ""
    if os.geteuid() != 0:
        reason = "not root: sshd cannot be started here"
    if reason:
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    server = loopback.start(tmp_path_factory.mktemp("sshd"))
    yield server
    server.stop()


@pytest.fixture
async def connection(sshd: Loopback) -> AsyncIterator[Connection]:
    opened = await Connection.open(sshd.target)
    yield opened
    await opened.close()
