"""Mail: what became due together goes out as one message of plain text, over SMTP with or without STARTTLS."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import smtplib
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from reconciler.kit.clock import Clock
from reconciler.notify.notice import Event, Notice, cut, one_line
from reconciler.notify.outcome import Delivered, Failed, Outcome
from reconciler.notify.settings import MailChannel
from reconciler.secrets.redact import Redactor

SECONDS = 60.0
"""How long one mail may take in all."""

_STEP_SECONDS = 20.0  # for each answer of the server
_TEXT = 8000  # characters of one alert's message
_SAID = 200


def compose(channel: MailChannel, notices: Sequence[Notice], now: datetime) -> EmailMessage:
    """The mail about these notices. Nothing that stands in them can add a header or a recipient."""
    message = EmailMessage(policy=SMTP)
    message["Subject"] = notices[0].subject if len(notices) == 1 else _subject(notices)
    message["From"] = channel.sender
    message["To"] = ", ".join(channel.to)
    message["Date"] = format_datetime(now)
    message["Message-ID"] = f"<{_identity(notices)}@{channel.sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: asks out-of-office programs not to answer
    body = "\n\n".join(_paragraph(notice) for notice in notices)
    # any server takes quoted-printable, and no line gets too long
    message.set_content(body + "\n", charset="utf-8", cte="quoted-printable")
    return message


class MailSender:
    """Sends mails of one channel. smtplib blocks, so it runs in a thread whose connection is cut when time is up."""

    batch = 50
    at_once = 1

    def __init__(
        self,
        channel: MailChannel,
        clock: Clock,
        tls: Callable[[], ssl.SSLContext] = ssl.create_default_context,
        *,
        seconds: float = SECONDS,
    ) -> None:
        self._channel = channel
        self._clock = clock
        self._tls = tls
        self._seconds = seconds
        self._redact = Redactor([channel.password] if channel.password is not None else [])

    async def send(self, notices: Sequence[Notice]) -> Outcome:
        """Sends one mail to all recipients. It counts as delivered when the server took it for one of them at least."""
        message = compose(self._channel, notices, self._clock())
        session = _Session(self._channel, self._tls)
        work = asyncio.create_task(asyncio.to_thread(session.send, message))
        try:
            async with asyncio.timeout(self._seconds):
                refused = await asyncio.shield(work)
        except TimeoutError:
            if work.done():  # smtplib's own
                return Failed("the server did not answer in time")
            await session.cut_off(work)
            return Failed(f"the mail was not taken within {self._seconds:g} s")
        except asyncio.CancelledError:
            await session.cut_off(work)
            raise
        except (smtplib.SMTPException, OSError) as error:
            return Failed(self._said(error))
        if refused:
            return Delivered(f"refused for {self._recipients(refused)}")
        return Delivered()

    def _said(self, error: Exception) -> str:
        match error:
            case smtplib.SMTPRecipientsRefused():
                text = f"every recipient was refused: {self._recipients(error.recipients)}"
            case smtplib.SMTPNotSupportedError():
                text = "the server offers no STARTTLS" if self._channel.start_tls else str(error)
            case smtplib.SMTPResponseException():
                text = f"the server said {error.smtp_code} {_text(error.smtp_error)}"
            case ssl.SSLCertVerificationError():
                text = (
                    f"the server's certificate is not good for {self._channel.host}: {error.verify_message}"
                )
            case smtplib.SMTPException():
                text = f"the conversation failed: {error}"
            case _:
                text = f"no connection to {self._channel.host}:{self._channel.port}: {error}"
        return one_line(self._redact(text), _SAID)

    def _recipients(self, refused: dict[str, tuple[int, bytes]]) -> str:
        parts = (f"{who} ({code} {_text(said)})" for who, (code, said) in refused.items())
        return one_line(self._redact(", ".join(parts)), _SAID)


class _Smtp(smtplib.SMTP):
    """Not connected yet, so that its connection can be cut off from the moment that there is one."""

    def __init__(self, host: str) -> None:
        super().__init__(timeout=_STEP_SECONDS, local_hostname=_own_name())
        self._host = host  # `starttls` compares the certificate with this, and `connect` does not set it


class _Session:
    def __init__(self, channel: MailChannel, tls: Callable[[], ssl.SSLContext]) -> None:
        self._channel = channel
        self._tls = tls
        self._smtp = _Smtp(channel.host)
        self._stopped = False

    def send(self, message: EmailMessage) -> dict[str, tuple[int, bytes]]:
        """Sends it and returns the recipients that were refused. Runs in a thread."""
        channel, smtp = self._channel, self._smtp
        try:
            code, said = smtp.connect(channel.host, channel.port)
            if self._stopped:
                raise smtplib.SMTPServerDisconnected("stopped")
            if code != 220:
                raise smtplib.SMTPConnectError(code, said)
            if channel.start_tls:
                context = self._tls()
                smtp.starttls(context=context)
            if channel.user is not None and channel.password is not None:
                smtp.login(channel.user, channel.password.reveal())
            refused: dict[str, tuple[int, bytes]] = smtp.send_message(
                message, from_addr=channel.sender, to_addrs=list(channel.to)
            )
            with contextlib.suppress(smtplib.SMTPException, OSError):
                smtp.quit()  # it is taken already, whatever is answered now
            return refused
        finally:
            smtp.close()

    async def cut_off(self, work: asyncio.Task[dict[str, tuple[int, bytes]]]) -> None:
        """Breaks the connection, so that the thread ends, and waits for that."""
        self._stopped = True
        connection = self._smtp.sock
        if connection is not None:
            with contextlib.suppress(OSError):
                # the plain one: SSLSocket.shutdown would change what the thread is using
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
        await asyncio.wait([work], timeout=_STEP_SECONDS)
        if work.done() and not work.cancelled():
            work.exception()  # seen


def _own_name() -> str:
    name = socket.gethostname()
    return name if name.isascii() and name.replace("-", "").replace(".", "").isalnum() else "localhost"


def _text(said: bytes | str) -> str:
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else said


def _subject(notices: Sequence[Notice]) -> str:
    counts = Counter(notice.event for notice in notices)
    names: dict[Event, str] = {"firing": "firing", "reminder": "still firing", "resolved": "resolved"}
    told = ", ".join(f"{counts[event]} {word}" for event, word in names.items() if counts[event])
    return f"[reconciler] {len(notices)} alerts: {told}"


def _identity(notices: Sequence[Notice]) -> str:
    if len(notices) == 1:
        return notices[0].id
    return hashlib.sha256(" ".join(sorted(notice.id for notice in notices)).encode()).hexdigest()[:32]


def _paragraph(notice: Notice) -> str:
    lines = [one_line(line, 1000) for line in cut(notice.message, _TEXT).splitlines()]
    facts = one_line(f"{notice.severity}, {notice.reason}, {notice.since_line}", 300)
    return "\n".join([notice.subject, *(f"    {line}" for line in lines), f"    {facts}"])
