"""The daemon's settings file as frozen, strict models: what a section holds, its defaults and what each field means.

Values are checked as they are read (files are there, programs can be run, secrets are fetched), so that one pass tells
everything that is wrong. docs/daemon.md describes the fields.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, model_validator

from reconciler.app.config_values import (
    Branch,
    Command,
    ExistingPath,
    Folder,
    Listen,
    ListenAddress,
    Share,
    span,
)
from reconciler.app.secretrefs import KeyFile, RemoteAddress, SecretTexts
from reconciler.desired.kinds.common import Distinct, Model, Name
from reconciler.desired.remotes import PROTOCOLS, Protocol


class Signatures(Model):
    """Who must have signed the commits that are applied."""

    policy: Literal["none", "head", "strict"] = Field(
        default="none",
        description="`head`: the newest commit of a push must be signed; `strict`: every commit of it, merges too.",
    )
    signers: ExistingPath | None = Field(
        default=None,
        description="allowed_signers file, or a folder with one and armored PGP keys: who may sign besides the Users.",
    )


class FleetSettings(Model):
    """One fleet: where its manifests come from."""

    name: Name = Field(default="main", description="Its name; may be left out when it is the only fleet.")
    remotes: tuple[RemoteAddress, ...] = Field(
        min_length=1, max_length=8, description="Its repository; several are tried in this order."
    )
    branch: Branch = Field(default="main", description="Branch that is followed.")
    path: Folder = Field(
        default="", description="Folder of the repository that holds the manifests; empty: all of it."
    )
    poll: Annotated[float, span("5s", "24h")] = Field(
        default=60.0, description="Time between two looks at the remote, give or take a tenth."
    )
    signatures: Signatures = Field(default=Signatures(), description="Who must have signed.")
    webhook_secret: SecretTexts | None = Field(
        default=None,
        description="Secret that the forge signs its webhooks with; a list while it is being replaced.",
    )

    @property
    def addresses(self) -> tuple[str, ...]:
        """The remotes as git needs them, credentials and all: for `Mirror` alone, never for a log."""
        return tuple(remote.reveal() for remote in self.remotes)


class GitSettings(Model):
    """How remotes are reached."""

    protocols: Annotated[tuple[Protocol, ...], Distinct] = Field(
        default=PROTOCOLS, min_length=1, description="Protocols that remotes may use."
    )
    ssh_key: KeyFile | None = Field(default=None, description="Private key for remotes by ssh.")
    known_hosts: ExistingPath | None = Field(
        default=None, description="known_hosts file with the host keys of remotes by ssh."
    )
    timeout: Annotated[float, span("1s", "1h")] = Field(
        default=120.0, description="How long one fetch may take."
    )


class Retry(Model):
    """How long to wait after failures in a row: twice as long each time, with jitter."""

    first: Annotated[float, span("100ms", "1h")] = Field(
        default=5.0, description="Wait after the first failure."
    )
    longest: Annotated[float, span("1s", "24h")] = Field(default=600.0, description="Longest wait.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.first > self.longest:
            raise ValueError("has a first wait that is longer than the longest")
        return self


class LimitSettings(Model):
    """How much happens at one time, and for how long."""

    nodes: int = Field(default=16, ge=1, le=1024, description="Nodes that are worked on at one time.")
    per_fleet: int = Field(default=16, ge=1, le=1024, description="The same, of one fleet.")
    checks: int = Field(default=32, ge=1, le=1024, description="Nodes that are asked for drift at one time.")
    apply_within: Annotated[float, span("10s", "24h")] = Field(
        default=1800.0, description="How long one apply may take on one node."
    )
    denials: Annotated[float, span("1s", "1h")] = Field(
        default=20.0, description="Time between two asks of a node for what SELinux refused."
    )
    retry: Retry = Field(default=Retry(), description="Waits after failures.")


class MassDeletion(Model):
    """From how many removals on a plan waits for approval: more than `floor` and more than `share`."""

    floor: int = Field(default=3, ge=0, le=100000, description="This many removals never wait.")
    share: Share = Field(default=0.10, description="This share of what is recorded never waits.")


class GuardSettings(Model):
    """What may not happen without a person."""

    mass_deletion: MassDeletion = Field(default=MassDeletion(), description="Guard against mass deletion.")


class HttpSettings(Model):
    """Webhooks, health and metrics over HTTP."""

    listen: ListenAddress = Field(
        default=Listen("127.0.0.1", 8420),
        description="ADDRESS:PORT or unix:/path; a proxy in front speaks TLS.",
    )


class LogSettings(Model):
    """What the daemon writes to standard error."""

    format: Literal["json", "text"] = Field(default="json", description="One JSON object a line, or text.")
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level written."
    )


class SettingsFile(Model):
    """The settings file."""

    fleets: tuple[FleetSettings, ...] = Field(
        min_length=1, max_length=100, description="The fleets that are served."
    )
    git: GitSettings = Field(default=GitSettings(), description="How remotes are reached.")
    limits: LimitSettings = Field(default=LimitSettings(), description="How much happens at one time.")
    guards: GuardSettings = Field(default=GuardSettings(), description="What waits for a person.")
    http: HttpSettings | None = Field(default=None, description="HTTP; absent: none.")
    log: LogSettings = Field(default=LogSettings(), description="Logs.")
    checks: dict[Name, Command] = Field(
        default_factory=dict, description="Programs that health checks may run here, by name."
    )
    notifications: tuple[dict[str, JsonValue], ...] = Field(
        default=(), max_length=50, description="Who is told what; the fields depend on the channel's type."
    )
