"""Health checks: does a server or a site work after what was done to it?

The checks of one target are made at once; each is bounded in time and ends in a sentence, whatever happens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from reconciler.kit.clock import Clock
from reconciler.loop.probes import certificate, command, http, node
from reconciler.loop.probes.checks import (
    AvcCheck,
    CertificateCheck,
    Check,
    CommandCheck,
    HttpCheck,
    UnitCheck,
    from_manifest,
)
from reconciler.loop.probes.model import HealthTarget, Means, Prober, Redact, Verdict

__all__ = [
    "AvcCheck",
    "CertificateCheck",
    "Check",
    "CommandCheck",
    "HealthResult",
    "HealthTarget",
    "HttpCheck",
    "Prober",
    "UnitCheck",
    "check",
    "from_manifest",
]


@dataclass(frozen=True)
class HealthResult:
    """How one check went: `check` names it (`http /health`), `message` is a sentence, `seconds` what it took."""

    check: str
    ok: bool
    message: str
    seconds: float


async def check(
    target: HealthTarget,
    checks: Sequence[Check],
    prober: Prober,
    *,
    clock: Clock,
    since: datetime,
    commands: Mapping[str, Sequence[str]] | None = None,
    redact: Redact = str,
) -> tuple[HealthResult, ...]:
    """Makes all `checks` of `target` at once and returns their results in the same order.

    `since` is when the change began: denials before it do not count. `commands` are the argument lists of command checks
    by name, with `{site}`, `{domain}`, `{server}` and `{address}` in their words; `redact` masks secrets in what they
    print. Raises nothing for what a node, a site or a command does.
    """
    means = Means(prober, clock, since, commands or {}, redact)
    found: dict[int, HealthResult] = {}
    units = {place: one for place, one in enumerate(checks) if isinstance(one, UnitCheck)}
    async with asyncio.TaskGroup() as group:
        for place, one in enumerate(checks):
            if not isinstance(one, UnitCheck):
                group.create_task(_probe_one(target, one, means, found, place))
        if units:
            group.create_task(_probe_units(target, units, means, found))
    return tuple(found[place] for place in range(len(checks)))


async def _probe_one(
    target: HealthTarget,
    one: HttpCheck | CertificateCheck | CommandCheck | AvcCheck,
    means: Means,
    found: dict[int, HealthResult],
    place: int,
) -> None:
    time = asyncio.get_running_loop().time
    began = time()
    verdict: Verdict
    match one:
        case HttpCheck():
            verdict = await http.probe(target, one)
        case CertificateCheck():
            verdict = await certificate.probe(target, one, means.clock)
        case CommandCheck():
            verdict = await command.probe(target, one, means.commands, means.redact)
        case AvcCheck():
            verdict = await node.avc(target, one, means.prober, means.since)
        case _:
            assert_never(one)
    found[place] = HealthResult(str(one), verdict.ok, verdict.message, time() - began)


async def _probe_units(
    target: HealthTarget, units: Mapping[int, UnitCheck], means: Means, found: dict[int, HealthResult]
) -> None:
    time = asyncio.get_running_loop().time
    began = time()
    verdicts = await node.units(target, list(units.values()), means.prober)
    for (place, one), verdict in zip(units.items(), verdicts, strict=True):
        found[place] = HealthResult(str(one), verdict.ok, verdict.message, time() - began)
