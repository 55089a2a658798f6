"""Drift: what happens when a node shows something else than was applied."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from reconciler.desired.kinds.common import PRINTABLE, Duration, Means, Model, within


def _day(value: str) -> str:
    try:
        return date.fromisoformat(value).isoformat()
    except ValueError:
        raise ValueError("is no day of the calendar") from None


Day = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"),
    AfterValidator(_day),
    Means("day", "a day as YYYY-MM-DD, such as 2027-01-31"),
]
StepGlob = Annotated[
    str,
    StringConstraints(min_length=1, max_length=1200, pattern=PRINTABLE),
    Means(
        "pattern",
        "the key of a step, such as unit:nginx.service; * ? and [] stand for parts of it as in a shell",
    ),
]
StepField = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,40}$"),
    Means(
        "field of a step",
        "the word before the colon in what `reconciler drift` shows, such as mode",
        "fields of a step",
    ),
]
Reason = Annotated[
    str,
    StringConstraints(max_length=500, pattern=PRINTABLE),
    Means("text", "one line of at most 500 characters", "texts"),
]


class DriftIgnore(Model):
    """A difference that is left alone."""

    step: StepGlob = Field(
        description="Pattern over the keys of steps, upper and lower case told apart: `file:/etc/nginx/*`."
    )
    field: StepField | None = Field(
        default=None, description="Only this field of the steps; absent: whatever differs."
    )
    until: Day | None = Field(
        default=None,
        description="Last day (UTC) that the rule counts; afterwards it is reported as expired. Absent: for ever.",
    )
    reason: Reason = Field(default="", description="Why; shown with what is ignored.")


class Drift(Model):
    """How drift of one resource is treated. The rules of a Server are for its own sections only."""

    mode: Literal["off", "report", "heal"] = Field(
        default="report",
        description="`off`: drift is nobody's concern. `report`: it is shown. `heal`: what was applied is put back.",
    )
    every: Annotated[Duration, within("10s", "720h")] = Field(
        default="30m", description="How often the daemon compares the node with what was applied."
    )
    ignore: tuple[DriftIgnore, ...] = Field(
        default=(), max_length=100, description="Differences that are left alone in every mode."
    )
