"""Scenes in which SELinux refuses something on played nodes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from reconciler.selinux import mcs
from reconciler.store import Tx
from reconciler.store.queries import selinux_audit_logs, servers, sites
from reconciler.store.queries.selinux_audit_logs import SelinuxAuditLog
from reconciler.testing import builders
from reconciler.testing.node import FakeNode

from .world import LoopWorld, play

FILES = builders.fleet_files(2, 2)


def played(
    tmp_path: Path, scene: Callable[[LoopWorld], Awaitable[None]], files: Mapping[str, str] = FILES
) -> None:
    """Play a scene on nodes whose auditd runs."""

    async def audited(world: LoopWorld) -> None:
        for node in world.nodes.values():
            node.audit.write("type=DAEMON_START msg=audit(1.000:1): op=start")
        await scene(world)

    play(tmp_path, files, audited)


async def levels(world: LoopWorld) -> dict[str, str]:
    """The level of each site, which it is given if it has none."""

    def unit(tx: Tx) -> dict[str, str]:
        found = {}
        for number, row in enumerate(sites.all(tx)):
            given = row.mcs_id if row.mcs_id is not None else mcs.FIRST + number
            known = (row.server_id, row.domain, row.document_root, row.system_user, row.php_version)
            sites.upsert(tx, row.name, sites.SiteFields(*known, row.app_type, given))
            found[row.name] = mcs.level(given)
        return found

    return await world.store.awrite(unit)


def deny(world: LoopWorld, levels: dict[str, str], site: str = "site1-1", times: int = 1, **how: Any) -> None:
    """PHP of a site reads what it may not, on its server."""
    node = world.node(f"web{site[4]}")
    for _ in range(times):
        source = f"system_u:system_r:laravel_php_fpm_t:{levels[site]}"
        node.audit.deny(how.pop("at", world.clock()), source=source, **how)


async def rows(world: LoopWorld, server: str = "web1") -> list[SelinuxAuditLog]:
    """All rows of a server, the newest first."""

    def unit(tx: Tx) -> list[SelinuxAuditLog]:
        row = servers.get(tx, server)
        assert row is not None
        return selinux_audit_logs.listed(tx, server_id=row.id, limit=None)

    return await world.store.aread(unit)


async def counted(world: LoopWorld, number: int, server: str = "web1", seconds: float = 60) -> None:
    """Wait until so many denials are recorded; never are there more."""

    async def there() -> bool:
        found = sum(row.count for row in await rows(world, server))
        assert found <= number
        return found == number

    await world.until(there, seconds)


def count_asks(monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    """When nodes are asked for denials."""
    asked: list[datetime] = []
    plain = FakeNode.avc

    async def avc(node: FakeNode, cursor: Any, most: int) -> Any:
        asked.append(node.clock())
        return await plain(node, cursor, most)

    monkeypatch.setattr(FakeNode, "avc", avc)
    return asked
