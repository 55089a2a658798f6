"""Rollouts at work: which servers may follow a revision now, and how those that did are watched until they count as healthy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from reconciler.desired.fleet import Fleet
from reconciler.desired.kinds import Kind, Rollout
from reconciler.kit.text import short
from reconciler.loop import waves, windows
from reconciler.loop.rollout_spec import from_manifest
from reconciler.loop.waves import Amount, Decision, RolloutSpec, State, Wave
from reconciler.record import conditions
from reconciler.store import Tx
from reconciler.store.queries import conditions as condition_rows
from reconciler.store.queries import events, revisions, rollouts
from reconciler.store.queries.rollouts import ServerRollout

UNMANAGED = RolloutSpec(max_unavailable=Amount(100, percent=True))
"""For servers that no Rollout selects: all at once, no soak, no windows."""

_CHECK_EVERY = timedelta(seconds=15)
_FIRST_CHECKS = timedelta(seconds=2)
_CHECK_FAILED_EVERY = timedelta(minutes=1)


UNHEALTHY = "Unhealthy"
"""Reason of a fleet's Stalled while a server is not healthy with the revision that is followed."""
_NOT_HEALTHY = "not healthy: "
_EITHER = "; with it "


@dataclass(frozen=True)
class Gate:
    """Whether work on some servers may start now; else why not and when to ask again (None: when a state changes)."""

    open: bool
    reason: str = ""
    message: str = ""
    wake_at: datetime | None = None
    stop_at: datetime | None = None
    """Open, but what runs must be stopped then: the window does not permit overrun."""


@dataclass(frozen=True)
class Plan:
    """The rollouts of one revision: each with its waves over the fleet's servers."""

    fleet: str
    commit: str
    of: Mapping[str, RolloutSpec]
    waves: Sequence[tuple[Wave, ...]]
    taking_part: frozenset[str] = frozenset()
    """The servers on which the revision changes something."""

    def spec(self, server: str) -> RolloutSpec:
        """The rollout that a server follows."""
        return self.of.get(server, UNMANAGED)

    def decide(self, states: Mapping[str, State], now: datetime, released: frozenset[str]) -> list[Decision]:
        """What each rollout permits, over the servers that take part in it (those in `states`)."""
        return [
            waves.may_start(_taking_part(one, states), states, now, released=released)
            for one in self.waves
            if any(self.spec(server) is not UNMANAGED for wave in one for server in wave.servers)
        ]


def plan_of(fleet: str, commit: str, declared: Fleet, taking_part: frozenset[str] = frozenset()) -> Plan:
    """The rollouts that a revision declares."""
    labels = {s.name: dict(s.metadata.labels) for s in declared.servers()}
    specs = [
        from_manifest(entry.manifest.spec, key.name)
        for key, entry in sorted(declared.entries.items())
        if key.kind is Kind.ROLLOUT and isinstance(entry.manifest, Rollout)
    ]
    of: dict[str, RolloutSpec] = {}
    found: list[tuple[Wave, ...]] = []
    for spec in [*specs, UNMANAGED]:
        mine = {
            name: own for name, own in labels.items() if name not in of and waves.selects(spec.selector, own)
        }
        of |= dict.fromkeys(mine, spec)
        if mine:
            found.append(waves.plan_waves(spec, mine))
    return Plan(fleet, commit, of, found, taking_part)


def _taking_part(all_waves: Sequence[Wave], states: Mapping[str, State]) -> tuple[Wave, ...]:
    found = (
        Wave(wave.name, tuple(s for s in wave.servers if s in states), wave.max_unavailable, wave.soak)
        for wave in all_waves
    )
    return tuple(wave for wave in found if wave.servers)


def states(tx: Tx, plan: Plan) -> dict[str, State]:
    """How far each server that takes part has come."""
    return {row.server: _state(row) for row in rollouts.listed(tx, plan.fleet, plan.commit)}


def _state(row: ServerRollout) -> State:
    return State(row.state, row.since if row.state == "soaking" else None)


def begin(tx: Tx, plan: Plan, servers: Sequence[str]) -> None:
    """These servers have something to do; what is known of others of this revision stays, of other revisions it goes.

    A server that was done already, and has more to do since something was approved for example, takes its turn again.
    """
    rollouts.keep_only(tx, plan.fleet, plan.commit)
    for server in servers:
        row = rollouts.get(tx, plan.fleet, plan.commit, server)
        if row is None or row.state == "healthy":
            rollouts.put(tx, plan.fleet, plan.commit, server, "pending")


@dataclass(frozen=True)
class Asking:
    """Who wants to begin work, and what counts for them.

    `servers` go together. `changes`: more than a repair, so waves count. `regardless`: an operator said that windows do
    not count. `busy` are servers that work goes on at now, whatever of; `idle` those that are suspended.
    """

    servers: frozenset[str]
    changes: bool
    regardless: bool = False
    busy: frozenset[str] = frozenset()
    idle: frozenset[str] = frozenset()


