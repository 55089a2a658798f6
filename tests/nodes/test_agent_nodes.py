"""The real agent on real servers of both families: renewed through itself, and an apply that goes on whatever happens to the link."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from lab import Node, faults
from reconciler.errors import DeadlinePassed, NodeLost
from reconciler.kit import ids
from reconciler.kit.canonical import Json
from reconciler.nodes import agentzip, keys
from reconciler.nodes.agentzip import AGENT_PATH, AgentProgram
from reconciler.nodes.answers import Outcome
from reconciler.nodes.connection import Keepalive
from reconciler.nodes.enrol import enrol
from reconciler.nodes.keys import KeyPair
from reconciler.nodes.node import Manner
from reconciler.nodes.node import Node as Managed
from reconciler.nodes.pool import Pool

from .labs import operator, panel_target
from .loopback import until
from .small_bundle import BODIES, GATE, SECOND, Notes, bundle, hand_over, install_gate

MANNER = Manner(agentzip.build(), keepalive=Keepalive(0.5, 3), first_wait=0.1, longest_wait=0.5)


@pytest.fixture
def panel() -> KeyPair:
    return keys.generate()


@pytest.fixture
async def managed(node: Node, panel: KeyPair) -> AsyncIterator[Managed]:
    await enrol(operator(node), panel)
    install_gate(node)
    async with Pool(manner=MANNER) as pool, pool.node(panel_target(node, panel)) as opened:
        yield opened


def wanted(node: Node) -> dict[str, Json]:
    return bundle("dnf" if "el9" in node.image.name else "apt", gate=True)


async def begin(managed: Managed, node: Node, notes: Notes) -> asyncio.Task[Outcome]:
    """Starts an apply and waits until it stands at the gate."""
    digest = await hand_over(managed, wanted(node))
    task = asyncio.create_task(managed.apply(ids.new(), digest, None, 1, notes, within=120))
    while not notes.at_gate:
        assert not task.done(), task.result()
        await asyncio.sleep(0.02)
    return task


async def test_a_bundle_is_applied_and_in_sync_afterwards(managed: Managed, node: Node) -> None:
    notes = Notes()
    node.run("touch /run/go")
    outcome = await (await begin(managed, node, notes))
    assert outcome.state == "succeeded", outcome
    assert notes.complete(), notes.shown()
    hello = await managed.hello()
    assert hello.running == ""
    assert (await managed.check(hello.bundle)).in_sync
    assert (node.root / SECOND[1:]).read_bytes() == BODIES[SECOND]


async def test_an_apply_goes_on_when_the_session_is_killed(managed: Managed, node: Node) -> None:
    notes = Notes()
    task = await begin(managed, node, notes)
    node.run("pkill -KILL -u panel sshd")
    await until(lambda: not managed.connected)
    node.run("touch /run/go")
    outcome = await task
    assert outcome.state == "succeeded", outcome
    assert notes.complete(), notes.shown()


async def test_an_apply_goes_on_when_every_connection_is_killed_again_and_again(
    managed: Managed, node: Node
) -> None:
    notes = Notes()
    task = await begin(managed, node, notes)
    for _ in range(4):
        await until(lambda: managed.connected)
        node.run("pkill -KILL -u panel sshd", check=False)
        await asyncio.sleep(0.3)
    node.run("touch /run/go")
    outcome = await task
    assert outcome.state == "succeeded", outcome
    assert notes.complete(), notes.shown()


async def test_an_apply_is_found_again_after_the_cable_was_out(managed: Managed, node: Node) -> None:
    notes = Notes()
    task = await begin(managed, node, notes)
    node.cable(up=False)
    await until(lambda: not managed.connected, 30)
    node.run("touch /run/go")
    node.cable(up=True)
    outcome = await task
    assert outcome.state == "succeeded", outcome
    assert notes.complete(), notes.shown()


async def test_a_frozen_node_is_noticed_and_found_again(managed: Managed, node: Node) -> None:
    notes = Notes()
    task = await begin(managed, node, notes)
    node.freeze()
    await until(lambda: not managed.connected, 30)
    node.thaw()
    node.run("touch /run/go")
    outcome = await task
    assert outcome.state == "succeeded", outcome
    assert notes.complete(), notes.shown()


async def test_a_node_that_stays_away_is_given_up_at_the_deadline(managed: Managed, node: Node) -> None:
    notes = Notes()
    digest = await hand_over(managed, wanted(node))
    deployment = ids.new()
    task = asyncio.create_task(managed.apply(deployment, digest, None, 1, notes, within=6))
    await until(lambda: notes.at_gate)
    node.freeze()
    with pytest.raises((NodeLost, DeadlinePassed)) as caught:
        await task
    assert caught.value.reaction == "retry"
    node.thaw()
    node.run("touch /run/go")
    later = await managed.status(deployment, len(notes.events), notes, within=60)
    assert later.state == "succeeded"
    assert notes.complete(), notes.shown()


async def test_an_apply_that_is_let_go_of_goes_on(managed: Managed, node: Node) -> None:
    """The task that follows it is cancelled at once; the node's work is not, and is found again."""
    notes = Notes()
    task = await begin(managed, node, notes)
    task.cancel()
    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await task
    running = (await managed.hello()).running
    assert running
    node.run("touch /run/go")
    outcome = await managed.status(running, len(notes.events), notes, within=60)
    assert (outcome.state, outcome.cancelled) == ("succeeded", False)
    assert notes.complete(), notes.shown()


