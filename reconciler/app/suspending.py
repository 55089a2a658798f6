"""Suspensions: an operator tells the daemon to leave a resource or a fleet as it is, why, and until when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from reconciler.app import addresses
from reconciler.app.addresses import Address
from reconciler.desired.problems import printable
from reconciler.desired.scalars import seconds
from reconciler.errors import UsageFault
from reconciler.kit.clock import stamp
from reconciler.store import Tx
from reconciler.store.queries import audit, suspensions

_LONGEST_REASON = 500


def reason_of(text: str) -> str:
    """A reason as it is recorded: one line of printable text. UsageFault when it is empty or too long."""
    line = printable(" ".join(text.split()))
    if not line:
        raise UsageFault("the reason is empty", hint="say why, for whoever finds this later")
    if len(line) > _LONGEST_REASON:
        raise UsageFault(f"the reason has more than {_LONGEST_REASON} characters")
    return line


def end_of(now: datetime, length: str | None, until: str | None) -> datetime | None:
    """When a suspension ends: `length` as a duration from now or `until` as a time; None for neither.

    A time is ISO 8601, with a zone or in this machine's (`2026-01-31T18:00+01:00`, `2026-01-31 18:00`), or only a time of
    day (`18:00`: the next one). UsageFault for anything else and for what is over already.
    """
    if length is not None:
        try:
            return now + timedelta(seconds=seconds(length))
        except ValueError as fault:
            raise UsageFault(f"{length[:40]!r} {fault}") from None
    if until is None:
        return None
    found = _time(until, now)
    if found <= now:
        raise UsageFault(f"{stamp(found)} is over already (it is {stamp(now)})")
    return found


def _time(text: str, now: datetime) -> datetime:
    here = now.astimezone()
    try:
        if len(text) == len("18:00"):
            clock = datetime.strptime(text, "%H:%M").time()
            found = datetime.combine(here.date(), clock).astimezone()
            if found <= here:
                found = datetime.combine(here.date() + timedelta(days=1), clock).astimezone()
            return found.astimezone(UTC)
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        raise UsageFault(
            f"{text[:40]!r} is no time", hint="such as 18:00, '2026-01-31 18:00' or 2026-01-31T18:00+01:00"
        ) from None


def suspend(tx: Tx, address: Address, *, reason: str, by: str, until: datetime | None) -> None:
    """Suspend, or change the reason and end of what is suspended; in the audit log."""
    suspensions.put(tx, address.kind, address.name, reason=reason, owner=by, expires_at=until)
    detail = {"reason": reason, "until": stamp(until) if until else None}
    audit.append(tx, actor=by, action="suspend", subject=str(address), detail=detail)


def resume(tx: Tx, text: str, by: str) -> tuple[Address, bool]:
    """Take a suspension back: whether there was one. UsageFault for what is neither suspended nor known."""
    address = addresses.parse(text)
    held = any((s.kind, s.name) == (address.kind, address.name) for s in suspensions.listed(tx))
    if not held:
        return addresses.require(tx, text, hint="`reconciler suspend` lists what is suspended"), False
    suspensions.take_back(tx, address.kind, address.name)
    audit.append(tx, actor=by, action="resume", subject=str(address))
    return address, True
