"""The real agent, without a node: its file is run through the loopback sshd with everything it touches below a folder."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from reconciler.errors import AgentFault, Fenced
from reconciler.kit import canonical, ids
from reconciler.nodes import agentzip
from reconciler.nodes.agentzip import AgentProgram
from reconciler.nodes.connection import Connection
from reconciler.nodes.conversation import Conversation
from reconciler.nodes.node import Manner
from reconciler.nodes.pool import Pool

from .loopback import Loopback
from .small_bundle import BODIES, FIRST, SECOND, Notes, bundle, hand_over


@pytest.fixture
def program_file(tmp_path: Path) -> Path:
    path = tmp_path / "panel-ssh-manager"
    path.write_bytes(agentzip.build().data)
    path.chmod(0o755)
    for folder in ("etc/panel", "var/lib", "run", "tmp"):
        (tmp_path / "root" / folder).mkdir(parents=True)
    return path


@pytest.fixture
def command(program_file: Path) -> str:
    root = program_file.parent / "root"
    return f"PANEL_ROOT={root} exec {shlex.join([sys.executable, '-I', str(program_file), 'serve'])}"


async def test_a_bundle_is_applied_and_in_sync_afterwards(
    sshd: Loopback, command: str, tmp_path: Path
) -> None:
    wanted = bundle()
    notes = Notes()
    async with Pool(manner=Manner(agentzip.build(), command)) as pool, pool.node(sshd.target) as node:
        assert (await node.ready()).fence == 0
        assert not (await node.check(canonical.digest(wanted))).known
        digest = await hand_over(node, wanted)
        assert digest == canonical.digest(wanted)
        deployment = ids.new()
        outcome = await node.apply(deployment, digest, None, 1, notes, within=60)
        assert (outcome.state, outcome.deployment) == ("succeeded", deployment), outcome
        assert outcome.sections["Server/web1"].changed == 2
        assert notes.complete(), notes.shown()
        answer = await node.check(digest)
        assert (answer.known, answer.in_sync, answer.differences) == (True, True, ())

        (tmp_path / "root" / SECOND[1:]).write_text("changed by hand")
        answer = await node.check(digest)
        assert [(item.key, item.action) for item in answer.differences] == [(f"file:{SECOND}", "update")]
        assert {change.field for change in answer.differences[0].changes} >= {"sha256"}

        told = Notes()
        assert await node.status(deployment, 0, told, within=60) == outcome
        assert told.events == notes.events
        with pytest.raises(Fenced):
            await node.apply(ids.new(), digest, None, 0, within=60)
        with pytest.raises(AgentFault) as caught:
            await node.status(ids.new(), within=60)
        assert caught.value.code == "unknown_deployment"
    assert (tmp_path / "root" / FIRST[1:]).read_bytes() == BODIES[FIRST]


async def test_an_apply_without_its_bodies_names_the_reason(sshd: Loopback, command: str) -> None:
    async with Pool(manner=Manner(agentzip.build(), command)) as pool, pool.node(sshd.target) as node:
        digest = await node.send_bundle(bundle())
        with pytest.raises(AgentFault) as caught:
            await node.apply(ids.new(), digest, None, 1, within=60)
    assert caught.value.code == "missing_blobs"


async def test_a_step_outside_the_vocabulary_is_refused(sshd: Loopback, command: str) -> None:
    evil = bundle()
    evil["sections"] = [{"id": "Server/web1", "needs": [], "steps": [{"type": "run", "key": "run:x"}]}]
    async with Pool(manner=Manner(agentzip.build(), command)) as pool, pool.node(sshd.target) as node:
        with pytest.raises(AgentFault) as caught:
            await node.send_bundle(evil)
        assert caught.value.code == "bad_request"
        assert (await node.hello()).running == ""


async def test_a_program_that_does_not_run_takes_no_ones_place(
    sshd: Loopback, command: str, program_file: Path
) -> None:
    async with await Connection.open(sshd.target) as connection:
        async with await Conversation.open(connection, command) as agent:
            bad = AgentProgram(b"#!/bin/sh\nexit 1\n", "")
            with pytest.raises(AgentFault):
                await agent.upgrade(AgentProgram(bad.data, "0" * 64))
    assert program_file.read_bytes() == agentzip.build().data
