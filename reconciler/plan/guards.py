"""What may not happen without a person: findings on a plan."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from reconciler.desired.kinds import Kind
from reconciler.kit.text import count
from reconciler.plan import uninstalling
from reconciler.plan.kinds import spec_of
from reconciler.plan.model import Action, Change, Finding, Plan, Risk
from reconciler.plan.recorded import Recorded

MASS_DELETION_FLOOR = 3
MASS_DELETION_SHARE = 0.10
"""More removals than the floor and than this share of what is recorded wait for approval."""


@dataclass(frozen=True)
class Thresholds:
    """From how many removals on a plan waits: more than `floor`, and more than `share` of what is recorded."""

    floor: int = MASS_DELETION_FLOOR
    share: float = MASS_DELETION_SHARE


_REMOVALS = (Action.DELETE, Action.FORGET, Action.REPLACE)


def inspect(
    changes: Sequence[Change], recorded: Recorded, thresholds: Thresholds | None = None
) -> tuple[Finding, ...]:
    """The findings on changes, the gravest first. Those on the source are made where the source is judged."""
    removals = [c for c in changes if c.action in _REMOVALS]
    found = (
        _protected(removals),
        _data_loss(removals),
        _server_with_sites(changes, recorded),
        uninstalling.in_use(changes),
        uninstalling.of_engines(changes, recorded),
        _mass_deletion(removals, recorded, thresholds or Thresholds()),
    )
    return tuple(finding for finding in found if finding is not None)


def blocking(plan: Plan, approved: Collection[str] = ()) -> tuple[Finding, ...]:
    """The findings that stop an apply of this plan when the codes in `approved` are approved."""
    return tuple(f for f in plan.findings if f.blocking and not (f.approvable and f.code in approved))


def _protected(removals: Sequence[Change]) -> Finding | None:
    hit = [c for c in removals if any(spec_of(m).get("protect") is True for m in (c.before, c.after))]
    if not hit:
        return None
    return Finding(
        code="protected",
        message=f"{count(len(hit), 'protected resource')} would be removed or replaced.",
        blocking=True,
        addresses=_addresses(hit),
        hint="Set `protect: false` and apply that first; an approval cannot override it.",
        approvable=False,
    )


def _data_loss(removals: Sequence[Change]) -> Finding | None:
    hit = [c for c in removals if Risk.DATA_LOSS in c.risks]
    if not hit:
        return None
    return Finding(
        code="data-loss",
        message=f"{count(len(hit), 'database')} would be dropped (a dump stays on the node).",
        blocking=True,
        addresses=_addresses(hit),
        hint="`deletionPolicy: retain`, applied before, keeps the data.",
    )


def _server_with_sites(changes: Sequence[Change], recorded: Recorded) -> Finding | None:
    """A server's manifest was removed and sites are recorded on it, whether or not they go in the same plan."""
    leaving = {
        c.key.name
        for c in changes
        if c.key.kind is Kind.SERVER and (c.action is Action.FORGET or c.reason_code == "in-use")
    }
    sites = sorted(
        key for key, r in recorded.resources.items() if key.kind is Kind.SITE and r.server in leaving
    )
    if not sites:
        return None
    servers = [f"Server/{name}" for name in sorted({recorded.resources[s].server or "" for s in sites})]
    held = [c.address for c in changes if c.reason_code == "in-use" and c.address in servers]
    message = f"{' and '.join(servers)}: the manifest was removed, but {count(len(sites), 'site')} "
    message += f"{'is' if len(sites) == 1 else 'are'} recorded there."
    if held:
        message += f" {' and '.join(held)} stays as long as something declared needs it."
    return Finding(
        code="server-with-sites",
        message=message,
        blocking=True,
        addresses=(*servers, *map(str, sites)),
        hint="Move the sites to another server or remove them first.",
    )


def _mass_deletion(removals: Sequence[Change], recorded: Recorded, thresholds: Thresholds) -> Finding | None:
    # Forgetting counts: what is forgotten is no longer watched, and declared again it gets another system user.
    hit = [c for c in removals if c.destroys or c.action is Action.FORGET]
    total = len(recorded.resources)
    if len(hit) <= max(thresholds.floor, thresholds.share * total):
        return None
    return Finding(
        code="mass-deletion",
        message=f"{len(hit)} of {total} recorded resources would be removed or replaced.",
        blocking=True,
        addresses=_addresses(hit),
        hint="Approve it if that is what the commit means.",
    )


def _addresses(changes: Sequence[Change]) -> tuple[str, ...]:
    return tuple(c.address for c in changes)
