"""What is known of every resource: its row, its conditions, its last deployment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from reconciler.desired.fleet import Key
from reconciler.desired.kinds import Kind
from reconciler.store import Tx
from reconciler.store.queries import conditions, databases, deployments, inventory, servers, sites
from reconciler.store.queries.conditions import Condition
from reconciler.store.queries.deployments import Filter

_ORDER = (Kind.SERVER, Kind.SITE, Kind.DATABASE, Kind.ROLLOUT, Kind.SSH_KEY, Kind.USER)
_KINDS = frozenset(kind.value for kind in Kind)


@dataclass(frozen=True)
class ResourceStatus:
    """One resource. `state` is the word of its row (active, creating, …); `conditions` by type."""

    key: Key
    server: str
    state: str
    revision: str
    conditions: dict[str, Condition]
    last_deployment: str
    changed_at: datetime | None

    @property
    def ready(self) -> str:
        """The status of its Ready condition, Unknown when there is none."""
        found = self.conditions.get("Ready")
        return found.status if found else "Unknown"

    @property
    def message(self) -> str:
        """The most important thing to say: a stall or failure before drift before a certificate that ends or a reboot that is due before all is well."""
        for kind in ("Stalled", "Drifted"):
            found = self.conditions.get(kind)
            if found is not None and found.status == "True":
                return found.message
        found = self.conditions.get("Ready")
        certificate = self.conditions.get("CertificateValid")
        if certificate is not None and certificate.status == "False" and self.ready == "True":
            return certificate.message
        reboot = self.conditions.get("RebootNeeded")
        if reboot is not None and reboot.status == "True" and self.ready == "True":
            return reboot.message
        return found.message if found else ""


def of_all(tx: Tx) -> list[ResourceStatus]:
    """Every recorded resource and those that wait to be made, servers first."""
    states = _states(tx)
    of: dict[Key, dict[str, Condition]] = {}
    for condition in conditions.listed(tx):
        if condition.kind not in _KINDS:
            continue  # those of a fleet are told with its source
        of.setdefault(Key(Kind(condition.kind), condition.name), {})[condition.type] = condition
    found = []
    for entry in inventory.all(tx):
        key = Key(Kind(entry.kind), entry.name)
        newest = deployments.listed(tx, Filter(kind=entry.kind, name=entry.name), limit=1)
        mine = of.get(key, {})
        found.append(
            ResourceStatus(
                key=key,
                server=entry.server or "",
                state=states.get(key, ""),
                revision=entry.revision,
                conditions=mine,
                last_deployment=newest[0].id if newest else "",
                changed_at=mine["Ready"].last_transition_at if "Ready" in mine else None,
            )
        )
    found += [_waiting(key, of[key]) for key in of.keys() - {status.key for status in found}]
    return sorted(found, key=lambda status: (_ORDER.index(status.key.kind), status.key.name))


def _waiting(key: Key, mine: dict[str, Condition]) -> ResourceStatus:
    """One that is declared, and that nothing is recorded of because it could not be made yet."""
    since = mine["Ready"].last_transition_at if "Ready" in mine else None
    return ResourceStatus(key, "", "", "", mine, last_deployment="", changed_at=since)


def _states(tx: Tx) -> dict[Key, str]:
    return {
        **{Key(Kind.SERVER, row.name): row.status for row in servers.all(tx)},
        **{Key(Kind.SITE, row.name): row.status for row in sites.all(tx)},
        **{
            Key(Kind.DATABASE, row.manifest_name): row.status
            for row in databases.all(tx)
            if row.status != "retained"
        },
    }
