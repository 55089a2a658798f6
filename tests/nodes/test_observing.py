"""What a pool tells its observer: logins, failed logins, answered requests."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from reconciler.errors import AccessDenied, Fenced, HostKeyMismatch, NodeLost, NodeUnreachable
from reconciler.nodes import keys
from reconciler.nodes.node import Manner
from reconciler.nodes.observing import Observer
from reconciler.nodes.pool import Pool

from .loopback import Loopback, free_port
from .plays import DEPLOYMENT, DIGEST, PROGRAM, Play, event, hello, no, ok, outcome


@dataclass
class Tally:
    """Everything that was told."""

    logins: list[str] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def connected(self, server: str, seconds: float) -> None:
        self.logins.append(server)
        self.seconds.append(seconds)

    def failed(self, server: str, reason_word: str) -> None:
        self.failures.append((server, reason_word))

    def answered(self, op: str, seconds: float) -> None:
        self.answers.append(op)
        self.seconds.append(seconds)


@pytest.fixture
def play(tmp_path: Path) -> Play:
    return Play(tmp_path)


@pytest.fixture
def tally() -> Tally:
    return Tally()


def pool(play: Play, tally: Observer) -> Pool:
    return Pool(
        manner=Manner(PROGRAM, command=play.command, first_wait=0.05, longest_wait=0.1), observer=tally
    )


async def test_logins_and_answers_are_told(play: Play, tally: Tally, sshd: Loopback) -> None:
    play.then(hello(), [ok({"in_sync": True})], [no("fenced")])
    async with pool(play, tally) as opened, opened.node(sshd.target) as node:
        await node.check(DIGEST)
        with pytest.raises(Fenced):
            await node.cancel(DEPLOYMENT, 1)
    assert (tally.logins, tally.failures) == (["web1"], [])
    assert tally.answers == ["hello", "check", "cancel"]
    assert all(0 < seconds < 60 for seconds in tally.seconds)


async def test_a_request_without_an_answer_is_not_told_as_answered(
    play: Play, tally: Tally, sshd: Loopback
) -> None:
    play.then(hello(), [event(1), {"die": True}]).then(hello(), [event(2), outcome()])
    async with pool(play, tally) as opened, opened.node(sshd.target) as node:
        await node.apply(DEPLOYMENT, DIGEST, None, 1, within=30)
    assert tally.answers == ["hello", "hello", "status"]
    assert tally.logins == ["web1", "web1"]


async def test_a_failed_login_is_told_by_the_name_of_its_fault(
    play: Play, tally: Tally, sshd: Loopback
) -> None:
    other = keys.generate()
    targets = {
        NodeUnreachable: replace(sshd.target, port=free_port()),
        AccessDenied: replace(sshd.target, private_key=other.private),
        HostKeyMismatch: replace(sshd.target, host_keys=(other.public,)),
    }
    async with pool(play, tally) as opened:
        for fault, target in targets.items():
            with pytest.raises(fault):
                async with opened.node(target):
                    pytest.fail("a login that must fail")
    assert tally.failures == [
        ("web1", "NodeUnreachable"),
        ("web1", "AccessDenied"),
        ("web1", "HostKeyMismatch"),
    ]
    assert (tally.logins, tally.answers) == ([], [])


async def test_an_agent_that_dies_at_once_is_a_login_without_an_answer(
    play: Play, tally: Tally, sshd: Loopback
) -> None:
    play.then([{"die": True}])
    async with pool(play, tally) as opened:
        with pytest.raises(NodeLost):
            async with opened.node(sshd.target):
                pytest.fail("a dead agent was given")
    assert (tally.logins, tally.failures, tally.answers) == (["web1"], [], [])
