"""The way to a node, or the node itself, fails in the middle of an apply, and comes back.

A clock that jumps is not among these: a container can set no clock. On the daemon's side tests/loop plays it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from lab import Node, faults

from .gate import gate
from .stage import Stage

CONF = "file:/etc/panel/fpm/shop.conf"


@pytest.fixture
def node(stage: Stage) -> Node:
    return stage.nodes["web1"]


def test_a_connection_that_is_cut_in_an_apply_is_taken_up_again(stage: Stage, node: Node) -> None:
    with gate(stage) as closed:
        stage.serve_warm()
        commit = stage.push(shop="501M")
        closed.wait()
        before = stage.sessions("web1")
        faults.kill_ssh_sessions(node)
        stage.wait(lambda: stage.sessions("web1") - before)
        closed.open()
        stage.reach()
    stage.stop()
    assert [row["status"] for row in stage.deployments_of(commit)] == ["success"]
    assert stage.began(commit, CONF) == 1


def test_a_node_that_refuses_connections_for_a_while_goes_on_with_its_apply(stage: Stage, node: Node) -> None:
    with gate(stage) as closed:
        stage.serve_warm()
        commit = stage.push(shop="502M")
        closed.wait()
        with faults.refused_port(node):
            faults.kill_ssh_sessions(node)
            closed.open()
            time.sleep(3)
            assert not stage.at_newest(), "nobody could know"
        stage.reach()
    stage.stop()
    assert [row["status"] for row in stage.deployments_of(commit)] == ["success"]
    assert stage.began(commit, CONF) == 1


SILENT: dict[str, tuple[Callable[[Node], AbstractContextManager[None]], str]] = {
    "frozen": (faults.frozen, "503M"),
    "unplugged": (faults.unplugged, "504M"),
    "packets-dropped": (faults.dropped_port, "505M"),
}


@pytest.mark.parametrize("what", SILENT)
def test_a_node_that_falls_silent_in_an_apply_and_speaks_again_ends_it(
    stage: Stage, node: Node, what: str
) -> None:
    fault, limit = SILENT[what]
    with gate(stage) as closed:
        stage.serve_warm()
        commit = stage.push(shop=limit)
        closed.wait()
        with fault(node):
            time.sleep(4)
            assert stage.unfinished() == 1
        closed.open()
        stage.reach()
    stage.stop()
    assert [row["status"] for row in stage.deployments_of(commit)] == ["success"]
    assert stage.began(commit, CONF) == 1


def test_a_node_that_does_not_answer_is_tried_again_until_it_does(stage: Stage, node: Node) -> None:
    """Nothing is recorded as begun before the node answers."""
    with faults.refused_port(node):
        stage.serve_warm()
        commit = stage.push(shop="506M")
        stage.until_says("Server", "web1", "Reachable", "False")
        assert stage.deployments_of(commit) == []
    stage.reach()
    assert stage.says("Server", "web1", "Reachable").startswith("True")
    stage.stop()
    assert [row["status"] for row in stage.deployments_of(commit)] == ["success"]


def test_a_node_that_reboots_in_an_apply_is_converged_when_it_is_back(stage: Stage, node: Node) -> None:
    with gate(stage) as closed:
        stage.serve_warm()
        commit = stage.push(shop="507M")
        closed.wait()
        node.reboot()
    stage.reach(90)
    stage.stop()
    assert stage.deployments_of(commit)[-1]["status"] == "success"


def test_a_power_cut_in_an_apply_loses_nothing(stage: Stage, node: Node) -> None:
    with gate(stage) as closed:
        stage.serve_warm()
        commit = stage.push(shop="508M")
        closed.wait()
        node.crash()
        node.start()
        node.wait_ssh()
    stage.reach(90)
    stage.stop()
    assert stage.deployments_of(commit)[-1]["status"] == "success"
