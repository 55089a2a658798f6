"""Two daemons on one real node: the one with the smaller fence changes nothing, neither by an apply nor by a cancel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from lab import Node
from reconciler.errors import Fenced
from reconciler.kit import ids
from reconciler.kit.canonical import Json
from reconciler.nodes import agentzip, keys
from reconciler.nodes.answers import Outcome
from reconciler.nodes.connection import Keepalive
from reconciler.nodes.enrol import enrol
from reconciler.nodes.keys import KeyPair
from reconciler.nodes.node import Manner
from reconciler.nodes.node import Node as Managed
from reconciler.nodes.pool import Pool
from tests.nodes.labs import operator, panel_target
from tests.nodes.small_bundle import FIRST, GATE, SECOND, Notes, bundle, hand_over, install_gate

MANNER = Manner(agentzip.build(), keepalive=Keepalive(1, 3), first_wait=0.1, longest_wait=0.5)
STALE, CURRENT = 6, 7


@pytest.fixture
def panel() -> KeyPair:
    return keys.generate()


@pytest.fixture
async def enrolled(debian_node: Node, panel: KeyPair) -> Node:
    """A server that two daemons may log in to."""
    await enrol(operator(debian_node), panel)
    install_gate(debian_node)
    return debian_node


@asynccontextmanager
async def daemon(node: Node, panel: KeyPair) -> AsyncIterator[Managed]:
    """What one daemon has of the node: a connection of its own."""
    async with Pool(manner=MANNER) as pool, pool.node(panel_target(node, panel)) as managed:
        yield managed


def wanted(*, gate: bool = True) -> dict[str, Json]:
    return bundle("apt", gate=gate)


async def begin(managed: Managed, deployment: str, fence: int) -> tuple[asyncio.Task[Outcome], Notes]:
    """An apply that stands at the gate."""
    notes = Notes()
    digest = await hand_over(managed, wanted())
    task = asyncio.create_task(managed.apply(deployment, digest, None, fence, notes, within=120))
    async with asyncio.timeout(60):
        while not notes.at_gate:
            assert not task.done(), task.result()
            await asyncio.sleep(0.02)
    return task, notes


def exists(node: Node, path: str) -> bool:
    return (node.root / path[1:]).exists()


async def test_a_stale_daemon_neither_applies_nor_cancels(enrolled: Node, panel: KeyPair) -> None:
    async with daemon(enrolled, panel) as old, daemon(enrolled, panel) as new:
        deployment = ids.new()
        task, notes = await begin(new, deployment, CURRENT)
        digest = await old.send_bundle(wanted(gate=False))
        for known in (deployment, ids.new()):
            with pytest.raises(Fenced, match=f"fence {CURRENT}"):
                await old.cancel(known, STALE)
        with pytest.raises(Fenced):
            await old.apply(ids.new(), digest, None, STALE, within=60)
        assert not task.done()
        enrolled.run("touch /run/go")
        outcome = await task
        assert (outcome.state, outcome.cancelled) == ("succeeded", False)
        assert notes.complete(), notes.shown()
        assert not any(event.type == "cancelled" for event in notes.events)
        assert (await new.check((await new.hello()).bundle)).in_sync
        assert (await new.hello()).fence == CURRENT


async def test_a_newer_daemon_stops_what_an_older_one_has_begun(enrolled: Node, panel: KeyPair) -> None:
    """The older one sees the end of its apply, and is refused from then on."""
    async with daemon(enrolled, panel) as old, daemon(enrolled, panel) as new:
        deployment = ids.new()
        task, _ = await begin(old, deployment, STALE)
        assert exists(enrolled, FIRST)
        assert await new.cancel(deployment, CURRENT) == "stopping"
        outcome = await task
        assert (outcome.state, outcome.cancelled) == ("failed", True)
        section = outcome.sections["Server/web1"]
        assert (section.state, section.message, section.kept) == ("failed", "cancelled", ())
        assert not exists(enrolled, FIRST)
        assert not exists(enrolled, SECOND)
        assert (await new.units([GATE]))[GATE].active == "inactive"
        assert enrolled.run("pgrep -f '[u]ntil . -e /run/go'", check=False).returncode == 1

        for known in (deployment, ids.new()):
            with pytest.raises(Fenced):
                await old.cancel(known, STALE)
        digest = await hand_over(old, wanted(gate=False))
        with pytest.raises(Fenced):
            await old.apply(ids.new(), digest, None, STALE, within=60)
        assert not exists(enrolled, FIRST)
        result = await new.apply(ids.new(), digest, None, CURRENT, within=60)
        assert result.state == "succeeded", result
        assert exists(enrolled, FIRST)


async def test_a_power_cut_does_not_let_the_stale_daemon_in(enrolled: Node, panel: KeyPair) -> None:
    """The cancel of the newer one is all that the node knows its fence from."""
    async with daemon(enrolled, panel) as new:
        assert await new.cancel(ids.new(), CURRENT) == "unknown"
    enrolled.crash()
    enrolled.start()
    await asyncio.to_thread(enrolled.wait_ssh)
    async with daemon(enrolled, panel) as old:
        assert (await old.ready()).fence == CURRENT
        digest = await hand_over(old, wanted(gate=False))
        with pytest.raises(Fenced):
            await old.apply(ids.new(), digest, None, STALE, within=60)
        with pytest.raises(Fenced):
            await old.cancel(ids.new(), STALE)
    assert not exists(enrolled, FIRST)


async def test_a_cancel_that_overtakes_its_apply_keeps_the_node_as_it_is(
    enrolled: Node, panel: KeyPair
) -> None:
    """A daemon whose link was lost cancels without knowing whether its apply arrived; then the apply does."""
    async with daemon(enrolled, panel) as managed:
        digest = await hand_over(managed, wanted(gate=False))
        deployment = ids.new()
        assert await managed.cancel(deployment, CURRENT) == "unknown"
        outcome = await managed.apply(deployment, digest, None, CURRENT, within=60)
        assert (outcome.state, outcome.cancelled) == ("failed", True)
        assert {part.state for part in outcome.sections.values()} == {"skipped"}
        assert not exists(enrolled, FIRST)


async def test_the_daemon_in_charge_cancels_its_own_apply_over_one_connection(
    enrolled: Node, panel: KeyPair
) -> None:
    async with daemon(enrolled, panel) as managed:
        deployment = ids.new()
        task, notes = await begin(managed, deployment, CURRENT)
        before = enrolled.output("pgrep -c -u panel sshd")
        assert (await managed.units([GATE, "no-such.service"]))["no-such.service"].load == "not-found"
        assert await managed.cancel(deployment, CURRENT) == "stopping"
        outcome = await task
        assert outcome.cancelled
        assert notes.complete(), notes.shown()
        assert enrolled.output("pgrep -c -u panel sshd") == before
        assert await managed.cancel(deployment, CURRENT) == "ended"
