"""What runs for a site beside its PHP: jobs by the clock, and workers that are always up."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from reconciler.desired.cron import Schedule
from reconciler.desired.kinds.common import PRINTABLE, Duration, Means, Model, Name, within


def _due(value: str) -> str:
    Schedule.of(value)
    return value


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty")
    return value


CronSchedule = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200, pattern=PRINTABLE),
    AfterValidator(_due),
    Means(
        "schedule",
        "five fields as in crontab(5), such as '*/15 * * * *', or @hourly, @daily, @weekly, @monthly",
    ),
]
Command = Annotated[
    str,
    StringConstraints(min_length=1, max_length=2000, pattern=PRINTABLE),
    AfterValidator(_not_blank),
    Means("shell command", "one line of at most 2000 characters, without control characters"),
]


class CronJob(Model):
    """A command that runs by the clock. One that is still running is not started a second time."""

    name: Name = Field(description="Name of the job; unique among those of the site.")
    schedule: CronSchedule = Field(
        description="When, in the time of the node: five fields as in crontab(5), or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`."
    )
    command: Command = Field(
        description="What: a line for `/bin/sh`, run in public_html as the site's user. Everybody on the node can read it."
    )
    timeout: Annotated[Duration, within("1s", "24h")] = Field(
        default="1h", description="How long it may take; it is ended then."
    )


class Worker(Model):
    """A command that is always up: when it ends, for whatever reason, it is started again."""

    name: Name = Field(description="Name of the worker; unique among those of the site.")
    command: Command = Field(
        description="What: a line for `/bin/sh`, run in public_html as the site's user. Everybody on the node can read it."
    )
    replicas: int = Field(default=1, ge=1, le=32, description="How many of it are up at the same time.")
