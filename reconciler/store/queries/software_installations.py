"""Software on servers: each installation, upgrade or removal is a record with a state of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import get_args

import sqlalchemy as sa

from reconciler.errors import StoreFault
from reconciler.store import rows
from reconciler.store.tables import software_installations as table
from reconciler.store.transaction import Tx
from reconciler.store.words import SoftwareAction, SoftwareStatus, SoftwareType

TRANSITIONS: dict[SoftwareStatus, frozenset[SoftwareStatus]] = {
    "pending": frozenset({"installing", "installed", "removed", "failed"}),
    "installing": frozenset({"pending", "installed", "removed", "failed"}),
    "failed": frozenset({"pending", "installing", "installed", "removed"}),
    "installed": frozenset(),
    "removed": frozenset(),
}
"""From each state the ones that may follow; a failed record may be tried again, an ended one gets a successor. What is found
in place needs no installing."""


@dataclass(frozen=True)
class SoftwareInstallation:
    """`version` is a series, such as `8.2` of PHP, and empty where only one can be there. `installed_version` is what the
    node's package database said last, `reason` why the last attempt failed. `packages` are those of an upgrade, each with the
    version before and the one that was offered."""

    id: str
    server_id: str
    type: SoftwareType
    version: str
    action: SoftwareAction
    status: SoftwareStatus
    installed_version: str | None
    reason: str | None
    packages: Mapping[str, Sequence[str]] | None
    created_at: datetime
    updated_at: datetime


def put(
    tx: Tx,
    *,
    server_id: str,
    type: SoftwareType,  # noqa: A002 - the column
    version: str,
    action: SoftwareAction,
) -> SoftwareInstallation:
    """Records that something is to be done; the same one that has not ended yet is returned instead of a second."""
    open_states = [state for state in get_args(SoftwareStatus) if TRANSITIONS[state]]
    statement = rows.select(table, SoftwareInstallation).where(
        table.c.server_id == server_id,
        table.c.type == type,
        table.c.version == version,
        table.c.action == action,
        table.c.status.in_(open_states),
    )
    known = rows.first(tx, statement, SoftwareInstallation)
    if known is not None:
        return known
    values = {"server_id": server_id, "type": type, "version": version, "action": action, "status": "pending"}
    return rows.by_id(tx, table, SoftwareInstallation, rows.insert(tx, table, values))


def advance(
    tx: Tx,
    installation_id: str,
    status: SoftwareStatus,
    *,
    version: str | None = None,
    reason: str | None = None,
) -> SoftwareInstallation:
    """Moves a record on, with the version found on the node or the reason of a failure. StoreFault when `status` cannot
    follow the one it has."""
    known = rows.by_id(tx, table, SoftwareInstallation, installation_id)
    if status not in TRANSITIONS[known.status]:
        raise StoreFault(
            f"software installation {installation_id} is {known.status} and cannot become {status}"
        )
    values = {"status": status, "reason": reason}
    if version is not None:
        values["installed_version"] = version
    rows.update(tx, table, installation_id, values)
    return rows.by_id(tx, table, SoftwareInstallation, installation_id)


def ask_upgrade(
    tx: Tx,
    *,
    server_id: str,
    type: SoftwareType,  # noqa: A002 - the column
    version: str,
    packages: Mapping[str, Sequence[str]],
) -> SoftwareInstallation:
    """Records that something installed is to be upgraded; one that was asked for and has not ended is asked for anew."""
    record = put(tx, server_id=server_id, type=type, version=version, action="upgrade")
    before = next(iter(packages.values()))[0]
    values = {
        "status": "pending",
        "reason": None,
        "installed_version": before,
        "packages": {name: list(versions) for name, versions in packages.items()},
    }
    rows.update(tx, table, record.id, values)
    return rows.by_id(tx, table, SoftwareInstallation, record.id)


def upgrading(tx: Tx) -> dict[str, list[SoftwareInstallation]]:
    """The upgrades that are on their way to their nodes, by the server's id; oldest first."""
    statement = (
        rows.select(table, SoftwareInstallation)
        .where(table.c.action == "upgrade", table.c.status.in_(("pending", "installing")))
        .order_by(table.c.id)
    )
    found: dict[str, list[SoftwareInstallation]] = {}
    for record in rows.every(tx, statement, SoftwareInstallation):
        found.setdefault(record.server_id, []).append(record)
    return found


def note_version(tx: Tx, installation_id: str, version: str) -> None:
    """Keeps which version the node has of something that is installed, whoever brought it there."""
    rows.update(tx, table, installation_id, {"installed_version": version})


def open_records(tx: Tx, server_id: str) -> list[SoftwareInstallation]:
    """What has not ended on a server, failed attempts among it; oldest first."""
    return [record for record in all(tx, server_id) if TRANSITIONS[record.status]]


def all(tx: Tx, server_id: str) -> list[SoftwareInstallation]:  # noqa: A001 - read as `software_installations.all(tx, …)`
    """The records of a server, oldest first."""
    statement = (
        rows.select(table, SoftwareInstallation).where(table.c.server_id == server_id).order_by(table.c.id)
    )
    return rows.every(tx, statement, SoftwareInstallation)


def present(tx: Tx, server_id: str) -> dict[tuple[SoftwareType, str], SoftwareInstallation]:
    """What is installed on a server now, by type and version: the newest ended record of each decides."""
    newest: dict[tuple[SoftwareType, str], SoftwareInstallation] = {}
    for record in all(tx, server_id):
        if record.status in ("installed", "removed"):
            newest[record.type, record.version] = record
    return {key: record for key, record in newest.items() if record.status == "installed"}


def count(tx: Tx) -> int:
    """How many records there are on all servers."""
    return tx.connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0
