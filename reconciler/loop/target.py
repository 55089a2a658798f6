"""What a fleet is to become: the revision that is followed, judged, with what is recorded about that."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property

from reconciler.desired.fleet import Key, Loaded
from reconciler.desired.kinds import Database, Server, Site
from reconciler.desired.problems import Source
from reconciler.desired.scalars import seconds
from reconciler.desired.snapshot import Snapshot
from reconciler.kit import canonical
from reconciler.kit.text import count
from reconciler.loop import rollouts
from reconciler.loop.assess import DIVERGED, Approved, Assessment
from reconciler.loop.scope import declared_on
from reconciler.plan import serial
from reconciler.plan.identity import identity
from reconciler.plan.model import Action, Finding, Plan
from reconciler.record import conditions
from reconciler.store import Tx
from reconciler.store.queries import conditions as condition_rows
from reconciler.store.queries import inventory, plans
from reconciler.store.words import PlanStatus, TriggeredVia

_KEPT_PLANS = 100


@dataclass(frozen=True)
class Target:
    """The revision that a fleet follows now.

    `rollback`: it is not the newest one, which is quarantined. `plan_id` is the stored plan's row, empty when there is
    nothing to do; `trigger` is what brought the revision.
    """

    fleet: str
    snapshot: Snapshot
    loaded: Loaded
    assessment: Assessment
    rollout: rollouts.Plan
    trigger: TriggeredVia
    plan_id: str = ""
    rollback: bool = False

    @property
    def commit(self) -> str:
        """The commit."""
        return self.snapshot.commit

    @cached_property
    def recorded_then(self) -> frozenset[Key]:
        """What was recorded of the fleet when the revision was judged."""
        return frozenset(c.previous or c.key for c in self.assessment.plan.changes if c.before is not None)

    @cached_property
    def drift_every(self) -> dict[str, timedelta]:
        """How often each server is compared with what was applied: the shortest interval of what is declared on it."""
        found: dict[str, timedelta] = {}
        for entry in self.loaded.fleet.entries.values():
            server, manifest = declared_on(entry.manifest), entry.manifest
            if server is None or not isinstance(manifest, Server | Site | Database):
                continue
            if manifest.spec.drift.mode != "off":
                every = timedelta(seconds=seconds(manifest.spec.drift.every))
                found[server] = min(found.get(server, every), every)
        return found

    @cached_property
    def wanted(self) -> tuple[tuple[Key, str | None], ...]:
        """What the plan changes, each with the digest that the record has once it has arrived; None: nothing."""
        return tuple(
            (change.key, canonical.digest(change.after) if change.after is not None else None)
            for change in self.assessment.plan.effective
        )


def approvals(tx: Tx, fleet: str, commit: str) -> list[Approved]:
    """What operators approved of this commit's plans and was not carried out yet."""
    return [
        Approved(serial.plan_from_json(plans.document(tx, one.id)), frozenset(one.approved))
        for one in plans.approved_for(tx, fleet, commit)
        if one.status not in ("applied", "superseded")
    ]


def retire(tx: Tx, fleet: str, commit: str) -> None:
    """What was approved of other commits than the one that is followed now counts no more, also when they come back."""
    for one in plans.listed(tx, fleet=fleet, status="approved"):
        if one.commit != commit:
            plans.set_status(tx, one.id, "superseded")


def spend(tx: Tx, fleet: str, commit: str) -> None:
    """Everything of a commit is applied: what was approved of it does not count another time."""
    for one in plans.approved_for(tx, fleet, commit):
        if one.status != "applied":
            plans.set_status(tx, one.id, "applied")


def reviewed(tx: Tx, fleet: str, tree: str) -> Plan | None:
    """The plan that was reviewed for these files."""
    found = plans.reviewed_for(tx, fleet, tree) if tree else None
    return serial.plan_from_json(plans.document(tx, found.id)) if found is not None else None


def slim(plan: Plan) -> Plan:
    """The plan without what stays as it is: what is kept of it, and what later plans are compared with."""
    changes = tuple(change for change in plan.changes if change.action is not Action.NO_OP)
    return replace(plan, changes=changes)


@dataclass(frozen=True)
class Surroundings:
    """What a judgement is recorded with besides itself.

    `tree` is the git tree of the manifests; `aside` says why another revision is set aside, empty when none is;
    `others` are the addresses that other fleets declare, None while not all of them are known.
    """

    tree: str = ""
    aside: str = ""
    others: frozenset[str] | None = frozenset()


def record(tx: Tx, fleet: str, assessment: Assessment, loaded: Loaded, around: Surroundings) -> str:
    """Keep the plan and bring the conditions up to what the revision means; the id of the plan's row, "" without one."""
    plan, tree = assessment.plan, around.tree
    plan_id = _keep(tx, fleet, tree, assessment) if plan.effective else ""
    _hold(tx, assessment, plan_id)
    _broken(tx, loaded, plan.head_commit)
    if around.others is not None:
        _forget_strangers(tx, assessment, loaded, around.others)
    _fleet(tx, fleet, assessment, loaded, _approve_by(assessment, plan_id), around.aside)
    return plan_id


def _approve_by(assessment: Assessment, plan_id: str) -> str:
    """How the plan is approved; empty when no approval lets any of it pass."""
    can = plan_id and any(finding.approvable for finding in assessment.waiting)
    return f"`reconciler approve {plan_id}`" if can else ""


