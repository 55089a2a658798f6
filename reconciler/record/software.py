"""What is installed on a server, one row a piece of software with its own life: pending, installing, installed, failed."""

from __future__ import annotations

from reconciler.desired.kinds import Server
from reconciler.store import Tx
from reconciler.store.queries import servers, software_installations
from reconciler.store.queries.software_installations import SoftwareInstallation
from reconciler.store.words import SoftwareType


def wanted(server: Server) -> list[tuple[SoftwareType, str]]:
    """Type and version of everything a Server's manifest asks for; the version is empty where the platform decides."""
    found: list[tuple[SoftwareType, str]] = [(server.spec.web_server, "")]
    found += [(engine, "") for engine in server.spec.database_engines]
    found += [("php", version) for version in server.spec.software.php]
    return found


def begin(tx: Tx, server: Server) -> None:
    """Record what is about to be installed and is not there yet."""
    row = servers.get(tx, server.name)
    if row is None:
        return
    present = software_installations.present(tx, row.id)
    for kind, version in wanted(server):
        if (kind, version) not in present:
            record = software_installations.put(
                tx, server_id=row.id, type=kind, version=version, action="install"
            )
            if record.status != "installing":
                software_installations.advance(tx, record.id, "installing")


def finish(tx: Tx, server: Server, *, ok: bool) -> None:
    """Record how the installation ended."""
    row = servers.get(tx, server.name)
    if row is None:
        return
    for record in _running(tx, row.id):
        software_installations.advance(tx, record.id, "installed" if ok else "failed")


def _running(tx: Tx, server_id: str) -> list[SoftwareInstallation]:
    return [r for r in software_installations.all(tx, server_id) if r.status == "installing"]
