"""What is installed on a server, one row a piece of software with its own life: pending, installing, installed, failed.

A row is made with the intent of an apply, follows the node's steps, and ends with the apply, or when the apply is settled
after an interruption: none is left behind by a daemon or a node that went down.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import cast, get_args

from reconciler.blueprint.upgrading import Upgrade
from reconciler.desired.kinds import Server
from reconciler.store import Tx
from reconciler.store.queries import servers, software_installations
from reconciler.store.queries.software_installations import SoftwareInstallation
from reconciler.store.words import SoftwareStatus, SoftwareType

INTERRUPTED = "the apply was interrupted"

Software = tuple[SoftwareType, str]


def named(text: str) -> Software | None:
    """Type and version of a piece of software as steps name it (`php-8.2`, `nginx`); None for an unknown word."""
    kind, _, version = text.partition("-")
    return (cast("SoftwareType", kind), version) if kind in get_args(SoftwareType) else None


def spelt(kind: str, version: str) -> str:
    """The other way round."""
    return f"{kind}-{version}" if version else kind


def wanted(server: Server) -> list[Software]:
    """Type and version of everything a Server's manifest asks for; the version is empty where the platform decides."""
    found: list[Software] = [(server.spec.web_server, "")]
    found += [(engine, "") for engine in server.spec.database_engines]
    found += [("php", version) for version in server.spec.software.php]
    found += [("redis", "")] if server.spec.software.redis else []
    return found


def begin(tx: Tx, server: Server) -> None:
    """Record what is about to be installed and is not there yet, and what is there and about to be removed."""
    row = servers.get(tx, server.name)
    if row is None:
        return
    present = software_installations.present(tx, row.id)
    declared = wanted(server)
    for kind, version in declared:
        if (kind, version) not in present:
            record = software_installations.put(
                tx, server_id=row.id, type=kind, version=version, action="install"
            )
            _wait(tx, record)
    for kind, version in present:
        if (kind, version) not in declared:
            record = software_installations.put(
                tx, server_id=row.id, type=kind, version=version, action="uninstall"
            )
            _wait(tx, record)
    for record in software_installations.open_records(tx, row.id):
        _withdraw(tx, record, declared, present)


def _withdraw(
    tx: Tx,
    record: SoftwareInstallation,
    declared: Collection[Software],
    present: Collection[Software],
) -> None:
    """What was to come and is not declared any more, or was to go and stays, is not waited for."""
    of = (record.type, record.version)
    if record.action == "uninstall":
        off = of in declared or of not in present
    elif record.action == "install":
        off = of not in declared
    else:
        off = of not in declared or of not in present
    if off and record.status != "failed":
        software_installations.advance(tx, record.id, "failed", reason="it is not asked for any more")


def begins(tx: Tx, server: str, software: str) -> None:
    """The node works on a piece of software."""
    row, of = servers.get(tx, server), named(software)
    if row is None or of is None:
        return
    for record in software_installations.open_records(tx, row.id):
        if (record.type, record.version) == of and record.status == "pending":
            software_installations.advance(tx, record.id, "installing")


def finish(tx: Tx, server: str, versions: Mapping[str, str], failure: str = "") -> None:
    """Record how the installations on a server ended. `versions` are what its node has; `failure` is empty when all went well.

    Removals end by themselves. After a failure what the node has nevertheless is installed.
    """
    row = servers.get(tx, server)
    if row is None:
        return
    for record in software_installations.open_records(tx, row.id):
        version = versions.get(spelt(record.type, record.version))
        if record.action == "upgrade" and record.status != "failed":
            _end_upgrade(tx, record, version, failure)
            continue
        if record.action != "install" or record.status == "failed":
            continue
        if failure and version is None:
            software_installations.advance(tx, record.id, "failed", reason=failure)
        else:
            software_installations.advance(tx, record.id, "installed", version=version)
    for (kind, series), record in software_installations.present(tx, row.id).items():
        version = versions.get(spelt(kind, series))
        if version is not None and version != record.installed_version:
            software_installations.note_version(tx, record.id, version)


def _end_upgrade(tx: Tx, record: SoftwareInstallation, version: str | None, failure: str) -> None:
    """What the node has decides: a server may fail by something else."""
    moved = version is not None and version != record.installed_version
    if failure and not moved:
        software_installations.advance(tx, record.id, "failed", reason=failure)
    else:
        software_installations.advance(tx, record.id, "installed", version=version)


def ask_upgrade(tx: Tx, server: str, upgrade: Upgrade) -> None:
    """Record that software of a server is to be upgraded, for the next reconcile of it."""
    row, of = servers.get(tx, server), named(upgrade.software)
    if row is not None and of is not None:
        packages = {name: list(versions) for name, versions in upgrade.packages.items()}
        software_installations.ask_upgrade(tx, server_id=row.id, type=of[0], version=of[1], packages=packages)


def upgrading(tx: Tx) -> dict[str, tuple[Upgrade, ...]]:
    """The upgrades that are on their way to their nodes, by the server's name."""
    names = {row.id: row.name for row in servers.all(tx)}
    return {
        names[server]: tuple(_upgrade(record) for record in found)
        for server, found in software_installations.upgrading(tx).items()
        if server in names
    }


def _upgrade(record: SoftwareInstallation) -> Upgrade:
    packages = {name: (pair[0], pair[1]) for name, pair in (record.packages or {}).items()}
    return Upgrade(spelt(record.type, record.version), packages)


def finish_removal(tx: Tx, server: str, failure: str = "", only: Collection[str] | None = None) -> None:
    """Record how the removals on a server ended (of what steps call `only`)."""
    row = servers.get(tx, server)
    if row is None:
        return
    for record in software_installations.open_records(tx, row.id):
        named_so = only is None or spelt(record.type, record.version) in only
        if record.action == "uninstall" and record.status != "failed" and named_so:
            status: SoftwareStatus = "failed" if failure else "removed"
            software_installations.advance(tx, record.id, status, reason=failure or None)


def interrupted(tx: Tx, server: str, why: str = INTERRUPTED) -> None:
    """Nothing is under way on a server any more: what had not come to its end failed, and the next apply tries it again."""
    row = servers.get(tx, server)
    if row is None:
        return
    for record in software_installations.open_records(tx, row.id):
        if record.action == "upgrade" and record.status == "installing":
            # nobody failed: the next reconcile goes on with it, since the node may have stopped in its middle
            software_installations.advance(tx, record.id, "pending")
        elif record.action != "upgrade" and record.status != "failed":
            software_installations.advance(tx, record.id, "failed", reason=why)


def _wait(tx: Tx, record: SoftwareInstallation) -> None:
    """What failed or was interrupted is to be done again."""
    if record.status != "pending":
        software_installations.advance(tx, record.id, "pending")
