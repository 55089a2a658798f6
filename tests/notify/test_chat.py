"""Slack and Matrix: the forms they take, and that no message can break out of them."""

from __future__ import annotations

import json

from reconciler.kit.secret import Secret
from reconciler.notify import Alert, MatrixChannel, Notifier, SlackChannel, forms
from reconciler.notify.notice import Notice
from reconciler.store import Store

from .receivers import Receiver, Time, reply, see

EVIL = "<!channel> & <https://evil.example.test|click> </strong><script>alert(1)</script>\r\nnext line"


def notice(message: str, *, name: str = "shop") -> Notice:
    return Notice("01ID", "firing", "Site", name, "Stalled", "error", "NeedsAttention", message, "2026-03-01T12:00:00Z", None)  # fmt: skip


async def tell(store: Store, time: Time, channel: SlackChannel | MatrixChannel, message: str) -> None:
    notifier = Notifier(store, [channel], clock=time)
    await see(store, notifier, Alert("Site", "shop", "Stalled", "error", "NeedsAttention", message))
    time.forward(seconds=60)
    await notifier.deliver_due()


async def test_slack_gets_text_and_blocks(store: Store, time: Time, receiver: Receiver) -> None:
    await tell(store, time, SlackChannel("chat", Secret(f"{receiver.url}/services/T/B/x")), "it failed")
    (request,) = receiver.requests
    assert (request.method, request.path) == ("POST", "/services/T/B/x")
    facts = "error · NeedsAttention · since 2026-03-01T12:00:00Z"
    assert request.json() == {
        "text": f"[firing] Site/shop: Stalled\nit failed\n{facts}",
        "blocks": [
            {"type": "section", "text": {"type": "mrkdwn", "text": "*[firing] Site/shop: Stalled*", "verbatim": True}},
            {"type": "section", "text": {"type": "mrkdwn", "text": "it failed", "verbatim": True}},
            {"type": "context", "elements": [{"type": "mrkdwn", "text": facts, "verbatim": True}]},
        ],
    }  # fmt: skip


def slack(message: str) -> dict[str, object]:
    channel = SlackChannel("chat", Secret("https://chat.example.test/x"))
    found: dict[str, object] = json.loads(forms.slack(channel)(notice(message)).body)
    return found


def test_slack_messages_mention_nobody_and_hide_no_link() -> None:
    text = json.dumps(slack(EVIL))
    assert "<" not in text
    assert ">" not in text
    assert "&lt;!channel&gt; &amp; &lt;https" in text


def test_slack_sections_stay_within_their_limit_and_are_never_empty() -> None:
    for message in ("&" * 5000, "x" * 5000, "", "  \n "):
        for block in slack(message)["blocks"]:  # type: ignore[attr-defined]
            for part in [block["text"]] if "text" in block else block["elements"]:
                assert 0 < len(part["text"].strip()) <= 3000


async def test_matrix_gets_a_message_under_the_id_of_the_delivery(
    store: Store, time: Time, receiver: Receiver
) -> None:
    receiver.answers.extend([reply(502), reply(200, b'{"event_id":"$x"}')])
    channel = MatrixChannel(
        "room", Secret(f"{receiver.url}/"), "!abc_.._d?e:example.test", Secret("syt_token")
    )
    await tell(store, time, channel, "it failed")
    time.forward(minutes=1)
    await Notifier(store, [channel], clock=time).deliver_due()
    first, second = receiver.requests
    assert first.method == "PUT"
    head, _, transaction = first.path.rpartition("/")
    assert head == "/_matrix/client/v3/rooms/%21abc_.._d%3Fe%3Aexample.test/send/m.room.message"
    assert len(transaction) == 26
    assert second.path == first.path, "by this the homeserver drops doubles"
    assert first.headers["authorization"] == "Bearer syt_token"
    facts = "error · NeedsAttention · since 2026-03-01T12:00:00Z"
    assert first.json() == {
        "msgtype": "m.text",
        "body": f"[firing] Site/shop: Stalled\nit failed\n{facts}",
        "format": "org.matrix.custom.html",
        "formatted_body": f"<strong>[firing] Site/shop: Stalled</strong><br>it failed<br><em>{facts}</em>",
    }


def matrix(message: str) -> dict[str, str]:
    channel = MatrixChannel("room", Secret("https://m.example.test"), "!a:example.test", Secret("t"))
    found: dict[str, str] = json.loads(forms.matrix(channel)(notice(message, name='a"<b>')).body)
    return found


def test_matrix_messages_hold_no_markup_of_others() -> None:
    formatted = matrix(EVIL)["formatted_body"]
    for ours in ("<strong>", "</strong>", "<br>", "<em>", "</em>"):
        formatted = formatted.replace(ours, "")
    assert "<" not in formatted
    assert "&lt;script&gt;" in formatted
    assert "a&quot;&lt;b&gt;" in formatted


def test_matrix_events_stay_within_their_limit() -> None:
    for message in ("\U0001f4a9" * 100_000, "&" * 100_000):
        channel = MatrixChannel("room", Secret("https://m.example.test"), "!a:example.test", Secret("t"))
        body = json.loads(forms.matrix(channel)(notice(message)).body)
        # the specification counts the bytes of canonical JSON in UTF-8, with the server's own part on top
        size = len(json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode())
        assert size < 60_000
