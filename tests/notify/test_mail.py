"""Mail, to a real SMTP server on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import email
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from reconciler.kit.secret import Secret
from reconciler.notify import Alert, MailChannel, Notifier
from reconciler.notify.mail import MailSender, compose
from reconciler.notify.notice import Event, Notice
from reconciler.notify.outcome import Delivered, Failed
from reconciler.store import Store
from reconciler.store.queries import alerts, deliveries
from tests.loop.health_servers import Certificate, certificate, closed_port, silent_port

from .receivers import NOON, Time, see, stalled


@dataclass
class Post:
    """A mail server: what it took, and whom it refuses."""

    port: int = 0
    envelopes: list[Envelope] = field(default_factory=list)
    refused: frozenset[str] = frozenset()
    answer: str = "250 taken"
    tls: list[bool] = field(default_factory=list)
    logins: list[tuple[bytes, bytes]] = field(default_factory=list)

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if address in self.refused:
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        self.envelopes.append(envelope)
        self.tls.append(session.ssl is not None)
        return self.answer

    def authenticate(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _how: str, data: Any
    ) -> AuthResult:
        self.logins.append((data.login, data.password))
        return AuthResult(success=data.password == b"right", handled=False)

    def mail(self, number: int = 0) -> EmailMessage:
        content = self.envelopes[number].content
        assert isinstance(content, bytes)
        found = email.message_from_bytes(content, policy=policy.default)
        assert isinstance(found, EmailMessage)
        return found


@contextmanager
def post_office(tls: ssl.SSLContext | None = None, **more: Any) -> Iterator[Post]:
    post = Post(**more)
    controller = Controller(
        post, hostname="127.0.0.1", port=_free_port(), tls_context=tls, authenticator=post.authenticate, auth_required=False
    )  # fmt: skip
    controller.start()
    post.port = controller.port
    try:
        yield post
    finally:
        controller.stop()


def _free_port() -> int:
    return closed_port()  # aiosmtpd asks its own port once it listens, so it cannot be left to the system


def channel(port: int, **more: Any) -> MailChannel:
    given: dict[str, Any] = {
        "host": "127.0.0.1",
        "start_tls": False,
        "to": ("ops@example.test", "dev@example.test"),
    }
    return MailChannel("mail", sender="reconciler@example.test", port=port, **given | more)


def notice(message: str = "it failed", *, name: str = "shop", event: Event = "firing") -> Notice:
    return Notice("01ID" + name, event, "Site", name, "Stalled", "error", "NeedsAttention", message, "2026-03-01T12:00:00Z", None)  # fmt: skip


async def send(given: MailChannel, *notices: Notice, **more: Any) -> Delivered | Failed:
    async with asyncio.timeout(60):
        outcome = await MailSender(given, lambda: NOON, **more).send(notices or (notice(),))
    assert isinstance(outcome, Delivered | Failed)
    return outcome


def valid(folder: Path, name: str) -> Certificate:
    """A certificate that OpenSSL, which asks the machine's own clock, finds valid."""
    now = datetime.now(UTC)
    return certificate(folder, [name], begin=now - timedelta(days=1), end=now + timedelta(days=1))


async def test_a_mail_says_what_and_since_when() -> None:
    with post_office() as post:
        assert await send(channel(post.port), notice("it failed\nthree times")) == Delivered()
    mail = post.mail()
    assert post.envelopes[0].mail_from == "reconciler@example.test"
    assert post.envelopes[0].rcpt_tos == ["ops@example.test", "dev@example.test"]
    assert mail["Subject"] == "[firing] Site/shop: Stalled"
    assert mail["To"] == "ops@example.test, dev@example.test"
    assert mail["Date"] == "Sun, 01 Mar 2026 12:00:00 +0000"
    assert mail["Message-ID"] == "<01IDshop@example.test>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail.get_content().splitlines() == [
        "[firing] Site/shop: Stalled",
        "    it failed",
        "    three times",
        "    error, NeedsAttention, since 2026-03-01T12:00:00Z",
    ]


async def test_what_became_due_together_is_one_mail(store: Store, time: Time) -> None:
    with post_office() as post:
        notifier = Notifier(store, [channel(post.port)], clock=time)
        await see(store, notifier, stalled("one"), stalled("two"), stalled("three"))
        time.forward(seconds=60)
        await notifier.deliver_due()
        await see(store, notifier, stalled("three"), stalled("four"))
        time.forward(seconds=60)
        await notifier.deliver_due()
    assert [post.mail(number)["Subject"] for number in range(2)] == [
        "[reconciler] 3 alerts: 3 firing",
        "[reconciler] 3 alerts: 1 firing, 2 resolved",
    ]
    assert len(post.envelopes) == 2
    assert post.mail().get_content().count("Stalled") == 3
    assert store.read(lambda tx: deliveries.heads(tx, "mail")) == []
    assert all(row.notified_at for row in store.read(alerts.listed))


EVIL = [
    "\nBcc: thief@example.test\n\nbody",
    "\r\n.\r\nMAIL FROM:<a@b>",
    "\x00\x1b[31m\u2028\u202ex",
    "ä" * 3000,
    "\ud800",
]


@pytest.mark.parametrize("text", EVIL)
async def test_nothing_in_an_alert_adds_a_header_a_recipient_or_a_command(text: str) -> None:
    with post_office() as post:
        evil = Notice("01ID", "firing", "Site", text, "Stalled", text, text, text, text, None)
        for notices in ([evil], [evil, evil]):
            assert await send(channel(post.port), *notices) == Delivered()
    assert len(post.envelopes) == 2
    for number in range(2):
        mail = post.mail(number)
        assert set(mail.keys()) <= {
            "Subject", "From", "To", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type",
            "Content-Transfer-Encoding", "X-Peer", "X-MailFrom", "X-RcptTo",
        }  # fmt: skip
        assert post.envelopes[number].rcpt_tos == ["ops@example.test", "dev@example.test"]
        content = post.envelopes[number].content
        assert isinstance(content, bytes)
        assert max(len(line) for line in content.split(b"\r\n")) <= 998
        assert b"\x00" not in content


