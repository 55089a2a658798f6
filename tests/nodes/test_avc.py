"""Asking a node for denials over SSH: beside an apply, by the real agent, and what is no answer."""

from __future__ import annotations

import shlex
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import AgentFault
from reconciler.nodes import agentzip
from reconciler.nodes.answers import Denied, Gap
from reconciler.nodes.connection import Keepalive
from reconciler.nodes.node import Manner
from reconciler.nodes.pool import Pool
from tests.agent.auditing import AuditLog, avc

from .loopback import Loopback, running, until
from .plays import PROGRAM, Play, event, hello, ok, outcome
from .test_aside import begin

CURSOR: dict[str, Any] = {"machine": "m", "inode": 1, "offset": 2, "first": "f", "at": 3.5, "told": []}
ONE = {"lines": ["type=AVC"], "count": 2, "first": 1769860800, "last": 1769860801.5}
ANSWER = {"log": True, "now": 1769860900.25, "cursor": CURSOR, "gap": None, "events": [ONE], "more": False}


@pytest.fixture
def play(tmp_path: Path) -> Play:
    return Play(tmp_path)


@pytest.fixture
async def pool(play: Play, sshd: Loopback) -> AsyncIterator[Pool]:
    manner = Manner(PROGRAM, command=play.command, keepalive=Keepalive(1, 2))
    async with Pool(manner=manner) as opened:
        yield opened


async def test_denials_are_asked_for_while_an_apply_is_followed(
    pool: Pool, play: Play, sshd: Loopback
) -> None:
    play.then(hello(), [event(1), {"until": "stopped"}, outcome("succeeded")])
    play.then([ok(ANSWER)])
    async with pool.node(sshd.target) as node:
        task = await begin(node, play)
        found = await node.avc(None, 10)
        assert play.asked()[-1] == {"id": 1, "op": "avc", "cursor": None, "most": 10}
        assert (found.log, found.now, found.cursor, found.more) == (True, 1769860900.25, CURSOR, False)
        assert found.events == (Denied(("type=AVC",), 2, 1769860800.0, 1769860801.5),)
        assert not task.done()
        await until(lambda: len(running(str(play.folder))) == 1)
        (play.folder / "stopped").touch()
        assert (await task).state == "succeeded"
    assert len(sshd.sessions()) == 1


async def test_a_pool_knows_which_connections_are_open(pool: Pool, play: Play, sshd: Loopback) -> None:
    play.then(hello(), [ok({**ANSWER, "gap": {"from": None, "to": 5, "reason": "rotated"}})])
    assert pool.open() == {}
    async with pool.node(sshd.target) as node:
        pass
    assert pool.open() == {sshd.target.server: node}
    assert (await pool.open()[sshd.target.server].avc(CURSOR, 1)).gap == Gap(None, 5.0, "rotated")
    await node.close()
    assert pool.open() == {}


@pytest.mark.parametrize(
    "wrong",
    [
        {"log": None},
        {"now": "noon"},
        {"now": True},
        {"now": -1},
        {"now": 1e300},
        {"cursor": []},
        {"cursor": {"told": ["x" * 20_000]}},
        {"cursor": {"first": "\ud800"}},
        {"gap": {"from": 1, "to": 2, "reason": "lost"}},
        {"more": 1},
        {"gap": "yes"},
        {"gap": {"from": "x", "to": None, "reason": "rotated"}},
        {"events": {}},
        {"events": [{**ONE, "count": 0}]},
        {"events": [{**ONE, "lines": [1]}]},
        {"events": [{**ONE, "first": None}]},
        {"events": [ONE] * 11},
    ],
    ids=lambda wrong: str(wrong)[:50],
)
async def test_what_is_no_answer_is_the_agents_fault(
    pool: Pool, play: Play, sshd: Loopback, wrong: dict[str, Any]
) -> None:
    play.then(hello(), [ok({**ANSWER, **wrong})])
    async with pool.node(sshd.target) as node:
        with pytest.raises(AgentFault) as caught:
            await node.avc(None, 10)
        assert caught.value.code == "protocol"


async def test_the_real_agent_tells_its_denials_over_ssh(sshd: Loopback, tmp_path: Path) -> None:
    program = tmp_path / "panel-ssh-manager"
    program.write_bytes(agentzip.build().data)
    root = tmp_path / "root"
    for folder in ("etc/panel", "var/lib", "run", "tmp"):
        (root / folder).mkdir(parents=True)
    log = AuditLog(root / "var/log/audit")
    command = f"PANEL_ROOT={root} exec {shlex.join([sys.executable, '-I', str(program), 'serve'])}"
    async with Pool(manner=Manner(agentzip.build(), command)) as pool, pool.node(sshd.target) as node:
        assert not (await node.avc(None, 10)).log
        for n in range(100):
            log.write(*avc(1769860800 + n, n))
        found = await node.avc(None, 10)
        assert [(one.count, len(one.lines)) for one in found.events] == [(100, 5)]
        log.rotate()
        log.write(*avc(1769860999, 999))
        again = await node.avc(found.cursor, 10)
        assert [(one.count, again.gap, again.more) for one in again.events] == [(1, None, False)]
        with pytest.raises(AgentFault, match="most is not a number"):
            await node.avc(found.cursor, 0)
