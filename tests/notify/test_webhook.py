"""Webhooks, against a real receiver on loopback."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest

from reconciler.kit.secret import Secret
from reconciler.notify import Notifier, Timing, WebhookChannel, posting, signing
from reconciler.notify.outcome import Failed
from reconciler.notify.settings import Channel, MatrixChannel, SlackChannel
from reconciler.store import Store
from reconciler.store.queries import deliveries
from tests.loop.health_servers import certificate, closed_port

from .receivers import Receiver, Time, hook, reply, see, stalled

KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


async def tell(store: Store, time: Time, channel: Any, **more: Any) -> Notifier:
    """One alert that has stood for a minute, and one attempt to tell it."""
    notifier = Notifier(store, [channel], clock=time, **more)
    await see(store, notifier, stalled())
    time.forward(seconds=60)
    assert await notifier.deliver_due() == 1
    return notifier


def only(store: Store) -> deliveries.Delivery:
    (found,) = store.read(lambda tx: deliveries.heads(tx, "ops"))
    return found


async def test_a_webhook_is_signed_json(store: Store, time: Time, receiver: Receiver) -> None:
    await tell(store, time, hook(receiver, secrets=(Secret(KEY), Secret("the next key"))))
    (request,) = receiver.requests
    assert (request.method, request.path) == ("POST", "/hook")
    assert request.json() == {
        "type": "alert.firing",
        "timestamp": "2026-03-01T12:00:00Z",
        "data": {
            "kind": "Site",
            "name": "shop",
            "type": "Stalled",
            "severity": "error",
            "reason": "NeedsAttention",
            "message": "it failed three times",
            "since": "2026-03-01T12:00:00Z",
            "resolved": None,
        },
    }
    assert request.headers["content-type"] == "application/json"
    assert request.headers["webhook-timestamp"] == str(int(time.now.timestamp()))
    keys = [signing.key_bytes(Secret(KEY)), b"the next key"]
    expected = signing.signatures(
        keys, request.headers["webhook-id"], int(time.now.timestamp()), request.body
    )
    assert request.headers["webhook-signature"] == expected
    assert len(expected.split(" ")) == 2


async def test_an_unsigned_webhook_has_no_signature(store: Store, time: Time, receiver: Receiver) -> None:
    await tell(store, time, hook(receiver))
    assert "webhook-signature" not in receiver.requests[0].headers


async def test_each_attempt_has_the_same_id_and_body_and_a_time_of_its_own(
    store: Store, time: Time, receiver: Receiver
) -> None:
    receiver.answers.append(reply(500))
    notifier = await tell(store, time, hook(receiver, secrets=(Secret(KEY),)))
    time.forward(minutes=10)
    assert await notifier.deliver_due() == 1
    first, second = receiver.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    assert int(second.headers["webhook-timestamp"]) - int(first.headers["webhook-timestamp"]) == 600
    assert first.headers["webhook-signature"] != second.headers["webhook-signature"]


@pytest.mark.parametrize("status", [200, 201, 202, 204])
async def test_any_answer_of_success_will_do(
    store: Store, time: Time, receiver: Receiver, status: int
) -> None:
    receiver.answers.append(reply(status, b""))
    await tell(store, time, hook(receiver))
    assert store.read(lambda tx: deliveries.heads(tx, "ops")) == []


async def test_a_success_counts_even_when_its_text_never_ends(
    store: Store, time: Time, receiver: Receiver
) -> None:
    receiver.answers.append(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nok")
    await tell(store, time, hook(receiver))
    assert store.read(lambda tx: deliveries.heads(tx, "ops")) == []


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (reply(500, b"database down\n"), "it answered 500: database down"),
        (reply(404, b"no_service"), "it answered 404: no_service"),
        (reply(403, b"\x1b[31m\xff\x00"), "it answered 403: [31m\ufffd"),
        (reply(301, b"", "Location: https://elsewhere.example.test/s3cret"),
         "it answered with a redirect (301), which is not followed; set its final address"),
        (b"HTTP/1.1 200", "the connection failed: Server disconnected without sending a response."),
    ],
)  # fmt: skip
async def test_a_failure_is_kept_with_what_was_said(
    store: Store, time: Time, receiver: Receiver, answer: bytes, error: str
) -> None:
    receiver.answers.append(answer)
    await tell(store, time, hook(receiver))
    assert (only(store).error, only(store).attempts) == (error, 1)
    assert len(receiver.requests) == 1, "a redirect must not be followed"


async def test_of_an_endless_answer_64_kibibytes_are_read(
    store: Store, time: Time, receiver: Receiver
) -> None:
    receiver.answers.append(
        b"HTTP/1.1 500 Oh\r\nContent-Length: 9999999999\r\n\r\n" + b"x" * (posting._BODY + 1)
    )
    async with asyncio.timeout(10):
        await tell(store, time, hook(receiver))
    assert only(store).error.startswith("it answered 500: xxx")


async def test_nobody_there_is_a_failure(store: Store, time: Time) -> None:
    channel = WebhookChannel("ops", Secret(f"http://127.0.0.1:{closed_port()}/s3cret-in-the-path"))
    await tell(store, time, channel)
    assert only(store).error == "cannot connect: All connection attempts failed"


async def test_a_receiver_that_never_answers_is_not_waited_for(
    store: Store, time: Time, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.answers.append(None)
    sender = posting.HttpSender(
        client := posting.open_client(), time, lambda _: posting.Outgoing("POST", receiver.url, {}, b""), [], seconds=0.3
    )  # fmt: skip
    async with client:
        outcome = await sender.send([None])  # type: ignore[list-item]
    assert outcome == Failed("no answer within 0.3 s")


async def test_a_certificate_that_is_not_trusted_is_refused(store: Store, time: Time, tmp_path: Path) -> None:
    context = certificate(tmp_path, ["localhost"]).server_context()
    async with Receiver(tls=context) as receiver:
        await tell(store, time, hook(receiver))
    assert only(store).error.startswith("cannot connect: [SSL: CERTIFICATE_VERIFY_FAILED]")
    assert receiver.requests == []


async def test_neither_proxies_nor_cookies_nor_netrc_are_used(
    store: Store, time: Time, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login ops password s3cret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port()}")
    receiver.answers.extend([reply(500, b"", "Set-Cookie: a=b; Path=/"), reply(500)])
    client = posting.open_client()
    sender = posting.HttpSender(client, time, lambda _: posting.Outgoing("POST", receiver.url, {}, b""), [])
    async with client:
        for _ in range(2):
            await sender.send([None])  # type: ignore[list-item]
    assert [request.headers.get("cookie") for request in receiver.requests] == [None, None]
    assert [request.headers.get("authorization") for request in receiver.requests] == [None, None]


@pytest.mark.parametrize(
    ("headers", "body", "pause"),
    [
        (["Retry-After: 120"], b"", 120.0),
        (["Retry-After: Sun, 01 Mar 2026 12:05:00 GMT"], b"", 300.0),
        (["Retry-After: Sun, 01 Mar 2026 11:00:00 GMT"], b"", 0.0),
        (["Retry-After: soon"], b"", None),
        (["Retry-After: 99999999999999999999"], b"", 86400.0),
        (["Retry-After: -5"], b"", None),
        ([], b'{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":2500}', 2.5),
        ([], b'{"retry_after_ms": null}', None),
        ([], b"[" * 60_000, None),
        ([], b"", None),
    ],
)
async def test_a_receiver_may_ask_for_a_pause(
    time: Time, receiver: Receiver, headers: list[str], body: bytes, pause: float | None
) -> None:
    receiver.answers.append(reply(429, body, *headers))
    async with posting.open_client() as client:
        sender = posting.HttpSender(
            client, time, lambda _: posting.Outgoing("POST", receiver.url, {}, b""), []
        )
        outcome = await sender.send([None])  # type: ignore[list-item]
    assert isinstance(outcome, Failed)
    assert outcome.retry_after == pause


async def test_the_next_attempt_waits_for_as_long_as_was_asked(
    store: Store, time: Time, receiver: Receiver
) -> None:
    receiver.answers.append(reply(429, b"", "Retry-After: 3600"))
    await tell(store, time, hook(receiver))
    assert (only(store).next_at - time.now).total_seconds() == 3600


async def test_gone_for_good_is_not_tried_again(store: Store, time: Time, receiver: Receiver) -> None:
    receiver.answers.append(reply(410))
    notifier = await tell(store, time, hook(receiver))
    time.forward(hours=1)
    assert await notifier.deliver_due() == 0


async def test_no_log_line_or_error_shows_the_address(
    store: Store, time: Time, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    secret = "T0K3N-in-the-path-of-the-hook"
    receiver.answers.append(reply(500, f"no such path /services/{secret}".encode()))
    receiver.answers.append(reply(403, f"token {secret} is unknown".encode()))
    channels: list[Channel] = [
        SlackChannel("ops", Secret(f"{receiver.url}/services/{secret}")),
        MatrixChannel("room", Secret(receiver.url), "!a:example.test", Secret(secret)),
    ]
    notifier = Notifier(store, channels, clock=time)
    await see(store, notifier, stalled())
    time.forward(seconds=60)
    await notifier.deliver_due()
    assert len(receiver.requests) == 2
    errors = [
        found.error for name in ("ops", "room") for found in store.read(lambda tx, n=name: deliveries.heads(tx, n))  # type: ignore[misc]
    ]  # fmt: skip
    assert all("•••" in error for error in errors), errors
    assert secret not in caplog.text + str(errors)
    assert "channel ops was not told" in caplog.text


async def test_a_request_shows_neither_address_nor_headers() -> None:
    request = posting.Outgoing("POST", "https://x.test/s3cret", {"Authorization": "s3cret"}, b"s3cret")
    assert "s3cret" not in repr(request)


async def test_many_messages_use_few_connections_at_once(store: Store, time: Time) -> None:
    running, most = 0, 0

    async def handle(_request: httpx.Request) -> httpx.Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return httpx.Response(204)

    channel = WebhookChannel("ops", Secret("https://hooks.example.test/x"))
    notifier = Notifier(
        store,
        [channel],
        clock=time,
        client=lambda: httpx.AsyncClient(transport=httpx.MockTransport(handle)),
        timing=Timing(),
    )
    await see(store, notifier, *(stalled(f"s{number}") for number in range(30)))
    time.forward(seconds=60)
    assert await notifier.deliver_due() == 30
    assert 1 < most <= posting.HttpSender.at_once
