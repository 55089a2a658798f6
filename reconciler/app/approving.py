"""Approvals: which plans wait for a person, what they would destroy, and letting chosen findings pass."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from reconciler.errors import ApprovalNeeded, UsageFault
from reconciler.kit.text import did_you_mean, short
from reconciler.plan import serial
from reconciler.plan.model import Action, Change, Finding, Plan
from reconciler.store import Tx
from reconciler.store.queries import audit, plans
from reconciler.store.queries.plans import StoredPlan
from reconciler.store.words import PlanStatus

_WAITING: tuple[PlanStatus, ...] = ("waiting", "diverged", "approved")
"""A plan of which a part was approved is approved, and may wait for the rest."""


@dataclass(frozen=True)
class Waiting:
    """A plan that a person is to judge. `plan` is None when this version cannot read what was stored."""

    stored: StoredPlan
    findings: tuple[Finding, ...]
    plan: Plan | None

    @property
    def blocking(self) -> tuple[Finding, ...]:
        """The findings that still stand in the way."""
        done = set(self.stored.approved)
        return tuple(f for f in self.findings if f.blocking and not (f.approvable and f.code in done))

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes that an approval can let pass."""
        return tuple(f.code for f in self.blocking if f.approvable)

    @property
    def final(self) -> tuple[Finding, ...]:
        """The findings that no approval lets pass."""
        return tuple(f for f in self.blocking if not f.approvable)

    @property
    def destroyed(self) -> tuple[Change, ...]:
        """What would be gone for good."""
        return tuple(c for c in self.plan.effective if c.destroys) if self.plan else ()

    @property
    def forgotten(self) -> tuple[Change, ...]:
        """What would stay on its node but no longer be managed."""
        changes = self.plan.effective if self.plan else ()
        return tuple(c for c in changes if not c.destroys and c.action in (Action.FORGET, Action.REPLACE))


def waiting(tx: Tx) -> list[Waiting]:
    """The plans that wait, newest first."""
    found = [
        _judged(tx, stored)
        for fleet in sorted({stored.fleet for stored in plans.listed(tx, limit=500)})
        for number, stored in enumerate(plans.listed(tx, fleet=fleet))
        # older ones that were approved in part are past
        if stored.status in _WAITING and (number == 0 or stored.status != "approved")
    ]
    found = [one for one in found if one.codes or (one.final and one.stored.status != "approved")]
    return sorted(found, key=lambda one: one.stored.id, reverse=True)


def find(tx: Tx, prefix: str) -> Waiting:
    """The plan whose id or identity begins so. StoreFault when none or several do; UsageFault when it is past."""
    stored = plans.find(tx, prefix)
    if stored.status in ("applied", "superseded"):
        newer = next((p for p in waiting(tx) if p.stored.fleet == stored.fleet), None)
        hint = f"plan {newer.stored.id} of the same fleet waits" if newer else "no plan of its fleet waits"
        word = "was applied" if stored.status == "applied" else "was superseded by a newer one"
        raise UsageFault(f"plan {stored.id} {word}; approving it would change nothing", hint=hint)
    return _judged(tx, stored)


def chosen(found: Waiting, codes: Collection[str]) -> tuple[str, ...]:
    """The codes to approve: the given ones, or all that can be; what other findings name stays held back.

    ApprovalNeeded when no finding can be approved, UsageFault for a code that is none of the plan's.
    """
    stopping = tuple(f for f in found.final if f.code in codes or not found.codes)
    if stopping:
        said = "; ".join(f"{f.code}: {f.message}" for f in stopping)
        hint = stopping[0].hint or "change the manifests"
        raise ApprovalNeeded(f"no approval lets this pass: {said}", stopping, hint=hint)
    for code in codes:
        if code not in {f.code for f in found.findings if f.blocking and f.approvable}:
            known = found.codes
            hint = did_you_mean(code, known) or f"it waits for {', '.join(known) or 'nothing'}"
            raise UsageFault(f"plan {short(found.stored.id, 26)} does not wait for {code[:40]!r}", hint=hint)
    return tuple(code for code in found.codes if not codes or code in codes)


def approve(tx: Tx, seen: Waiting, codes: Sequence[str], by: str) -> Waiting:
    """Approve findings of the plan that was shown; the plan as it stands then. UsageFault when it is past meanwhile."""
    find(tx, seen.stored.id)
    plans.approve(tx, seen.stored.id, codes, by)
    detail = {"codes": list(codes), "identity": seen.stored.identity, "commit": seen.stored.commit}
    audit.append(tx, actor=by, action="approve", subject=f"Plan/{seen.stored.id}", detail=detail)
    return _judged(tx, plans.find(tx, seen.stored.id))


def _judged(tx: Tx, stored: StoredPlan) -> Waiting:
    findings = tuple(_finding(value) for value in stored.findings)
    try:
        plan = serial.plan_from_json(plans.document(tx, stored.id))
    except (KeyError, TypeError, ValueError):
        plan = None
    return Waiting(stored, findings, plan)


def _finding(value: dict[str, object]) -> Finding:
    listed = value.get("addresses")
    return Finding(
        code=str(value.get("code", "")),
        message=str(value.get("message", "")),
        blocking=bool(value.get("blocking", True)),
        addresses=tuple(map(str, listed)) if isinstance(listed, list) else (),
        hint=str(value.get("hint", "")),
        approvable=bool(value.get("approvable", True)),
    )