async def test_an_apply_may_be_let_go_of_while_packets_are_dropped(node: Node, panel: KeyPair) -> None:
    """With an hour's keepalive, neither the call nor closing waits for the node."""
    await enrol(operator(node), panel)
    install_gate(node)
    pool = Pool(manner=replace(MANNER, keepalive=Keepalive(3600, 1)))
    async with pool.node(panel_target(node, panel)) as managed:
        notes = Notes()
        task = await begin(managed, node, notes)
        with faults.dropped_port(node):
            task.cancel()
            async with asyncio.timeout(5):
                with pytest.raises(asyncio.CancelledError):
                    await task
            async with asyncio.timeout(15):
                await pool.close()
    node.run("touch /run/go")
    async with Pool(manner=MANNER) as other, other.node(panel_target(node, panel)) as managed:
        deployment = sorted(path.name for path in (node.root / "var/lib/panel/journal").iterdir())[-1]
        outcome = await managed.status(deployment, within=60)
        assert outcome.state == "succeeded", outcome


async def test_a_cancelled_apply_that_loses_its_power_is_settled(managed: Managed, node: Node) -> None:
    """The cancel is on the disk, the power goes before the runner has put anything back."""
    node.run("mkdir -p /etc/systemd/system/panel-gate.service.d")
    node.write(
        f"/etc/systemd/system/{GATE}.d/slow.conf",
        "[Service]\nExecStopPost=/bin/sleep 60\nTimeoutStopSec=90\n",
    )
    node.run("systemctl daemon-reload")
    notes = Notes()
    task = await begin(managed, node, notes)
    running = (await managed.units([GATE]))[GATE]
    assert running.active == "activating"
    deployment = sorted(path.name for path in (node.root / "var/lib/panel/journal").iterdir())[-1]
    assert await managed.cancel(deployment, 1) == "stopping"
    await asyncio.sleep(0.5)
    node.crash()
    node.start()
    await asyncio.to_thread(node.wait_ssh)
    outcome = await task
    assert (outcome.state, outcome.cancelled) == ("interrupted", True)
    assert await managed.cancel(deployment, 1) == "ended"
    node.run(f"rm -r /etc/systemd/system/{GATE}.d; systemctl daemon-reload; touch /run/go")
    notes = Notes()
    outcome = await (await begin(managed, node, notes))
    assert (outcome.state, outcome.cancelled) == ("succeeded", False)
    assert (node.root / SECOND[1:]).read_bytes() == BODIES[SECOND]


async def test_after_a_power_cut_the_doubt_is_named_and_settled(managed: Managed, node: Node) -> None:
    notes = Notes()
    task = await begin(managed, node, notes)
    node.crash()
    node.start()
    await asyncio.to_thread(node.wait_ssh)
    outcome = await task
    assert outcome.state == "interrupted", outcome
    assert outcome.doubt == f"unit:{GATE}"

    node.run("touch /run/go")
    notes = Notes()
    outcome = await (await begin(managed, node, notes))
    assert outcome.state == "succeeded", outcome
    assert (node.root / SECOND[1:]).read_bytes() == BODIES[SECOND]


def other_version(folder: Path) -> AgentProgram:
    """The same agent with one more file: another version."""
    source = Path(agentzip.__file__).parent.parent / "agent"
    for path in source.rglob("*.py"):
        target = folder / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    (folder / "more.py").write_text("")
    return agentzip.pack(folder)


async def test_an_agent_is_renewed_through_itself(node: Node, panel: KeyPair, tmp_path: Path) -> None:
    old = other_version(tmp_path)
    assert (await enrol(operator(node), panel, program=old)).agent == old.sha256
    async with Pool(manner=MANNER) as pool, pool.node(panel_target(node, panel)) as managed:
        assert (await managed.ready()).agent == agentzip.build().sha256
        installed = (node.root / AGENT_PATH[1:]).read_bytes()
        assert hashlib.sha256(installed).hexdigest() == agentzip.build().sha256
        assert node.output(f"stat -c '%a %U %G' {AGENT_PATH}") == "755 root root"
        assert not (await managed.check("0" * 64)).known


async def test_an_agent_is_not_replaced_under_a_running_apply(
    node: Node, panel: KeyPair, tmp_path: Path
) -> None:
    old = other_version(tmp_path)
    await enrol(operator(node), panel, program=old)
    install_gate(node)
    target = panel_target(node, panel)
    async with Pool(manner=replace(MANNER, program=old)) as before, Pool(manner=MANNER) as after:
        notes = Notes()
        async with before.node(target) as first:
            task = await begin(first, node, notes)
            async with after.node(target) as second:
                assert (await second.ready()).agent == old.sha256
                node.run("touch /run/go")
                assert (await task).state == "succeeded"
                assert (await second.ready()).agent == agentzip.build().sha256
