"""What is, was and is to be installed on servers: their records as rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from reconciler.errors import UsageFault
from reconciler.kit.text import did_you_mean
from reconciler.store import Tx
from reconciler.store.queries import servers, software_installations
from reconciler.store.words import SoftwareAction, SoftwareStatus, SoftwareType


@dataclass(frozen=True)
class Row:
    """One record of one server. `series` is what the manifest names (`8.2` of PHP), `version` what the node has, or had."""

    server: str
    type: SoftwareType
    series: str
    action: SoftwareAction
    status: SoftwareStatus
    version: str
    reason: str
    created: datetime
    updated: datetime

    def to_json(self) -> Mapping[str, object]:
        """For programs; empty texts are null."""
        return {
            "server": self.server,
            "type": self.type,
            "series": self.series or None,
            "action": self.action,
            "status": self.status,
            "version": self.version or None,
            "reason": self.reason or None,
            "created": self.created.isoformat(),
            "updated": self.updated.isoformat(),
        }


def listed(tx: Tx, server: str | None = None, *, history: bool = False) -> list[Row]:
    """The records of one server or of all, by server and age. UsageFault for a server that is not recorded.

    Without `history` only the newest record of each piece of software, and no removals that are done.
    """
    known = servers.all(tx)
    if server is not None and server not in {row.name for row in known}:
        hint = did_you_mean(server, [row.name for row in known])
        raise UsageFault(
            f"no server is called {server}", hint=hint or "`reconciler status` lists the servers"
        )
    found = []
    for one in sorted(known, key=lambda row: row.name):
        if server in (None, one.name):
            rows = [
                Row(
                    one.name,
                    record.type,
                    record.version,
                    record.action,
                    record.status,
                    record.installed_version or "",
                    record.reason or "",
                    record.created_at,
                    record.updated_at,
                )
                for record in software_installations.all(tx, one.id)
            ]
            found += rows if history else _newest(rows)
    return found


def _newest(rows: list[Row]) -> list[Row]:
    last = {(row.type, row.series): row for row in rows}
    return [row for row in last.values() if row.status != "removed"]
