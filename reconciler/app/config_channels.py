"""The notification channels of the settings file, and how they become those of `reconciler.notify.settings`."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal, assert_never, get_args

from pydantic import ConfigDict, Field, StringConstraints

from reconciler.app.config_values import span
from reconciler.app.secretrefs import SecretText, SecretTexts, SecretUrl
from reconciler.desired.kinds.common import PRINTABLE, Distinct, Means, Model, Name
from reconciler.notify.settings import (
    AlertType,
    Channel,
    MailChannel,
    MatrixChannel,
    SlackChannel,
    WebhookChannel,
)

Text = Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=PRINTABLE), Means("text")]
MailServer = Annotated[
    str,
    StringConstraints(pattern=r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?$"),
    Means("server", "HOST or HOST:PORT"),
]


class Told(Model):
    """What every channel has."""

    name: Name = Field(description="Its name.")
    type: Literal["webhook", "mail", "slack", "matrix"] = Field(description="What it is.")
    on: Annotated[tuple[AlertType, ...], Distinct] = Field(
        default=get_args(AlertType), min_length=1, description="What it is told of; absent: everything."
    )
    remind: Annotated[float, span("1m", "720h")] = Field(
        default=86400.0, description="Time after which something that goes on is told again."
    )


class AnyChannel(Model):
    """A channel whose type is not known yet: the rest is judged when it is."""

    model_config = ConfigDict(extra="allow")
    type: Literal["webhook", "mail", "slack", "matrix"] = Field(description="webhook, mail, slack or matrix.")


class WebhookSettings(Told):
    """A POST of JSON, signed as Standard Webhooks says."""

    type: Literal["webhook"] = Field(description="webhook")
    url: SecretUrl = Field(description="Where to post; `{file: …}` when the address is a secret.")
    secret: SecretTexts | None = Field(
        default=None, description="Signing secret; a list while it is being replaced; absent: unsigned."
    )


class MailSettings(Told):
    """A mail."""

    type: Literal["mail"] = Field(description="mail")
    to: tuple[Text, ...] = Field(min_length=1, max_length=50, description="Whom to write to.")
    sender: Text = Field(alias="from", description="Sender.")
    server: MailServer = Field(
        default="localhost", description="HOST or HOST:PORT; the port is 587 with STARTTLS and 25 without."
    )
    start_tls: bool = Field(
        default=True,
        description="Encrypt with STARTTLS, and refuse a server that cannot or has no good certificate.",
    )
    user: Text | None = Field(default=None, description="Login at the server.")
    password: SecretText | None = Field(default=None, description="Password of that login.")


class SlackSettings(Told):
    """A message to an incoming webhook of Slack, or of a chat that takes its form."""

    type: Literal["slack"] = Field(description="slack")
    url: SecretUrl = Field(description="Address of the incoming webhook; `{file: …}`, since it is a secret.")


class MatrixSettings(Told):
    """A message in a Matrix room."""

    type: Literal["matrix"] = Field(description="matrix")
    homeserver: SecretUrl = Field(description="https:// address of the account's server.")
    room: Text = Field(description="Id of the room, such as !abc:example.test.")
    token: SecretText = Field(description="Access token of the account.")


ChannelSettings = WebhookSettings | MailSettings | SlackSettings | MatrixSettings

CHANNELS: dict[str, type[ChannelSettings]] = {
    "webhook": WebhookSettings, "mail": MailSettings, "slack": SlackSettings, "matrix": MatrixSettings,
}  # fmt: skip
"""The models by the word after `type:`."""


def channel(given: ChannelSettings) -> Channel:
    """The channel that settings declare. SettingsFault when a value is unusable, such as a URL read from a file."""
    on, remind = frozenset[str](given.on), timedelta(seconds=given.remind)
    match given:
        case WebhookSettings():
            return WebhookChannel(given.name, given.url, given.secret or (), on, remind)
        case MailSettings():
            host, port = _host_port(given)
            return MailChannel(
                given.name,
                given.to,
                given.sender,
                host,
                port,
                given.start_tls,
                given.user,
                given.password,
                on,
                remind,
            )
        case SlackSettings():
            return SlackChannel(given.name, given.url, on, remind)
        case MatrixSettings():
            return MatrixChannel(given.name, given.homeserver, given.room, given.token, on, remind)
        case _:
            assert_never(given)


def _host_port(given: MailSettings) -> tuple[str, int]:
    host, colon, port = given.server.rpartition(":")
    if not colon or given.server.endswith("]"):
        return given.server.strip("[]"), 587 if given.start_tls else 25
    return host.strip("[]"), int(port)
