"""The channels as the daemon's settings declare them. Making one checks it: SettingsFault says what is wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from email.errors import HeaderParseError
from email.headerregistry import Address
from typing import Literal, get_args
from urllib.parse import urlsplit

from reconciler.errors import SettingsFault
from reconciler.kit.secret import Secret
from reconciler.notify import signing

AlertType = Literal[
    "Stalled", "NotReady", "Drifted", "SourceFailed", "NeedsApproval", "Quarantined", "BreakerOpen", "LeaseLost", "CertificateEnds"
]  # fmt: skip
"""What an alert can be about; `on` of a channel is a set of these words."""

ALERT_TYPES: frozenset[str] = frozenset(get_args(AlertType))
REMIND = timedelta(hours=24)

_ROOM = re.compile(r"[!#][^\s:/]{1,200}(:[^\s/]{1,200})?")
_HOST = re.compile(r"[A-Za-z0-9.:_-]{1,253}")


@dataclass(frozen=True)
class WebhookChannel:
    """JSON by POST, signed as Standard Webhooks has it.

    `url` is http or https and kept secret, since many hold a token. `secrets` are the keys, `whsec_` and base64 or any
    text; with several each signs, so that a receiver may change over from one to the next; with none nothing is signed.
    `on` are the types of alerts it wants; `remind` is how long an alert stands before it is told again, None: never.
    """

    name: str
    url: Secret
    secrets: tuple[Secret, ...] = ()
    on: frozenset[str] = ALERT_TYPES
    remind: timedelta | None = REMIND

    def __post_init__(self) -> None:
        _check_common(self.name, self.on, self.remind)
        _check_url(self.name, self.url)
        for secret in self.secrets:
            try:
                signing.key_bytes(secret)
            except ValueError as error:
                raise _fault(self.name, f"its secret {error}") from None


@dataclass(frozen=True)
class MailChannel:
    """Plain text by SMTP. `start_tls`: the connection must turn to TLS with a certificate that is good for `host`.

    `user` and `password` log in, which is done with `start_tls` only.
    """

    name: str
    to: tuple[str, ...]
    sender: str
    host: str = "localhost"
    port: int = 25
    start_tls: bool = True
    user: str | None = None
    password: Secret | None = None
    on: frozenset[str] = ALERT_TYPES
    remind: timedelta | None = REMIND

    def __post_init__(self) -> None:
        _check_common(self.name, self.on, self.remind)
        if not self.to:
            raise _fault(self.name, "it has no recipient", hint="give at least one address in 'to'")
        for address in (*self.to, self.sender):
            _check_address(self.name, address)
        if not _HOST.fullmatch(self.host) or not 1 <= self.port <= 65535:
            raise _fault(self.name, "its server is not host:port", hint="such as mail.example.test:587")
        if (self.user is None) != (self.password is None):
            raise _fault(self.name, "a login needs both a user and a password")
        if self.user is not None and not self.start_tls:
            raise _fault(
                self.name, "it would send a password without TLS", hint="set startTls, or log in with none"
            )


@dataclass(frozen=True)
class SlackChannel:
    """An incoming webhook of Slack, or of what understands its form (Mattermost, Rocket.Chat). `url` is a secret."""

    name: str
    url: Secret
    on: frozenset[str] = ALERT_TYPES
    remind: timedelta | None = REMIND

    def __post_init__(self) -> None:
        _check_common(self.name, self.on, self.remind)
        _check_url(self.name, self.url)


@dataclass(frozen=True)
class MatrixChannel:
    """A room of a Matrix homeserver. `url` is the homeserver's, `room` the room's id, `token` an access token."""

    name: str
    url: Secret
    room: str
    token: Secret
    on: frozenset[str] = ALERT_TYPES
    remind: timedelta | None = REMIND

    def __post_init__(self) -> None:
        _check_common(self.name, self.on, self.remind)
        _check_url(self.name, self.url)
        if not _ROOM.fullmatch(self.room) or not self.room.startswith("!"):
            raise _fault(
                self.name,
                "its room is not the id of one",
                hint="an id is like !abc:example.test, not an alias",
            )
        if not re.fullmatch(r"[!-~]+", self.token.reveal()):
            raise _fault(self.name, "its token is empty or holds characters that no header may hold")


Channel = WebhookChannel | MailChannel | SlackChannel | MatrixChannel


def _fault(name: str, what: str, *, hint: str = "") -> SettingsFault:
    return SettingsFault(f"the notification channel {name!r}: {what}", hint=hint)


def _check_common(name: str, on: frozenset[str], remind: timedelta | None) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", name):
        raise _fault(name, "its name is not one", hint="use letters, digits, dots, dashes and underscores")
    unknown = sorted(on - ALERT_TYPES)
    if unknown:
        raise _fault(
            name, f"there is no alert type {unknown[0]!r}", hint=f"one of {', '.join(sorted(ALERT_TYPES))}"
        )
    if remind is not None and remind < timedelta(minutes=1):
        raise _fault(name, "it would remind more often than once a minute")


def _check_url(name: str, url: Secret) -> None:
    # no message shows the address: a token may be anywhere in it
    text = url.reveal()
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or not re.fullmatch(r"[!-~]+", text):
        raise _fault(
            name, "its url is not one", hint="it must be https://… or http://… in ASCII, without spaces"
        )
    if parts.fragment:
        raise _fault(name, "its url has a #fragment, which is never sent")
    if "@" in parts.netloc:
        raise _fault(
            name, "its url holds a user or password", hint="put a token into the path, or sign instead"
        )


def _check_address(name: str, address: str) -> None:
    try:
        parsed = Address(addr_spec=address)
    except (ValueError, IndexError, HeaderParseError):
        parsed = None
    plain = re.fullmatch(r"[!-~]{1,254}", address)  # no blank, no line end, ASCII
    if parsed is None or not parsed.username or not parsed.domain or not plain:
        raise _fault(name, f"{address!r} is not a mail address", hint="write it as ops@example.test")
