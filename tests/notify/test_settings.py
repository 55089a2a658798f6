"""Channels check themselves, and show no secret when they are wrong."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from reconciler.errors import SettingsFault
from reconciler.kit.secret import Secret
from reconciler.notify import MailChannel, MatrixChannel, SlackChannel, WebhookChannel

MAIL: dict[str, Any] = {"name": "mail", "to": ("ops@example.test",), "sender": "reconciler@example.test"}
MATRIX: dict[str, Any] = {
    "name": "chat", "url": Secret("https://matrix.example.test"), "room": "!abc:example.test", "token": Secret("syt_1"),
}  # fmt: skip


def test_channels_as_documented_are_good() -> None:
    WebhookChannel("ops", Secret("https://hooks.example.test/x"), (Secret("whsec_QUJDRA=="), Secret("text")))
    SlackChannel("chat", Secret("http://[::1]:8080/x?y=1"), frozenset({"Stalled"}), timedelta(hours=1))
    MailChannel(**MAIL, start_tls=False)
    MailChannel(**MAIL, user="ops", password=Secret("x" * 8), host="::1", port=587)
    MatrixChannel(**MATRIX)
    MatrixChannel(**MATRIX | {"room": "!newer-ids-have-no-server"}, remind=None)


@pytest.mark.parametrize(
    "url",
    [
        "", "hooks.example.test", "ftp://example.test/s3cret", "file:///etc/passwd", "https:///s3cret",
        "https://example.test:99999/s3cret", "https://example.test/s3 cret", "https://example.test/s3cret\r\nX: y",
        "https://example.test/s3cret#part", "https://user:s3cret@example.test/", "https://exämple.test/s3cret",
        "https://[::1/s3cret", "javascript:alert(1)",
    ],
)  # fmt: skip
def test_an_address_that_is_none_is_refused_without_showing_it(url: str) -> None:
    for make in (lambda: WebhookChannel("ops", Secret(url)), lambda: SlackChannel("ops", Secret(url))):
        with pytest.raises(SettingsFault) as caught:
            make()
        assert "'ops'" in caught.value.message
        assert "s3cret" not in caught.value.message + caught.value.hint + repr(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"to": ()}, {"to": ("nobody",)}, {"to": ("a@b.test\nBcc: c@d.test",)}, {"to": ("a@b.test, c@d.test",)},
        {"to": ("Ops <a@b.test>",)}, {"sender": ""}, {"sender": "@b.test"}, {"sender": "ä@b.test"}, {"to": ("a@",)},
        {"host": ""}, {"host": "a b"}, {"port": 0}, {"port": 65536}, {"user": "ops"},
        {"password": Secret("s3cret")}, {"user": "ops", "password": Secret("s3cret"), "start_tls": False},
    ],
)  # fmt: skip
def test_a_mail_channel_that_cannot_work_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsFault, match="'mail'"):
        MailChannel(**MAIL | wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"room": "#alias:example.test"}, {"room": "!a/b:example.test"}, {"room": ""}, {"token": Secret("")},
        {"token": Secret("a\r\nX: y")}, {"url": Secret("matrix.example.test")}, {"name": ""}, {"name": "a\nb"},
        {"on": frozenset({"Stalled", "Staled"})}, {"remind": timedelta(seconds=59)}, {"remind": timedelta(0)},
    ],
)  # fmt: skip
def test_a_matrix_channel_that_cannot_work_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsFault):
        MatrixChannel(**MATRIX | wrong)


def test_a_key_that_is_none_is_refused_when_the_settings_are_read() -> None:
    with pytest.raises(SettingsFault, match=r"its secret is not base64 after 'whsec_'") as caught:
        WebhookChannel("ops", Secret("https://hooks.example.test/x"), (Secret("whsec_s3cret!"),))
    assert "s3cret" not in caught.value.message


def test_no_channel_shows_a_secret() -> None:
    secret = Secret("https://hooks.example.test/s3cret")
    shown = repr(
        [
            WebhookChannel("a", secret, (secret,)),
            SlackChannel("b", secret),
            MailChannel(**MAIL, user="u", password=secret),
            MatrixChannel(**MATRIX | {"token": secret}),
        ]
    )
    assert "s3cret" not in shown
