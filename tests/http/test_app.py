"""The application: probes, metrics, webhooks, and what strangers get to read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from reconciler.http import body as reading
from reconciler.http.app import build
from reconciler.http.ports import Health, Readiness
from reconciler.telemetry import labels
from tests.http.daemon import COMMIT, NOW, SECRET, SIGNING, StandIn, digest, github, push, standard, without

MAIN = "/api/webhooks/github/main"


class Stage:
    """The application with a daemon behind it and a client in front."""

    def __init__(self) -> None:
        self.daemon = StandIn()
        self.now: datetime = NOW
        self.app = build(self.daemon, clock=lambda: self.now, heard=self.daemon.hear)
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app), base_url="http://test", trust_env=False
        )

    async def post(self, path: str, content: Any, headers: dict[str, str]) -> httpx.Response:
        return await self.client.post(path, content=content, headers=headers)

    @property
    def result(self) -> str:
        return self.daemon.heard[-1][1]


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    made = Stage()
    async with made.client:
        yield made


async def test_the_probes_say_how_the_daemon_is(stage: Stage) -> None:
    for path, word in (("/healthz", "ok"), ("/readyz", "ready")):
        answer = await stage.client.get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": word})
        assert (await stage.client.head(path)).status_code == 200
    stage.daemon.health = Health(ok=False, detail="the loop's heartbeat is 40 s old")
    stage.daemon.readiness = Readiness(ok=False, reasons=("the lease is held by another daemon",))
    answer = await stage.client.get("/healthz")
    assert (answer.status_code, answer.json()["error"]) == (503, "the loop's heartbeat is 40 s old")
    answer = await stage.client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["reasons"] == ["the lease is held by another daemon"]


async def test_metrics_are_handed_on(stage: Stage) -> None:
    answer = await stage.client.get("/metrics")
    assert answer.content == b"reconciler_up 1\n"
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


def delivery(forge: str, content: bytes) -> dict[str, str]:
    match forge:
        case "github":
            return github(content)
        case "gitlab":
            return {"x-gitlab-token": SECRET, "x-gitlab-event": "Push Hook"}
        case "gitea":
            return {"x-gitea-signature": digest(content), "x-gitea-event": "push"}
        case "forgejo":
            return {"x-forgejo-signature": digest(content), "x-forgejo-event": "push"}
        case _:
            return {"x-signature": f"sha256={digest(content)}"}


@pytest.mark.parametrize("forge", ["github", "gitlab", "gitea", "forgejo", "generic"])
async def test_a_push_to_the_branch_makes_the_daemon_look(stage: Stage, forge: str) -> None:
    path, content = f"/api/webhooks/{forge}/main", push()
    answer = await stage.post(path, content, delivery(forge, content))
    assert (answer.status_code, answer.json()) == (202, {"result": "looking", "fleet": "main"})
    assert stage.daemon.looks == [("main", f"webhook from {forge} of {COMMIT[:12]}")]
    assert stage.daemon.heard == [(forge, "accepted")]
    for ref in ("refs/heads/other", "refs/tags/main", "refs/heads/main/x", ["refs/heads/main"], 5):
        content = push(ref)  # type: ignore[arg-type]
        answer = await stage.post(path, content, delivery(forge, content) | {"x-github-delivery": "d-2"})
        assert answer.status_code == 202
    assert len(stage.daemon.looks) == 1


async def test_a_push_to_another_branch_says_which_one_is_followed(stage: Stage) -> None:
    content = push("refs/heads/other")
    answer = await stage.post(MAIN, content, github(content))
    assert (answer.status_code, answer.json()["result"]) == (202, "ignored")
    assert "branch main" in answer.json()["reason"]
    assert stage.result == "ignored"


async def test_a_standard_webhook_makes_the_daemon_look(stage: Stage) -> None:
    for forge in ("generic", "gitlab"):
        headers = standard(push(), f"msg_{forge}") | {"x-gitlab-event": "Push Hook"}
        answer = await stage.post(f"/api/webhooks/{forge}/signed", push(), headers)
        assert answer.json()["result"] == "looking"
    assert len(stage.daemon.looks) == 2


async def test_a_generic_body_is_json_whatever_curl_calls_it(stage: Stage) -> None:
    headers = delivery("generic", push()) | {"content-type": "application/x-www-form-urlencoded"}
    assert (await stage.post("/api/webhooks/generic/main", push(), headers)).json()["result"] == "looking"


async def test_a_generic_sender_needs_no_body(stage: Stage) -> None:
    answer = await stage.post("/api/webhooks/generic/main", b"", {"x-signature": f"sha256={digest(b'')}"})
    assert answer.json()["result"] == "looking"
    assert stage.daemon.looks == [("main", "webhook from generic")]


async def test_a_form_is_read_as_github_sends_it(stage: Stage) -> None:
    content = urlencode({"payload": push().decode()}).encode()
    headers = github(content) | {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
    assert (await stage.post(MAIN, content, headers)).json()["result"] == "looking"


async def test_a_ping_is_answered_and_other_events_are_let_pass(stage: Stage) -> None:
    answer = await stage.post(MAIN, b'{"zen": "x"}', github(b'{"zen": "x"}', "ping"))
    assert (answer.status_code, answer.json()["result"]) == (200, "pong")
    answer = await stage.post(MAIN, b'{"action": "opened"}', github(b'{"action": "opened"}', "pull_request"))
    assert (answer.status_code, answer.json()["result"]) == (202, "replayed")
    answer = await stage.post(MAIN, b'{"action": "x"}', github(b'{"action": "x"}', "pull_request", "d-2"))
    assert (answer.status_code, answer.json()["result"]) == (202, "ignored")
    assert stage.daemon.looks == []


async def test_a_wrong_signature_is_refused_before_anything_is_parsed(stage: Stage) -> None:
    content = b"{not json"
    answer = await stage.post(MAIN, content, github(content, secret="another"))
    assert answer.status_code == 401
    assert set(answer.json()) == {"error", "hint"}
    assert stage.result == "refused"
    answer = await stage.post(MAIN, content, without(github(content), "x-github-event"))
    assert (answer.status_code, stage.result) == (400, "malformed")
    assert stage.daemon.looks == []


@pytest.mark.parametrize(
    "content",
    [
        b"{not json",
        b"[]",
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"ref": ' + b"9" * 10_000 + b"}",
        b'"text"',
    ],
)
async def test_what_cannot_be_read_is_said_to_be_so(stage: Stage, content: bytes) -> None:
    answer = await stage.post(MAIN, content, github(content))
    assert answer.status_code == 400
    assert "JSON" in answer.json()["error"]
    form = github(content) | {"content-type": "application/x-www-form-urlencoded", "x-github-delivery": "2"}
    form["x-hub-signature-256"] = github(content + b" ")["x-hub-signature-256"]
    answer = await stage.post(MAIN, content + b" ", form)
    assert (answer.status_code, stage.result) == (400, "malformed")
    assert stage.daemon.looks == []


async def test_a_delivery_that_comes_again_does_nothing(stage: Stage) -> None:
    content = push()
    for headers in (github(content), github(content), github(content, delivery="other")):
        assert (await stage.post(MAIN, content, headers)).status_code == 202
    assert [result for _, result in stage.daemon.heard] == ["accepted", "replayed", "replayed"]
    message = standard(content)
    for _ in range(2):
        await stage.post("/api/webhooks/generic/signed", content, message)
    assert len(stage.daemon.looks) == 2
    stage.daemon.secrets["quiet"] = SIGNING
    assert (await stage.post("/api/webhooks/generic/quiet", content, message)).json()["result"] == "looking"
    stage.now += timedelta(hours=2)
    assert (await stage.post(MAIN, content, github(content))).json()["result"] == "looking"


async def test_a_delivery_that_could_not_be_acted_on_may_come_again(stage: Stage) -> None:
    stage.daemon.fault = RuntimeError("the inside: /var/lib/reconciler password=hunter2")
    content = push()
    answer = await stage.post(MAIN, content, github(content))
    assert answer.status_code == 500
    assert answer.json() == {"error": "internal fault", "hint": "the daemon's log says more"}
    assert stage.result == "failed"
    stage.daemon.fault = None
    assert (await stage.post(MAIN, content, github(content))).json()["result"] == "looking"


async def test_no_fault_of_the_inside_is_told(stage: Stage) -> None:
    stage.daemon.fault = RuntimeError("hunter2")
    answer = await stage.client.get("/metrics")
    assert answer.status_code == 500
    assert "hunter2" not in answer.text
    stage.daemon.secrets["main"] = "whsec_not base64"
    answer = await stage.post(MAIN, b"{}", github(b"{}"))
    assert answer.status_code == 500
    assert "whsec" not in answer.text


async def test_only_fleets_with_a_secret_take_webhooks(stage: Stage) -> None:
    content = push()
    answers = [
        await stage.post(f"/api/webhooks/github/{fleet}", content, github(content))
        for fleet in ("quiet", "nobody")
    ]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].json() == answers[1].json()
    answer = await stage.post("/api/webhooks/bitbucket/main", content, github(content))
    assert answer.status_code == 404
    assert "forgejo" in answer.json()["hint"]
    assert stage.daemon.looks == []


async def test_any_of_several_secrets_will_do_while_one_is_replaced(stage: Stage) -> None:
    stage.daemon.secrets["main"] = ["the new one", "the old one", SIGNING]
    for number, secret in enumerate(("the new one", "the old one")):
        content = push(pad=str(number))
        answer = await stage.post(MAIN, content, github(content, delivery=str(number), secret=secret))
        assert answer.json()["result"] == "looking"
    content = push(pad="signed")
    answer = await stage.post("/api/webhooks/generic/main", content, standard(content))
    assert answer.json()["result"] == "looking"
    answer = await stage.post(MAIN, content, github(content, delivery="9", secret="another"))
    assert answer.status_code == 401
    stage.daemon.secrets["main"] = []
    assert (await stage.post(MAIN, content, github(content))).status_code == 404


async def test_other_addresses_and_methods_are_faults_in_json(stage: Stage) -> None:
    for path in (
        "/",
        "/docs",
        "/redoc",
        "/openapi.json",
        "/metrics/",
        "/api",
        MAIN + "/",
        "/api/webhooks/github/a%2Fb",
    ):
        answer = await stage.client.get(path)
        assert answer.status_code == 404, path
        assert set(answer.json()) == {"error", "hint"}
    answer = await stage.client.get(MAIN)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    answer = await stage.client.post("/metrics")
    assert answer.status_code == 405


async def chunks(count: int, size: int = 64 * 1024) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * size


@pytest.mark.parametrize(
    "claim", [{}, {"content-length": "10"}, {"content-length": "-1"}, {"content-length": "ten"}]
)
async def test_the_limit_counts_what_arrives(stage: Stage, claim: dict[str, str]) -> None:
    request = stage.client.build_request("POST", MAIN, content=chunks(17), headers=github(b""))
    request.headers.update(claim)
    answer = await stage.client.send(request)
    assert (answer.status_code, stage.result) == (413, "malformed")
    assert answer.headers["connection"] == "close"


async def test_a_body_of_exactly_the_limit_is_read(stage: Stage) -> None:
    content = push(pad="")
    content = push(pad="x" * (reading.LIMIT - len(content)))
    assert len(content) == reading.LIMIT
    assert (await stage.post(MAIN, content, github(content))).json()["result"] == "looking"
    content += b" "
    assert (await stage.post(MAIN, content, github(content, delivery="2"))).status_code == 413


async def test_every_result_is_one_that_the_metrics_know(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(*_: object, **__: object) -> bytes:
        raise reading.TooSlow

    monkeypatch.setattr(reading, "read", slow)
    answer = await stage.post(MAIN, b"", github(b""))
    assert answer.status_code == 408
    assert {result for _, result in stage.daemon.heard} <= labels.HOOKS


async def test_secrets_are_not_in_the_log(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    await stage.post(MAIN, push(), github(push(), secret="another"))
    await stage.post(MAIN, push(), github(push()))
    await stage.post("/api/webhooks/gitlab/main", push(), {"x-gitlab-token": "wrong token"})
    text = "\n".join(str(record.msg) for record in caplog.records)
    assert "a webhook was refused" in text
    assert "wrong token" not in text
    assert SECRET not in text
    assert digest(push()) not in text
