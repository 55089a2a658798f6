"""Disk quotas where the kernel keeps none: a limit that cannot hold is told, and nothing of the site stays."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab import Node

from .building import bundle, directory, gone, section, user
from .on_nodes import install, manager, messages, talk
from .talking import Talk

QUOTA = {
    "type": "quota",
    "key": "quota:web1",
    "user": "web1",
    "path": "/home/web1",
    "bytes": 64 * 1024 * 1024,
}


@pytest.fixture
def agent(node: Node) -> Iterator[Talk]:
    install(node)
    with talk(node) as agent:
        yield agent


def test_a_limit_that_cannot_hold_fails_its_site_alone(node: Node, agent: Talk) -> None:
    limited = section(
        "Site/limited", user("web1"), QUOTA, directory("/home/web1/logs", owner="web1", group="web1")
    )
    free = section("Site/free", user("web2"))
    outcome = agent.apply(1, bundle(limited, free, package_manager=manager(node)))
    assert outcome["sections"]["Site/limited"]["state"] == "failed"
    assert "the file system of /home/web1 holds no user to a quota" in messages(outcome)
    assert outcome["sections"]["Site/free"]["state"] == "succeeded"
    assert node.run("id web1", check=False).returncode != 0
    assert node.run("ls -d /home/web1", check=False).returncode != 0
    # where there are no quotas there is no limit to take away
    outcome = agent.apply(
        2, bundle(section("Site/limited", gone(QUOTA)), free, package_manager=manager(node))
    )
    assert outcome["sections"]["Site/limited"]["state"] == "unchanged"