def new_plan(fleet: str, tree: str, plan: Plan, findings: Iterable[Finding]) -> plans.NewPlan:
    """A plan as it is kept, with the findings that a person is to be told of."""
    summary: dict[str, int] = {}
    for change in plan.effective:
        summary[change.action.value] = summary.get(change.action.value, 0) + 1
    return plans.NewPlan(
        fleet=fleet,
        identity=identity(plan),
        commit=plan.head_commit,
        tree=tree,
        base_commit=plan.base_commit,
        serial=plan.serial,
        lineage=plan.lineage,
        engine=plan.engine,
        document=serial.plan_to_json(slim(plan)),
        summary=summary,
        findings=[
            {
                "code": finding.code,
                "message": finding.message,
                "blocking": finding.blocking,
                "addresses": list(finding.addresses),
                "hint": finding.hint,
                "approvable": finding.approvable,
            }
            for finding in findings
        ],
    )


def _keep(tx: Tx, fleet: str, tree: str, assessment: Assessment) -> str:
    plan = assessment.plan
    codes = {finding.code for finding in assessment.waiting}
    status: PlanStatus = "diverged" if DIVERGED in codes else "waiting" if codes else "planned"
    told = (*assessment.waiting, *(f for f in plan.findings if not f.blocking))
    new = new_plan(fleet, tree, plan, told)
    stored = plans.put(tx, new, status=status)
    # what was reviewed may wait for an approval besides; what was approved in part is told by its findings
    if stored.status != "approved" and (codes or stored.status != "reviewed"):
        plans.renew(tx, stored.id, status, new.findings)
    plans.supersede(tx, fleet, stored.id)
    plans.prune(tx, fleet, _KEPT_PLANS)
    return stored.id


def _hold(tx: Tx, assessment: Assessment, plan_id: str) -> None:
    commit = assessment.plan.head_commit
    for key, hold in assessment.holds.items():
        if hold.reason == "Conflict":
            continue  # its conditions are the other fleet's
        hint = f"; `reconciler approve {plan_id}`" if hold.reason in ("NeedsApproval", "PlanDiverged") else ""
        conditions.held(tx, key, commit, hold.reason, hold.message.removesuffix(".") + hint)
    free = [change.key for change in assessment.plan.changes if change.key not in assessment.holds]
    conditions.freed_all(tx, free, commit)


def _broken(tx: Tx, loaded: Loaded, commit: str) -> None:
    fleet = loaded.fleet
    if not fleet.broken:
        return
    places = {key: place for key in (*fleet.entries, *fleet.broken) if (place := fleet.locate(key, ()))}
    for key in fleet.broken:
        conditions.held(tx, key, commit, "InvalidManifest", _what_is_wrong(loaded, key, places))


def _what_is_wrong(loaded: Loaded, key: Key, places: Mapping[Key, Source]) -> str:
    """The problems of one document, or where it begins when they are told elsewhere, as those of Defaults are."""
    place = places.get(key)
    if place is None:
        return "its manifest has problems"
    later = [other.line for other in places.values() if other.path == place.path and other.line > place.line]
    inside = range(place.line, min(later)) if later else range(place.line, sys.maxsize)
    own = [str(p) for p in loaded.errors if p.source.path == place.path and p.source.line in inside]
    return "; ".join(own[:3]) or f"{place}: what it gets from elsewhere has problems: {loaded.errors[0]}"


def _forget_strangers(tx: Tx, assessment: Assessment, loaded: Loaded, others: frozenset[str]) -> None:
    """Conditions of what is neither declared nor recorded by any fleet say nothing any more."""
    known = {str(c.key) for c in assessment.plan.changes} | {str(key) for key in loaded.fleet.broken} | others
    known |= {f"{kind}/{name}" for kind, name in inventory.owners(tx)}
    for condition in condition_rows.listed(tx):
        if condition.kind != "Fleet" and f"{condition.kind}/{condition.name}" not in known:
            condition_rows.forget(tx, condition.kind, condition.name)


def _fleet(tx: Tx, fleet: str, assessment: Assessment, loaded: Loaded, approve_by: str, aside: str) -> None:
    """Stalled, for the gravest reason there is and with all that is to be said."""
    commit, said = assessment.plan.head_commit, list[tuple[str, str]]()
    if aside:
        said.append(("Quarantined", aside))
    if assessment.waiting:
        first = next((f for f in assessment.waiting if f.approvable), assessment.waiting[0])
        codes = ", ".join(finding.code for finding in assessment.waiting)
        reason = "NeedsApproval" if approve_by else "Refused"
        if any(f.code == DIVERGED for f in assessment.waiting):
            reason = "PlanDiverged"
        hint = f"; {approve_by}" if approve_by else f" {first.hint}"
        message = first.message.removesuffix(".") if approve_by else first.message
        said.append((reason, f"{codes}: {message}{hint}"))
    conflicts = [hold.message for _, hold in sorted(assessment.holds.items()) if hold.reason == "Conflict"]
    if conflicts:
        said.append(
            ("Conflict", conflicts[0] + (f" (and {len(conflicts) - 1} more)" if conflicts[1:] else ""))
        )
    if errors := loaded.errors:
        said.append(("InvalidManifest", f"{count(len(errors), 'problem')} in the manifests: {errors[0]}"))
    if said:
        message = "; ".join(message for _, message in said)
        conditions.fleet(tx, fleet, "Stalled", "True", said[0][0], message, commit)
        return
    known = condition_rows.get(tx, "Fleet", fleet, "Stalled")
    if known is None or known.reason != rollouts.UNHEALTHY:  # that is the rollout's to take back
        conditions.fleet(tx, fleet, "Stalled", "False", "Succeeded", "", commit)
