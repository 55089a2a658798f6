"""All checks of a target together, units and denials, and how the manifests' models become checks."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest

from reconciler.desired.kinds.health import ServerCheck, SiteCheck
from reconciler.errors import NodeUnreachable
from reconciler.loop import health
from reconciler.loop.health import (
    AvcCheck,
    CertificateCheck,
    Check,
    CommandCheck,
    HealthResult,
    HealthTarget,
    HttpCheck,
    UnitCheck,
)
from reconciler.loop.probes import node
from reconciler.nodes.answers import UnitState

from .health_servers import NOON, Played, answer, closed_port, web

WEB1 = HealthTarget("Server", "web1", "web1", "127.0.0.1")
SINCE = NOON - timedelta(minutes=2)
UP = UnitState("active", "running", "success", 0, "web server")
DOWN = UnitState("failed", "failed", "exit-code", 3, "PHP of shop")


async def check(
    target: HealthTarget, checks: list[Check], prober: Played | None = None
) -> tuple[HealthResult, ...]:
    commands = {"smoke": ("/bin/true", "{domain}"), "broken": ("/bin/false",)}
    async with asyncio.timeout(60):
        return await health.check(
            target, checks, prober or Played(), clock=lambda: NOON, since=SINCE, commands=commands
        )


async def test_results_come_in_the_order_of_the_checks() -> None:
    prober = Played({"nginx.service": UP, "php@shop.service": DOWN}, number=1)
    checks: list[Check] = [
        UnitCheck("php@shop.service"),
        HttpCheck("/a", contains="hello"),
        CommandCheck("smoke"),
        AvcCheck(1),
        UnitCheck("nginx.service"),
        HttpCheck("/b", status=frozenset({404})),
        CommandCheck("broken"),
        AvcCheck(0),
    ]
    async with web(answer()) as server:
        found = await check(server.target(), checks, prober)
    assert [(one.check, one.ok, one.message) for one in found] == [
        ("unit php@shop.service", False, "php@shop.service is failed (result exit-code, 3 restarts)"),
        ("http /a", True, "answered 200 with 'hello'"),
        ("command smoke", True, "ended with 0"),
        ("avc", True, "1 denial on web1 since 2026-03-01T11:58:00Z"),
        ("unit nginx.service", True, "nginx.service is active"),
        ("http /b", False, "answered 200, expected 404"),
        ("command broken", False, "ended with 1"),
        ("avc", False, "1 denial on web1 since 2026-03-01T11:58:00Z, at most 0 expected"),
    ]
    assert all(one.seconds >= 0 for one in found)


async def test_all_checks_are_made_at_once() -> None:
    both = asyncio.Barrier(2)

    async def together(_request: bytes, writer: asyncio.StreamWriter) -> None:
        await both.wait()  # answers the first only when the second is there
        await answer()(_request, writer)

    async with web(together) as server:
        found = await check(server.target(), [HttpCheck("/a", timeout=30), HttpCheck("/b", timeout=30)])
    assert [one.ok for one in found] == [True, True]


async def test_no_checks_have_no_results() -> None:
    assert await check(WEB1, []) == ()


async def test_the_node_is_asked_once_for_all_units() -> None:
    prober = Played({"a.service": UP, "b.service": UP})
    await check(WEB1, [UnitCheck("b.service"), UnitCheck("a.service"), UnitCheck("b.service")], prober)
    assert prober.asked == [("web1", ("a.service", "b.service"))]


@pytest.mark.parametrize(
    ("state", "ok", "message"),
    [
        (UP, True, "x.service is active"),
        (UnitState("active", "exited", "success", 0, ""), True, "x.service is active"),
        (UnitState("reloading", "reload", "success", 0, ""), True, "x.service is reloading"),
        (UnitState("activating", "auto-restart", "exit-code", 7, ""), False,
         "x.service is activating (auto-restart, result exit-code, 7 restarts)"),
        (UnitState("inactive", "dead", "success", 0, ""), False, "x.service is inactive (dead)"),
        (UnitState("inactive", "dead", "success", 0, "", "not-found"), False, "there is no x.service on the node"),
        (UnitState("inactive", "dead", "", 0, "", "masked"), False, "x.service is inactive (dead)"),
    ],
)  # fmt: skip
async def test_a_unit_passes_while_it_does_its_work(state: UnitState, ok: bool, message: str) -> None:
    (found,) = await check(WEB1, [UnitCheck("x.service")], Played({"x.service": state}))
    assert (found.ok, found.message) == (ok, message)


async def test_a_unit_the_node_does_not_speak_of_fails() -> None:
    (found,) = await check(WEB1, [UnitCheck("x.service")], Played({}))
    assert not found.ok


async def test_a_node_that_cannot_be_asked_fails_its_checks_alone() -> None:
    gone = NodeUnreachable("web1", "no route to 203.0.113.10")
    async with web(answer()) as server:
        found = await check(
            server.target(), [UnitCheck("a.service"), UnitCheck("b.service"), AvcCheck(), HttpCheck()], Played(gone, gone)
        )  # fmt: skip
    assert [one.ok for one in found] == [False, False, False, True]
    assert found[0].message == found[2].message == "web1: no route to 203.0.113.10"


async def test_a_node_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging(Played):
        async def denials(self, server: str, since: object) -> int:
            await asyncio.Event().wait()
            raise AssertionError

    monkeypatch.setattr(node, "SECONDS", 0.2)
    (found,) = await check(WEB1, [AvcCheck()], Hanging())
    assert found.message == "the node did not answer within 0.2 s"


async def test_denials_before_the_change_are_not_asked_for() -> None:
    prober = Played()
    await check(WEB1, [AvcCheck()], prober)
    assert prober.asked == [("web1", SINCE)]


async def test_a_check_that_cannot_connect_is_a_result_and_not_an_error() -> None:
    target = HealthTarget(
        "Site", "shop", "web1", "127.0.0.1", "shop.example.test", (), closed_port(), closed_port()
    )
    found = await check(target, [HttpCheck(), HttpCheck(scheme="https"), CertificateCheck()])
    assert [one.ok for one in found] == [False, False, False]


def test_the_checks_of_a_manifest_are_read() -> None:
    declared = [
        SiteCheck.model_validate_json(json.dumps({"http": {"path": "/up", "scheme": "https", "status": [200, 204], "contains": "ok", "timeout": "1m30s"}})),
        SiteCheck.model_validate_json(json.dumps({"certificate": {"minDays": 14}})),
        SiteCheck.model_validate_json(json.dumps({"unit": "nginx.service"})),
        SiteCheck.model_validate_json(json.dumps({"command": "smoke"})),
        ServerCheck.model_validate_json(json.dumps({"avc": {"max": 3}})),
    ]  # fmt: skip
    assert health.from_manifest(declared) == (
        HttpCheck("/up", "https", frozenset({200, 204}), "ok", 90.0),
        CertificateCheck(14),
        UnitCheck("nginx.service"),
        CommandCheck("smoke"),
        AvcCheck(3),
    )


def test_the_defaults_of_a_manifest_are_those_of_the_checks() -> None:
    declared = [SiteCheck.model_validate_json(json.dumps({"http": {}})), SiteCheck.model_validate_json(json.dumps({"certificate": {}})), SiteCheck.model_validate_json(json.dumps({"avc": {}}))]  # fmt: skip
    assert health.from_manifest(declared) == (HttpCheck(), CertificateCheck(), AvcCheck())
