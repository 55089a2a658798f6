"""Pure: what a revision means for the whole fleet before anything is touched — the plan, and what must wait for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from reconciler.desired.fleet import Key, Loaded
from reconciler.kit.text import count
from reconciler.loop import scope
from reconciler.plan.draft import references
from reconciler.plan.guards import Thresholds
from reconciler.plan.identity import beyond
from reconciler.plan.make import Head, make_plan
from reconciler.plan.model import Action, Change, Finding, Plan
from reconciler.plan.recorded import Recorded

HoldReason = Literal["NeedsApproval", "PlanDiverged", "Refused", "Suspended", "Conflict", "SourceNotReady"]
ROLLBACK = "rollback-removes"
"""Code of the finding that going back to an older revision would remove something."""
DIVERGED = "plan-diverged"
"""Code of the finding that the plan does more than the one that was reviewed."""

_REMOVALS = (Action.DELETE, Action.FORGET, Action.REPLACE)


@dataclass(frozen=True)
class Hold:
    """Why a resource stays as it is recorded."""

    reason: HoldReason
    message: str


@dataclass(frozen=True)
class Approved:
    """A plan of the same commit of which an operator approved some findings, by their codes."""

    plan: Plan
    codes: frozenset[str]


@dataclass(frozen=True)
class Inputs:
    """What is assessed: a revision, the recorded state, and what people said about it.

    `suspended` are the resources that an operator suspended, each with the reason; `reviewed` the plan that was reviewed
    for the same files, `approved` what was approved since; `foreign` are the resources that other fleets have, each with
    the fleet's name. `sourceless` are the sites of which no commit is known that they could have, each with the reason.
    """

    loaded: Loaded
    recorded: Recorded
    head: Head
    created_at: str
    engine: str
    suspended: Mapping[Key, str] = field(default_factory=dict)
    reviewed: Plan | None = None
    approved: Sequence[Approved] = ()
    foreign: Mapping[Key, str] = field(default_factory=dict)
    sourceless: Mapping[Key, str] = field(default_factory=dict)
    thresholds: Thresholds = field(default_factory=Thresholds)
    rollback: bool = False


@dataclass(frozen=True)
class Assessment:
    """A revision judged: its whole plan, what is held back and why, and the servers that belong together."""

    plan: Plan
    holds: Mapping[Key, Hold]
    waiting: tuple[Finding, ...]
    groups: Mapping[str, frozenset[str]]

    @property
    def servers(self) -> frozenset[str]:
        """The servers on which something changes that nothing holds back."""
        return frozenset(
            server
            for change in self.plan.effective
            if change.key not in self.holds
            for server in (change.server, change.previous_server)
            if server is not None
        )


def assess(given: Inputs) -> Assessment:
    """Judge a revision. The same inputs give the same answer."""
    holds = {key: Hold("SourceNotReady", why) for key, why in given.sourceless.items()}
    holds |= {key: Hold("Suspended", why) for key, why in given.suspended.items()}
    for key in given.loaded.fleet.entries.keys() & given.foreign.keys():
        why = (
            f"{key} belongs to the fleet {given.foreign[key]}; choose another name, or remove it there first"
        )
        holds[key] = Hold("Conflict", why)
    plan = make_plan(
        given.loaded,
        given.recorded,
        head=given.head,
        created_at=given.created_at,
        engine=given.engine,
        hold={key: hold.message for key, hold in holds.items()},
        thresholds=given.thresholds,
    )
    findings = [*plan.findings, *_divergence(plan, given), *_taken_back(plan, given)]
    waiting = []
    for finding in findings:
        if not finding.blocking:
            continue
        held = _not_approved(plan, finding, given)
        if held:
            waiting.append(finding)
        for address in held:
            holds.setdefault(_key(plan, given.recorded, address), _hold(finding))
    _keep_what_they_need(plan, given.recorded, holds)
    return Assessment(plan, holds, tuple(waiting), scope.groups(given.loaded.fleet, given.recorded))


def _taken_back(plan: Plan, given: Inputs) -> tuple[Finding, ...]:
    """Going back puts things as they were; what came since is left standing until a person says that it may go."""
    going = tuple(c.address for c in plan.effective if c.action in _REMOVALS) if given.rollback else ()
    if not going:
        return ()
    message = (
        f"Going back would remove {count(len(going), 'resource')} that came since: {', '.join(going[:3])}."
    )
    return (
        Finding(
            code=ROLLBACK,
            message=message,
            blocking=True,
            addresses=going,
            hint="Approve it if they shall go, or push a commit.",
        ),
    )


def _divergence(plan: Plan, given: Inputs) -> tuple[Finding, ...]:
    """The finding that the plan is not the reviewed one or a part of it."""
    more = _beyond(plan, given.reviewed, given.recorded) if given.reviewed is not None else ()
    if not more:
        return ()
    message = f"{count(len(more), 'change')} of this plan {'is' if len(more) == 1 else 'are'} not in the reviewed one: "
    message += ", ".join(more[:3]) + (f" and {len(more) - 3} more" if len(more) > 3 else "") + "."
    return (
        Finding(
            code=DIVERGED,
            message=message,
            blocking=True,
            addresses=tuple(change.address for change in plan.effective),
            hint="The state has moved since the review. Review this plan and approve it.",
        ),
    )


def _beyond(plan: Plan, seen: Plan, recorded: Recorded) -> tuple[str, ...]:
    """As `identity.beyond`, except that what was seen may be tried again.

    An attempt that failed leaves another record, from which other steps lead to the same end.
    """
    known = {change.address: change for change in seen.effective}
    changes = {change.address: change for change in plan.effective}

    def again(change: Change) -> bool:
        before = recorded.resources.get(change.previous or change.key)
        if before is None or not before.failed or change.destroys or change.action is Action.FORGET:
            return False
        wish = known.get(change.address)
        same = wish is not None and (wish.after, wish.server) == (change.after, change.server)
        return same or change.before == change.after

    return tuple(address for address in beyond(plan, seen) if not again(changes[address]))


def _not_approved(plan: Plan, finding: Finding, given: Inputs) -> tuple[str, ...]:
    """The addresses of a finding whose change is not exactly what somebody approved."""
    if not finding.approvable:
        return finding.addresses
    left = set(finding.addresses)
    for one in given.approved:
        if finding.code in one.codes:
            left &= set(_beyond(plan, one.plan, given.recorded))
    return tuple(address for address in finding.addresses if address in left)


def _hold(finding: Finding) -> Hold:
    if finding.code == DIVERGED:
        return Hold("PlanDiverged", finding.message)
    return Hold("NeedsApproval" if finding.approvable else "Refused", finding.message)


def _key(plan: Plan, recorded: Recorded, address: str) -> Key:
    known = {str(key): key for key in recorded.resources} | {c.address: c.key for c in plan.changes}
    return known[address]


def _keep_what_they_need(plan: Plan, recorded: Recorded, holds: dict[Key, Hold]) -> None:
    """What is held keeps what it refers to: a database that must not go yet keeps its site."""
    going = {change.key for change in plan.effective if change.action in _REMOVALS}
    todo = [key for key in holds if key in recorded.resources]
    while todo:
        key = todo.pop()
        for needed in references(key, recorded.resources[key].manifest):
            if needed in going and needed not in holds:
                holds[needed] = Hold(holds[key].reason, f"{key} needs it: {holds[key].message}")
                todo.append(needed)
