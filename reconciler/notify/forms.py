"""The form that each kind of receiver takes: Standard Webhooks, Slack, Matrix."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from reconciler.kit.clock import Clock
from reconciler.notify import notice as words
from reconciler.notify import signing
from reconciler.notify.notice import Notice, cut, one_line
from reconciler.notify.posting import Outgoing
from reconciler.notify.settings import MatrixChannel, SlackChannel, WebhookChannel

_JSON = {"Content-Type": "application/json"}
_SLACK_TEXT = 580  # a section takes 3000 characters, and escaping makes one character five at most
_MATRIX_TEXT = 4000  # an event may have 64 KiB; the message is in it twice, at up to six bytes a character


def webhook(channel: WebhookChannel, clock: Clock) -> Callable[[Notice], Outgoing]:
    """JSON with the headers of Standard Webhooks; the id is the delivery's, so that a receiver can drop doubles."""
    keys = [signing.key_bytes(secret) for secret in channel.secrets]

    def build(notice: Notice) -> Outgoing:
        body = _encoded(words.as_json(notice))
        headers = signing.headers(keys, notice.id, int(clock().timestamp()), body)
        return Outgoing("POST", channel.url.reveal(), {**_JSON, **headers}, body)

    return build


def slack(channel: SlackChannel) -> Callable[[Notice], Outgoing]:
    """`text` for notifications and simple clients, `blocks` for the others.

    Slack gives a meaning to &, < and > alone (https://docs.slack.dev/messaging/formatting-message-text); escaped, no
    message can mention a channel or hide a link.
    """

    def build(notice: Notice) -> Outgoing:
        message = _slack_escaped(cut(notice.message, _SLACK_TEXT))
        facts = _slack_escaped(one_line(f"{notice.severity} · {notice.reason} · {notice.since_line}", 300))
        subject = _slack_escaped(notice.subject)
        blocks = [
            {"type": "section", "text": _mrkdwn(f"*{subject}*")},
            *([{"type": "section", "text": _mrkdwn(message)}] if message.strip() else []),
            {"type": "context", "elements": [_mrkdwn(facts)]},
        ]
        body = _encoded({"text": f"{subject}\n{message}\n{facts}", "blocks": blocks})
        return Outgoing("POST", channel.url.reveal(), _JSON, body)

    return build


def matrix(channel: MatrixChannel) -> Callable[[Notice], Outgoing]:
    """An `m.room.message` by PUT. The transaction id is the delivery's, so that the server itself drops doubles.

    Source: Matrix Client-Server API, "PUT /_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}" and 11.2.1.1
    "m.room.message msgtypes".
    """
    room = quote(channel.room, safe="")
    base = channel.url.reveal().rstrip("/")
    headers = {**_JSON, "Authorization": f"Bearer {channel.token.reveal()}"}

    def build(notice: Notice) -> Outgoing:
        message = cut(notice.message, _MATRIX_TEXT)
        facts = one_line(f"{notice.severity} · {notice.reason} · {notice.since_line}", 300)
        lines = html.escape(message).replace("\n", "<br>")
        body = {
            "msgtype": "m.text",
            "body": f"{notice.subject}\n{message}\n{facts}",
            "format": "org.matrix.custom.html",
            "formatted_body": f"<strong>{html.escape(notice.subject)}</strong><br>{lines}<br>"
            f"<em>{html.escape(facts)}</em>",
        }
        transaction = quote(notice.id, safe="")
        url = f"{base}/_matrix/client/v3/rooms/{room}/send/m.room.message/{transaction}"
        return Outgoing("PUT", url, headers, _encoded(body))

    return build


def _mrkdwn(text: str) -> dict[str, Any]:
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def _slack_escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _encoded(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body).encode("ascii")
