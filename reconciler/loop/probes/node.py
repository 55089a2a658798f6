"""unit and avc: what only the node can tell, asked through a Prober."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

from reconciler.errors import ReconcilerError
from reconciler.kit.clock import stamp
from reconciler.kit.text import count
from reconciler.loop.probes.checks import AvcCheck, UnitCheck
from reconciler.loop.probes.model import HealthTarget, Prober, Verdict, failed, passed
from reconciler.nodes.answers import UnitState

SECONDS = 20.0
"""How long the node may take to answer."""

_ACTIVE = ("active", "reloading", "refreshing")  # systemd.unit: while these last the unit does its work


async def units(target: HealthTarget, checks: Sequence[UnitCheck], prober: Prober) -> list[Verdict]:
    """One verdict a check; the node is asked once for all."""
    names = sorted({check.unit for check in checks})
    try:
        async with asyncio.timeout(SECONDS):
            states = await prober.units(target.server, names)
    except (ReconcilerError, TimeoutError) as error:
        return [failed(_unanswered(error))] * len(checks)
    return [_unit(check.unit, states.get(check.unit)) for check in checks]


async def avc(target: HealthTarget, check: AvcCheck, prober: Prober, since: datetime) -> Verdict:
    """Whether SELinux refused at most `check.max` times on the server since then."""
    try:
        async with asyncio.timeout(SECONDS):
            number = await prober.denials(target.server, since)
    except (ReconcilerError, TimeoutError) as error:
        return failed(_unanswered(error))
    said = f"{count(number, 'denial')} on {target.server} since {stamp(since)}"
    return passed(said) if number <= check.max else failed(f"{said}, at most {check.max} expected")


def _unit(name: str, state: UnitState | None) -> Verdict:
    if state is None or state.load == "not-found":
        return failed(f"there is no {name} on the node")
    if state.active in _ACTIVE:
        return passed(f"{name} is {state.active}")
    details = [state.sub] if state.sub and state.sub != state.active else []
    if state.result not in ("", "success"):
        details.append(f"result {state.result}")
    if state.restarts:
        details.append(count(state.restarts, "restart"))
    return failed(f"{name} is {state.active}{' (' + ', '.join(details) + ')' if details else ''}")


def _unanswered(error: Exception) -> str:
    return (
        error.message
        if isinstance(error, ReconcilerError)
        else f"the node did not answer within {SECONDS:g} s"
    )