def gate(tx: Tx, plan: Plan, asking: Asking, now: datetime) -> Gate:
    """Whether work may start."""
    stop_at = None
    if not asking.regardless:
        closed, stop_at = _windows(plan, asking.servers, now)
        if closed is not None:
            return closed
    return (_waves(tx, plan, asking, now) if asking.changes else None) or Gate(open=True, stop_at=stop_at)


def _windows(plan: Plan, servers: frozenset[str], now: datetime) -> tuple[Gate | None, datetime | None]:
    """The closed window that stands in the way, or from when on work may not go on."""
    stop_at = None
    for server in sorted(servers):
        standing = windows.standing(plan.spec(server).windows, now)
        if not standing.open:
            until = f" until {standing.until:%Y-%m-%d %H:%M} UTC" if standing.until else ""
            by = f" ({standing.by})" if standing.by else ""
            message = f"the maintenance window is closed{until}{by}"
            return Gate(open=False, reason="WindowClosed", message=message, wake_at=standing.until), None
        ends = windows.stop_at(plan.spec(server).windows, now)
        if ends is not None:
            stop_at = min(stop_at or ends, ends)
    return None, stop_at


def _waves(tx: Tx, plan: Plan, asking: Asking, now: datetime) -> Gate | None:
    """Why the rollout makes these servers wait; None when it does not."""
    known = states(tx, plan)
    managed = {server for server in asking.servers if plan.spec(server) is not UNMANAGED}
    pending = {s for s in managed if s in known and known[s].phase == "pending"}
    if not pending:
        return None
    # suspended servers hold up nobody; one at which an older revision is still being worked on is unavailable too
    others = {s for s, state in known.items() if state.phase == "pending"} - asking.servers
    counted = {s: state for s, state in known.items() if s not in others & asking.idle}
    counted |= dict.fromkeys(others & asking.busy, waves.APPLYING)
    wake, why = None, ""
    may: set[str] = set()
    for decision in plan.decide(counted, now, rollouts.released(tx, plan.fleet, plan.commit)):
        may |= set(decision.start)
        for server in sorted(pending & decision.waiting.keys()):
            why, wake = why or decision.waiting[server], decision.wake_at
    mine = {plan.spec(server).name for server in pending}
    away = {
        server
        for server, state in counted.items()
        if state.phase in ("applying", "soaking") and plan.spec(server).name in mine
    }
    # what goes together begins together: as soon as one of them may and no other server is unavailable
    together = bool(pending & may) and (pending <= may or away <= asking.servers)
    return (
        None if together or not why else Gate(open=False, reason="RolloutWaiting", message=why, wake_at=wake)
    )


def wave_names(plan: Plan) -> frozenset[str]:
    """The names of the rollouts' waves."""
    return frozenset(wave.name for one in plan.waves for wave in one)


def started(tx: Tx, plan: Plan, servers: frozenset[str], failing_before: Mapping[str, Sequence[str]]) -> None:
    """Work on these servers starts. `failing_before` are the checks, by server, that failed before the first start."""
    for server in servers:
        if rollouts.get(tx, plan.fleet, plan.commit, server) is not None:
            before = failing_before.get(server)
            rollouts.put(tx, plan.fleet, plan.commit, server, "applying", failing_before=before)


def unstarted(tx: Tx, plan: Plan, servers: frozenset[str]) -> frozenset[str]:
    """Those servers of a rollout on which it has not begun."""
    rows = {row.server: row.state for row in rollouts.listed(tx, plan.fleet, plan.commit)}
    return frozenset(server for server in servers if rows.get(server) == "pending")


def nothing_to_do(tx: Tx, plan: Plan, servers: frozenset[str]) -> bool:
    """These servers have what the revision wants already: they need only be watched. Whether that is news of any."""
    news = False
    for server in servers:
        row = rollouts.get(tx, plan.fleet, plan.commit, server)
        if row is not None and row.state == "pending":
            rollouts.put(tx, plan.fleet, plan.commit, server, "applying")
            news = True
    return news


def pending(tx: Tx, plan: Plan) -> list[str]:
    """The servers that wait for their turn."""
    return [row.server for row in rollouts.listed(tx, plan.fleet, plan.commit) if row.state == "pending"]


def applied(tx: Tx, plan: Plan, server: str) -> None:
    """What the revision wants is on the server since now: the time for its health checks begins."""
    row = rollouts.get(tx, plan.fleet, plan.commit, server)
    if row is not None and row.state == "applying":
        before = row.failing_before
        rollouts.forget(tx, plan.fleet, plan.commit, server)
        rollouts.put(tx, plan.fleet, plan.commit, server, "applying", failing_before=before)


def failed(tx: Tx, plan: Plan, server: str, message: str) -> None:
    """What the revision wants could not be applied there: nothing further starts."""
    if rollouts.get(tx, plan.fleet, plan.commit, server) is not None:
        rollouts.put(tx, plan.fleet, plan.commit, server, "failed", message)


@dataclass(frozen=True)
class Step:
    """What watching one server came to: when to look again, and whether its rollout is over there, well or badly."""

    again_after: float | None = None
    done: bool = False
    unhealthy: str = ""
    news: bool = False
    """Not healthy since now."""


