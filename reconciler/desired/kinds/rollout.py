"""Rollout: in which order, how fast and when changes reach servers. It is recorded only; no node learns of it."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PlainValidator, StringConstraints, WithJsonSchema

from reconciler.desired.kinds.common import (
    Distinct,
    Duration,
    Kind,
    LabelKey,
    LabelValue,
    Manifest,
    Means,
    Model,
    Name,
    Spec,
    within,
)

_PERCENT = "^([1-9][0-9]?|100)%$"
_MOST = 10_000


def _share(value: object) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST:
        return value
    if isinstance(value, str) and re.fullmatch(_PERCENT[1:-1], value):
        return value
    raise ValueError(f'must be a whole number of servers (0 to {_MOST}) or a percentage from "1%" to "100%"')


Share = Annotated[
    int | str,
    PlainValidator(_share),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": _MOST},
                {"type": "string", "pattern": _PERCENT},
            ]
        }
    ),
    Means("number or percentage", "a whole number of servers, or a percentage such as 25%"),
]
"""Servers at one time. A percentage of them is rounded down, but is at least 1; 0 is a gate that a person opens."""

Selector = dict[LabelKey, LabelValue]
"""Labels that a server must have, all of them; empty: every server."""

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
ClockTime = Annotated[
    str,
    StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$"),
    Means("time of day", "hours and minutes from 00:00 to 23:59", "times of day"),
]
TimeZone = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_+-]{0,31}(/[A-Za-z0-9_+-]{1,31}){0,3}$"),
    Means("time zone", "a name of the IANA time zones, such as Europe/Berlin"),
]
"""Whether a zone of that name is known here is not a matter of the form: `reconciler.desired.windows`."""


class RolloutWave(Model):
    """Servers that change before those of the next wave."""

    name: Name = Field(description="Name of the wave; unique in the rollout.")
    selector: Selector = Field(
        default_factory=dict,
        description="Labels of the wave's servers, all of them; those of an earlier wave stay there. Empty: all that are left.",
    )
    max_unavailable: Share | None = Field(
        default=None, description="Servers of the wave that change at one time; absent: as the rollout says."
    )
    soak: Annotated[Duration, within("0s", "720h")] | None = Field(
        default=None, description="How long each server is watched afterwards; absent: as the rollout says."
    )


class RolloutWindow(Model):
    """A span of time, every week on some days, in which changes may or may not begin."""

    name: Name = Field(description="Name of the window; unique in the rollout.")
    mode: Literal["allow", "deny"] = Field(
        description="`allow`: changes begin only inside a window that allows. `deny`: none begins inside; it wins over allow."
    )
    days: Annotated[tuple[Day, ...], Distinct] = Field(
        default=("mon", "tue", "wed", "thu", "fri", "sat", "sun"),
        min_length=1,
        description="Days on which the window opens.",
    )
    start: ClockTime = Field(description="Time of day, in the window's time zone, at which it opens.")
    duration: Annotated[Duration, within("1m", "168h")] = Field(
        description="How long it is open, past midnight if need be."
    )
    timezone: TimeZone = Field(
        default="UTC", description="IANA time zone of `start`; summer time is observed."
    )
    overrun: bool = Field(
        default=True,
        description="Whether what has begun may go on when the window ends; `false`: nothing further begins and what runs is stopped.",
    )


class RolloutSpec(Spec):
    """Which servers, in which order, how many at one time, and when."""

    selector: Selector = Field(
        default_factory=dict,
        description="Labels of the servers that it is for, all of them; empty: every server. A server has one Rollout.",
    )
    waves: tuple[RolloutWave, ...] = Field(
        default=(),
        max_length=50,
        description="Waves in their order; servers that none selects are a last wave.",
    )
    max_unavailable: Share = Field(
        default=1,
        description="Servers of a wave that change at one time: a number, or a percentage (rounded down, at least 1); 0 waits for a person.",
    )
    soak: Annotated[Duration, within("0s", "720h")] = Field(
        default="0s", description="How long a server is watched after its change before it counts as healthy."
    )
    health_timeout: Annotated[Duration, within("1s", "24h")] = Field(
        default="2m", description="How long health checks may fail after a change before it has failed."
    )
    on_failure: Literal["quarantine", "stop"] = Field(
        default="quarantine",
        description="`quarantine`: the revision is set aside and the last good one is applied again. `stop`: nothing further begins.",
    )
    windows: tuple[RolloutWindow, ...] = Field(
        default=(), max_length=50, description="When changes may begin; none: at any time."
    )


class Rollout(Manifest):
    """The order and the times in which changes reach servers."""

    kind_name: ClassVar[Kind] = Kind.ROLLOUT
    kind: Literal["Rollout"] = Field(description="Always `Rollout`.")
    spec: RolloutSpec = Field(
        default_factory=RolloutSpec, description="Which servers, in which order and when."
    )
