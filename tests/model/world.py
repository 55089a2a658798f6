"""A fleet in memory: what is declared, the real store, nodes that are played, and the real way between them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from reconciler.app import planning
from reconciler.app.applying import note_observation
from reconciler.converge.executor import Executor
from reconciler.converge.observer import Observation, Observer
from reconciler.converge.progress import Result, Silent
from reconciler.converge.settle import settle
from reconciler.desired.fleet import Loaded
from reconciler.desired.snapshot import Snapshot, load_snapshot
from reconciler.nodes.pool import Pool
from reconciler.plan.make import make_plan
from reconciler.plan.model import Plan
from reconciler.record import inventory
from reconciler.secrets import Box
from reconciler.store import Store, Tx
from reconciler.store.queries import deployments, servers
from reconciler.testing import simulated
from reconciler.testing.node import FakeNode
from reconciler.testing.pool import FakePool

T = TypeVar("T")
KEY = b"k" * 32
TEMPLATE = Path()
"""A migrated, empty database, which the session's fixture makes."""


class Killed(BaseException):
    """The program is gone: nothing is written any more."""


class Mortal:
    """A store whose program dies after some writes."""

    def __init__(self, store: Store, writes: int | None) -> None:
        self._store = store
        self._left = writes

    @property
    def path(self) -> Path:
        return self._store.path

    async def aread(self, unit: Callable[[Tx], T]) -> T:
        return await self._store.aread(unit)

    async def awrite(self, unit: Callable[[Tx], T]) -> T:
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise Killed
        return await self._store.awrite(unit)


class World:
    """`declared` are the manifests' specs by kind and name; `moved` the old names of the newest commit."""

    def __init__(self, folder: Path, template: Path) -> None:
        path = folder / "state.sqlite"
        shutil.copy(template, path)
        self.store = Store.open(path, Box([KEY]))
        self.nodes: dict[str, FakeNode] = {}
        self.declared: dict[tuple[str, str], dict[str, Any]] = {("SSHKey", "fleet"): {}}
        self.moved: dict[tuple[str, str], str] = {}
        self.author = ("", "")
        self.commits = 0

    def close(self) -> None:
        self.store.close()

    def server(self, name: str, address: str) -> None:
        """Declare a server, with a node that is enrolled."""
        self.declared["Server", name] = {
            "address": address,
            "os": "debian_12",
            "sshKey": "fleet",
            "databaseEngines": ["mariadb"],
            "software": {"php": ["8.2"]},
        }
        self.nodes[address] = FakeNode(address)
        self.pin(address)

    def pin(self, address: str) -> None:
        fields = servers.ServerFields(ip_address=address, os_version="debian_12")
        name = next(
            n for (k, n), spec in self.declared.items() if k == "Server" and spec["address"] == address
        )

        def unit(tx: Tx) -> None:
            row = servers.upsert(tx, name, fields)
            servers.set_host_keys(tx, row.id, ["ssh-ed25519 AAAA"])

        self.store.write(unit)

    def load(self) -> tuple[Snapshot, Loaded]:
        files = {}
        for (kind, name), spec in self.declared.items():
            notes = {"reconciler/moved-from": self.moved[kind, name]} if (kind, name) in self.moved else {}
            manifest = {
                "apiVersion": "reconciler/v1",
                "kind": kind,
                "metadata": {"name": name, "annotations": notes},
                "spec": spec,
            }
            files[f"{kind}-{name}.yaml"] = json.dumps(manifest).encode()
        self.commits += 1
        snapshot = Snapshot(f"{self.commits:040x}", *self.author, files=files)
        loaded = load_snapshot(snapshot)
        assert not loaded.errors, [str(problem) for problem in loaded.errors]
        return snapshot, loaded

    def plan(self, seen: Observation | None = None) -> Plan:
        snapshot, loaded = self.load()
        return make_plan(
            loaded,
            self.store.read(inventory.recorded),
            head=snapshot,
            created_at="2026-01-31T12:00:00Z",
            engine=planning.ENGINE,
            drift=seen.drift if seen else (),
            refreshed=seen is not None,
            unreachable=seen.unreachable if seen else None,
        )

    def observe(self) -> Observation:
        return simulated.run(self._observe(self.store))

    async def _observe(self, store: Store) -> Observation:
        recorded = await store.aread(inventory.recorded)
        pool = cast("Pool", FakePool(self.nodes))
        seen = await Observer(store, pool, Silent()).observe(recorded)
        await store.awrite(lambda tx: note_observation(tx, recorded, seen))
        return seen

    def apply(self, *, dies_after: int | None = None, refresh: bool = True) -> list[Result]:
        """An apply as the program does it; empty when it dies on the way."""

        async def run() -> list[Result]:
            store = cast("Store", Mortal(self.store, dies_after))
            pool = cast("Pool", FakePool(self.nodes))
            await settle(store, pool, Silent(), 10)
            seen = await self._observe(store) if refresh else None
            plan = self.plan(seen)
            if not plan.effective and not plan.drift:
                return []
            results = await Executor(store, pool, Silent()).apply(plan)
            keys = {change.key for change in plan.effective}
            assert keys <= {result.key for result in results}, "every change has a result"
            return results

        try:
            results = simulated.run(run())
        except Killed:
            return []
        assert not self.store.read(deployments.unfinished)
        return results