async def test_with_start_tls_the_mail_is_encrypted_and_the_login_follows(tmp_path: Path) -> None:
    shown = valid(tmp_path, "localhost")
    with post_office(shown.server_context()) as post:
        given = channel(post.port, host="localhost", start_tls=True, user="ops", password=Secret("right"))
        outcome = await send(given, tls=lambda: ssl.create_default_context(cafile=shown.file))
    assert outcome == Delivered()
    assert post.tls == [True]
    assert post.logins == [(b"ops", b"right")]


async def test_a_certificate_that_is_not_good_gets_no_mail(tmp_path: Path) -> None:
    shown = valid(tmp_path, "other.example.test")
    with post_office(shown.server_context()) as post:
        given = channel(post.port, host="localhost", start_tls=True)
        unknown = await send(given)
        mismatch = await send(given, tls=lambda: ssl.create_default_context(cafile=shown.file))
    assert unknown == Failed("the server's certificate is not good for localhost: self-signed certificate")
    assert isinstance(mismatch, Failed)
    assert mismatch.error.startswith("the server's certificate is not good for localhost: Hostname mismatch")
    assert post.envelopes == []


async def test_a_server_without_start_tls_gets_no_mail() -> None:
    with post_office() as post:
        outcome = await send(channel(post.port, start_tls=True))
    assert outcome == Failed("the server offers no STARTTLS")
    assert post.envelopes == []


async def test_a_refused_login_shows_no_password(tmp_path: Path) -> None:
    shown = valid(tmp_path, "localhost")
    with post_office(shown.server_context()) as post:
        given = channel(
            post.port, host="localhost", start_tls=True, user="ops", password=Secret("s3cret-wrong")
        )
        outcome = await send(given, tls=lambda: ssl.create_default_context(cafile=shown.file))
    assert isinstance(outcome, Failed)
    assert outcome.error.startswith("the server said 535 ")
    assert "s3cret" not in repr(outcome)


async def test_one_refused_recipient_is_remarked_and_all_refused_is_a_failure() -> None:
    with post_office(refused=frozenset({"ops@example.test"})) as post:
        some = await send(channel(post.port))
        none = await send(channel(post.port, to=("ops@example.test",)))
    assert some == Delivered("refused for ops@example.test (550 no such user)")
    assert none == Failed("every recipient was refused: ops@example.test (550 no such user)")
    assert [envelope.rcpt_tos for envelope in post.envelopes] == [["dev@example.test"]]


async def test_a_mail_that_is_refused_is_a_failure() -> None:
    with post_office(answer="452 disk full") as post:
        assert await send(channel(post.port)) == Failed("the server said 452 disk full")


async def test_no_server_is_a_failure() -> None:
    port = closed_port()
    outcome = await send(channel(port))
    assert isinstance(outcome, Failed)
    assert outcome.error.startswith(f"no connection to 127.0.0.1:{port}: ")


@pytest.mark.parametrize("cancel", [False, True])
async def test_a_server_that_is_silent_is_cut_off_and_no_thread_is_left(cancel: bool) -> None:
    with silent_port() as port:
        sending = asyncio.create_task(send(channel(port), seconds=30.0 if cancel else 0.3))
        if cancel:
            await asyncio.sleep(0.3)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
        else:
            assert await sending == Failed("the mail was not taken within 0.3 s")
        assert not [thread for thread in threading.enumerate() if "asyncio" in thread.name and _busy(thread)]


async def test_a_server_that_trickles_is_cut_off() -> None:
    writers: list[asyncio.StreamWriter] = []

    async def trickle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(OSError):
            while not writer.is_closing():
                writer.write(b"2")
                await writer.drain()
                await asyncio.sleep(0.05)

    server = await asyncio.start_server(trickle, "127.0.0.1", 0)
    async with server:
        outcome = await send(channel(server.sockets[0].getsockname()[1]), seconds=0.5)
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0.1)
    assert outcome == Failed("the mail was not taken within 0.5 s")


async def test_a_batch_of_the_same_messages_has_the_same_id() -> None:
    one, two = notice(name="a"), notice(name="b")
    given = channel(25)
    first, again = compose(given, [one, two], NOON), compose(given, [two, one], NOON)
    other = compose(given, [one, notice(name="c")], NOON)
    assert first["Message-ID"] == again["Message-ID"] != other["Message-ID"]


async def test_events_of_all_sorts_are_counted_in_the_subject() -> None:
    mail = compose(channel(25), [notice(), notice(event="reminder"), notice(event="resolved")], NOON)
    assert mail["Subject"] == "[reconciler] 3 alerts: 1 firing, 1 still firing, 1 resolved"


def _busy(thread: threading.Thread) -> bool:
    """Whether a pool's thread is inside smtplib rather than waiting for work."""
    import sys

    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None:
        if "smtplib" in frame.f_code.co_filename:
            return True
        frame = frame.f_back
    return False


async def test_an_alert_reaches_a_mail_box_through_the_outbox(store: Store, time: Time) -> None:
    with post_office() as post:
        notifier = Notifier(store, [channel(post.port)], clock=time)
        await see(
            store, notifier, Alert("Server", "web1", "Drifted", "warning", "NodeDiffers", "2 steps differ")
        )
        time.forward(seconds=60)
        assert await notifier.deliver_due() == 1
    assert post.mail()["Subject"] == "[firing] Server/web1: Drifted"