def watched(tx: Tx, plan: Plan, server: str) -> ServerRollout | None:
    """The server's part in the rollout while it must be watched: applied, and not yet found healthy."""
    row = rollouts.get(tx, plan.fleet, plan.commit, server)
    return row if row is not None and row.state in ("applying", "soaking", "failed") else None


def is_watched_already(row: ServerRollout) -> bool:
    """Whether the server has the revision for some time, so that its health can be judged without looking further."""
    return row.state == "soaking" or row.message.startswith(_NOT_HEALTHY)


def checked(tx: Tx, plan: Plan, server: str, now: datetime, faults: Sequence[str]) -> Step:
    """The health checks of a server that has the revision came to this; `faults` is empty when all passed."""
    row = rollouts.get(tx, plan.fleet, plan.commit, server)
    if row is None:
        return Step()  # another revision is followed by now: this one is judged no more
    if row.state == "healthy":
        return Step(done=True)
    spec = plan.spec(server)
    soak = next((w.soak for one in plan.waves for w in one if server in w.servers), timedelta())
    if faults:
        message = "; ".join(faults)[:500]
        waited = now - row.since if row.state == "applying" else timedelta()
        if row.state == "failed" or waited >= spec.health_timeout:
            rollouts.put(tx, plan.fleet, plan.commit, server, "failed", _NOT_HEALTHY + message)
            again = _CHECK_FAILED_EVERY.total_seconds()
            return Step(again_after=again, unhealthy=message, news=row.state != "failed")
        rollouts.put(tx, plan.fleet, plan.commit, server, "applying", _NOT_HEALTHY + message)
        left = (spec.health_timeout - waited).total_seconds()
        return Step(again_after=min(max(left, 0.1), _FIRST_CHECKS.total_seconds()))
    if soak > timedelta() and row.state != "soaking":
        rollouts.put(tx, plan.fleet, plan.commit, server, "soaking")
        return Step(again_after=min(soak, _CHECK_EVERY).total_seconds())
    if row.state == "soaking" and now - row.since < soak:
        left = (soak - (now - row.since)).total_seconds()
        return Step(again_after=min(max(left, 0.1), _CHECK_EVERY.total_seconds()))
    rollouts.put(tx, plan.fleet, plan.commit, server, "healthy")
    return Step(done=True)


def complete(tx: Tx, plan: Plan) -> bool:
    """Whether every server that takes part is healthy; then the revision is the one to go back to."""
    found = rollouts.listed(tx, plan.fleet, plan.commit)
    if any(row.state != "healthy" for row in found) or not plan.taking_part <= {row.server for row in found}:
        return False
    known = revisions.get(tx, plan.commit, plan.fleet)
    if known is not None and known.status != "quarantined" and known.healthy_at is None:
        revisions.found_healthy(tx, plan.commit, plan.fleet)
        message = f"{short(plan.commit)} is on every server that it concerns"
        events.add(tx, "Fleet", plan.fleet, reason="RolloutComplete", message=message)
    return True


def quarantine(tx: Tx, plan: Plan, server: str, why: str) -> bool:
    """Put the revision aside because a server is not healthy with it. Whether it was not already."""
    known = revisions.get(tx, plan.commit, plan.fleet)
    if known is None or known.status == "quarantined":
        return False
    reason = f"Server/{server}: {why}"
    revisions.set_status(tx, plan.commit, "quarantined", fleet=plan.fleet, reason=reason)
    message = f"{short(plan.commit)} is quarantined: {reason}"
    events.add(tx, "Fleet", plan.fleet, reason="Quarantined", message=message, type="Warning")
    return True


def tell(tx: Tx, plan: Plan) -> None:
    """Have the fleet's Stalled say that servers are not healthy, beside or below what is graver, and take it back."""
    known = condition_rows.get(tx, "Fleet", plan.fleet, "Stalled")
    followed = revisions.get(tx, plan.commit, plan.fleet)
    if followed is None or followed.status == "quarantined":
        return  # that is told as its quarantine
    ill = "; ".join(
        f"{row.server} is {row.message}"
        for row in rollouts.listed(tx, plan.fleet, plan.commit)
        if row.state == "failed" and row.message.startswith(_NOT_HEALTHY)
    )
    if known is not None and known.status == "True" and known.reason != UNHEALTHY:
        if known.reason == "Quarantined":
            message = known.message.partition(_EITHER)[0] + (f"{_EITHER}{ill}" if ill else "")
            conditions.fleet(tx, plan.fleet, "Stalled", "True", known.reason, message, plan.commit)
    elif ill:
        if conditions.fleet(tx, plan.fleet, "Stalled", "True", UNHEALTHY, ill, plan.commit):
            events.add(tx, "Fleet", plan.fleet, reason=UNHEALTHY, message=ill, type="Warning")
    elif known is not None and known.reason == UNHEALTHY:
        conditions.fleet(tx, plan.fleet, "Stalled", "False", "Succeeded", "", plan.commit)
