"""What the loop remembers of each resource and server over restarts: failures in a row, the next try, repairs."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from reconciler.converge.progress import Result
from reconciler.desired.fleet import Key
from reconciler.desired.kinds import Kind
from reconciler.kit import canonical
from reconciler.loop.backoff import delay
from reconciler.loop.breaker import Breaker
from reconciler.loop.settings import LoopLimits
from reconciler.plan.model import Plan
from reconciler.store import Tx
from reconciler.store.queries import conditions, events, history, loop_state

CANCELLED = "Cancelled"
_STALLED_FACTOR = 6
"""What needs a person is tried again more seldom, by this factor."""


def failed(tx: Tx, key: Key, limits: LoopLimits, *, stalled: bool) -> float:
    """One more failure in a row; the seconds until the next try."""
    known = loop_state.get(tx, key.kind.value, key.name)
    longest = limits.retry_longest * (_STALLED_FACTOR if stalled else 1)
    seconds = delay(known.failures + 1, limits.retry_first, longest, random.random)
    retry_at = tx.now + timedelta(seconds=seconds)
    loop_state.put(tx, replace(known, failures=known.failures + 1, retry_at=retry_at))
    return seconds


def together(tx: Tx, server: Key, keys: Sequence[Key]) -> None:
    """What failed together with its server is tried again together with it: alone it would find no server set up."""
    if server in keys:
        at = loop_state.get(tx, server.kind.value, server.name).retry_at
        for key in keys:
            known = loop_state.get(tx, key.kind.value, key.name)
            loop_state.put(tx, replace(known, retry_at=at))


def succeeded(tx: Tx, key: Key) -> None:
    """It went well: the next failure is the first."""
    known = loop_state.get(tx, key.kind.value, key.name)
    if known.failures or known.retry_at is not None:
        loop_state.put(tx, replace(known, failures=0, retry_at=None))


def answers(tx: Tx, server: str) -> None:
    """The server's node answers: what it failed by not answering is over."""
    known = loop_state.get(tx, Kind.SERVER.value, server)
    ready = conditions.get(tx, Kind.SERVER.value, server, "Ready")
    if known.failures and (ready is None or ready.status != "False"):
        loop_state.put(tx, replace(known, failures=0, retry_at=None))


def backing_off(tx: Tx, keys: Sequence[Key], commit: str, limits: LoopLimits) -> dict[Key, str]:
    """Those of `keys` that must not be tried now: their time has not come, or somebody cancelled them at this commit."""
    found = {}
    for key in keys:
        known = loop_state.get(tx, key.kind.value, key.name)
        stalled = conditions.get(tx, key.kind.value, key.name, "Stalled")
        if (
            stalled is not None
            and (stalled.status, stalled.reason) == ("True", CANCELLED)
            and stalled.observed_revision == commit
        ):
            found[key] = stalled.message
        elif (at := _retry_at(tx, known, limits)) is not None and at > tx.now:
            found[key] = f"it failed {known.failures} times in a row and is tried again at {at:%H:%M:%S} UTC"
    return found


def _retry_at(tx: Tx, known: loop_state.LoopState, limits: LoopLimits) -> datetime | None:
    """When to try again; now, when that lies farther ahead than any wait is long: the clock was set back."""
    if known.retry_at is None:
        return None
    longest = timedelta(seconds=limits.retry_longest * _STALLED_FACTOR)
    return known.retry_at if known.retry_at <= tx.now + longest else tx.now


def next_try(tx: Tx, keys: Sequence[Key], limits: LoopLimits, began: datetime) -> float | None:
    """Seconds until the first of `keys` is to be tried again; None when none failed.

    What was due when the look began, and was not tried by it, is held for another reason: whoever frees it has it
    looked at.
    """
    known = (_retry_at(tx, loop_state.get(tx, key.kind.value, key.name), limits) for key in keys)
    times = [at for at in known if at is not None and at > began]
    return max(0.0, (min(times) - tx.now).total_seconds()) if times else None


def tried(tx: Tx, key: Key) -> str:
    """A digest of what was wanted of a resource when it was last tried, as `look.wanted` gives it; empty when unknown."""
    newest = history.listed(tx, key.kind.value, key.name, limit=1)
    return newest[0].digest if newest else ""


def remember(tx: Tx, plan: Plan, results: Sequence[Result]) -> None:
    """Add results to the history, repeats folded."""
    after = {change.key: change.after for change in plan.changes}
    for result in results:
        manifest = after.get(result.key)
        if manifest is None and result.state == "succeeded" and result.key in after:
            continue  # it is gone, and its history with it
        digest = canonical.digest(manifest)[:16] if manifest is not None else ""
        outcome = history.Outcome(
            plan.head_commit, digest, result.state, result.message[:500], result.seconds
        )
        history.add(tx, result.key.kind.value, result.key.name, outcome)


def checked(tx: Tx, server: str) -> None:
    """The server's node was compared with what was applied."""
    known = loop_state.get(tx, Kind.SERVER.value, server)
    loop_state.put(tx, replace(known, checked_at=tx.now))


def last_checks(tx: Tx) -> dict[str, datetime | None]:
    """When that was, by server."""
    return {one.name: one.checked_at for one in loop_state.listed(tx) if one.kind == Kind.SERVER.value}


def breaker(tx: Tx, key: Key) -> Breaker:
    """The breaker of a resource that is repaired by itself."""
    stored = loop_state.get(tx, key.kind.value, key.name).heals
    value: Mapping[str, object] = stored[0] if stored and isinstance(stored[0], dict) else {}
    try:
        return Breaker.from_json(value) if value else Breaker()
    except ValueError:
        return Breaker()


def repaired(tx: Tx, key: Key) -> None:
    """The resource was repaired by itself once more; too often, and that pauses."""
    known = loop_state.get(tx, key.kind.value, key.name)
    before = breaker(tx, key).at(tx.now)
    after = before.repaired(tx.now)
    loop_state.put(
        tx,
        replace(known, heals=[after.to_json()], breaker_until=after.until, breaker_opened=after.times),
    )
    if after.until is not None and before.until is None:
        message = f"it drifts again and again; repairs pause until {after.until:%Y-%m-%d %H:%M} UTC"
        events.add(tx, key.kind.value, key.name, reason="BreakerOpen", message=message, type="Warning")


def open_breakers(tx: Tx) -> list[tuple[str, str, datetime]]:
    """The objects whose repairs pause now, as kind, name and until when."""
    return [
        (one.kind, one.name, one.breaker_until)
        for one in loop_state.listed(tx)
        if one.breaker_until is not None and one.breaker_until > tx.now
    ]
