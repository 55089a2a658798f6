"""The conversation against a scripted agent behind a real sshd: what is understood, and what every kind of nonsense becomes."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from reconciler.errors import (
    AccessDenied,
    AgentFault,
    DeadlinePassed,
    Fenced,
    NodeBusy,
    NodeLost,
    NotEnrolled,
)
from reconciler.nodes import conversation as module
from reconciler.nodes.answers import Event, FieldChange
from reconciler.nodes.channel import LINE_LIMIT
from reconciler.nodes.connection import Connection
from reconciler.nodes.conversation import Conversation

from .loopback import running, until
from .plays import DEPLOYMENT, DIGEST, PROGRAM, Act, Play, event, hello, no, ok, outcome


@pytest.fixture
def play(tmp_path: Path) -> Play:
    return Play(tmp_path)


@asynccontextmanager
async def talk(connection: Connection, play: Play, *requests: list[Act]) -> AsyncIterator[Conversation]:
    play.then(*requests)
    async with await Conversation.open(connection, play.command) as agent:
        yield agent


async def test_hello_tells_the_facts_and_unknown_fields_are_passed_over(
    connection: Connection, play: Play
) -> None:
    async with talk(connection, play, hello(of_tomorrow=[1])) as agent:
        answer = await agent.hello()
    assert (answer.agent, answer.bundle, answer.running) == (PROGRAM.sha256, "", "")
    assert (answer.facts.os_id, answer.facts.package_manager) == ("almalinux", "dnf")
    assert play.asked() == [{"id": 1, "op": "hello", "protocol": 1}]


async def test_check_tells_the_differences(connection: Connection, play: Play) -> None:
    difference = {
        "section": "Site/shop",
        "key": "file:/etc/nginx/conf.d/shop.conf",
        "action": "update",
        "changes": [{"field": "mode", "from": "0644", "to": "0600"}],
    }
    answers = ([ok({"in_sync": False, "differences": [difference]})], [ok({"in_sync": True})])
    async with talk(connection, play, *answers) as agent:
        first = await agent.check(DIGEST)
        second = await agent.check(DIGEST, ["Site/shop"])
    assert first.known
    assert not first.in_sync
    assert first.differences[0].changes == (FieldChange("mode", "0644", "0600"),)
    assert second.in_sync
    assert "sections" not in play.asked()[0]
    assert play.asked()[1]["sections"] == ["Site/shop"]


async def test_an_unknown_bundle_is_an_answer_not_an_error(connection: Connection, play: Play) -> None:
    async with talk(connection, play, [no("unknown_bundle")], hello()) as agent:
        answer = await agent.check(DIGEST)
        assert (answer.known, answer.in_sync) == (False, False)
        await agent.hello()  # a refusal ends nothing


async def test_a_large_body_travels_in_parts(connection: Connection, play: Play) -> None:
    body = bytes(range(256)) * 40_000  # 10 MB: three parts
    async with talk(connection, play, [ok({})], [ok({})], [ok({})], [ok({})]) as agent:
        assert await agent.send_blob(body) == hashlib.sha256(body).hexdigest()
        await agent.send_blob(b"")
    *parts, empty = play.asked()
    assert b"".join(base64.b64decode(part["data"]) for part in parts) == body
    assert [part["more"] for part in parts] == [True, True, False]
    assert (empty["data"], empty["more"]) == ("", False)


async def test_apply_gives_the_events_in_order_and_the_outcome(connection: Connection, play: Play) -> None:
    seen: list[Event] = []

    async def note(item: Event) -> None:
        await asyncio.sleep(0)
        seen.append(item)

    acts = [event(1, section="Site/shop", key="file:/x", seconds=2), event(2, text="ü\x00"), outcome()]
    async with talk(connection, play, acts) as agent:
        result = await agent.apply(DEPLOYMENT, DIGEST, None, 7, note)
    assert [(item.n, item.section, dict(item.data)) for item in seen] == [
        (1, "Site/shop", {"seconds": 2}),
        (2, "", {"text": "ü\x00"}),
    ]
    assert result.state == "succeeded"
    assert result.sections["Site/shop"].kept == ("package:nginx",)
    assert play.asked()[0]["fence"] == 7
    assert play.asked()[0]["sections"] is None


async def test_prepare_bundle_status_and_upgrade_are_asked_as_agreed(
    connection: Connection, play: Play
) -> None:
    answers = (
        [ok({"digest": DIGEST})],
        [ok({"differences": [], "wants": ["c" * 64]})],
        [outcome("interrupted")],
        [ok({"agent": PROGRAM.sha256})],
    )
    async with talk(connection, play, *answers) as agent:
        assert await agent.send_bundle({"format": 1}) == DIGEST
        assert (await agent.prepare(DIGEST, ["Site/shop"])).wants == ("c" * 64,)
        assert (await agent.status(DEPLOYMENT, 4)).state == "interrupted"
        await agent.upgrade(PROGRAM)
        assert agent.closed
    _, prepare, status, upgrade = play.asked()
    assert (prepare["digest"], prepare["sections"]) == (DIGEST, ["Site/shop"])
    assert (status["deployment"], status["from"]) == (DEPLOYMENT, 4)
    assert base64.b64decode(upgrade["data"]) == PROGRAM.data
    assert upgrade["sha256"] == PROGRAM.sha256


@pytest.mark.parametrize(
    "acts",
    [
        [{"raw": "not json\n"}],
        [{"raw": "[1, 2]\n"}],
        [{"raw": "\xff\xfe\n"}],
        [{"raw": "[" * 100_000 + "\n"}],
        [{"huge": LINE_LIMIT}],
        [{"raw": '{"id": 99, "ok": true, "result": {}}\n'}],
        [{"raw": '{"id": null, "ok": false, "error": {"code": "bad_request"}}\n'}],
        [{"send": {"ok": True}}],
        [{"send": {"ok": False}}],
        [{"send": {"event": {"n": "one"}}}],
        [ok({"protocol": 2})],
        [ok({"protocol": 1, "agent": 5, "facts": {}})],
        [ok({"protocol": 1, "agent": "x", "fence": True, "facts": {}})],
    ],
    ids=lambda acts: str(acts)[:40],
)
async def test_an_answer_outside_the_protocol_is_the_agents_fault(
    connection: Connection, play: Play, acts: list[Act]
) -> None:
    async with talk(connection, play, acts) as agent:
        with pytest.raises(AgentFault) as caught:
            await agent.hello()
    assert caught.value.server == "web1"
    assert len(caught.value.message) < 1000
    assert (await connection.run("true", within=10)).exit_status == 0


@pytest.mark.parametrize(
    ("status", "said", "error"),
    [
        (1, "sudo: a password is required\n", AccessDenied),
        (
            1,
            "Sorry, user panel is not allowed to execute '/usr/bin/x' as root on web1.\nsudo: x",
            AccessDenied,
        ),
        (1, "sudo: /usr/bin/panel-ssh-manager: command not found\n", NotEnrolled),
        (127, "sh: 1: exec: sudo: not found\n", NotEnrolled),
        (
            127,
            "panel-ssh-manager: neither /usr/bin/python3 nor /usr/libexec/platform-python is here\n",
            NotEnrolled,
        ),
        (1, "Traceback (most recent call last):\nMemoryError\n", AgentFault),
        (0, "", AgentFault),
    ],
)
async def test_an_early_end_is_told_by_what_was_said(
    connection: Connection, play: Play, status: int, said: str, error: type[Exception]
) -> None:
    async with talk(connection, play, [{"warn": said}, {"exit": status}]) as agent:
        with pytest.raises(error, match="web1"):
            await agent.hello()


async def test_a_missing_program_is_not_enrolled(connection: Connection) -> None:
    async with await Conversation.open(connection, "exec /nowhere/panel-ssh-manager serve") as agent:
        with pytest.raises(NotEnrolled):
            await agent.hello()


async def test_the_end_of_the_session_in_an_apply_is_a_lost_node(connection: Connection, play: Play) -> None:
    async with talk(connection, play, [event(1), {"die": True}]) as agent:
        with pytest.raises(NodeLost):
            await agent.apply(DEPLOYMENT, DIGEST, None, 1)
        with pytest.raises(NodeLost):
            await agent.hello()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (no("fenced"), Fenced),
        (no("missing_blobs", wants=[]), AgentFault),
        (no("unknown_deployment"), AgentFault),
    ],
)
async def test_a_refusal_becomes_its_own_error(
    connection: Connection, play: Play, answer: Act, error: type[Exception]
) -> None:
    async with talk(connection, play, [answer], hello()) as agent:
        with pytest.raises(error):
            await agent.apply(DEPLOYMENT, DIGEST, None, 1)
        await agent.hello()


async def test_a_busy_node_names_the_other_deployment(connection: Connection, play: Play) -> None:
    async with talk(connection, play, [no("busy", deployment="other")]) as agent:
        with pytest.raises(NodeBusy) as caught:
            await agent.apply(DEPLOYMENT, DIGEST, None, 1)
    assert caught.value.deployment == "other"


async def test_a_late_answer_is_a_passed_deadline_and_ends_the_agent(
    connection: Connection, play: Play
) -> None:
    async with talk(connection, play, [event(1), {"sleep": 60}]) as agent:
        with pytest.raises(DeadlinePassed, match="'apply'"):
            await agent.apply(DEPLOYMENT, DIGEST, None, 1, within=1)
        assert agent.closed
    await until(lambda: not running(str(play.folder)))


async def test_a_cancelled_call_ends_the_agent(connection: Connection, play: Play) -> None:
    async with talk(connection, play, [{"sleep": 60}]) as agent:
        call = asyncio.create_task(agent.hello())
        await until(play.asked)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert agent.closed
    await until(lambda: not running(str(play.folder)))


async def test_a_request_over_the_limit_of_a_line_is_not_sent(connection: Connection, play: Play) -> None:
    async with talk(connection, play, hello()) as agent:
        with pytest.raises(AgentFault, match="over the limit"):
            await agent.send_bundle({"x": "y" * LINE_LIMIT})
    assert play.asked() == []


async def test_requests_of_two_tasks_take_turns(connection: Connection, play: Play) -> None:
    async with talk(connection, play, [{"sleep": 0.3}, *hello()], [ok({"in_sync": True})]) as agent:
        first, second = await asyncio.gather(agent.hello(), agent.check(DIGEST))
    assert first.agent == PROGRAM.sha256
    assert second.in_sync


def test_a_part_of_a_body_fits_a_line() -> None:
    assert module.BLOB_PART * 4 / 3 + 1000 < LINE_LIMIT
