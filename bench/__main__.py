"""`make bench`: first converge and no-op reconcile of real nodes, against the floor. Prints one table for each size."""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import fleet
from bench.floor import Floor, files, services
from lab import Lab, Node
from reconciler.app import fleets, planning
from reconciler.app.settings import Settings
from reconciler.blueprint.model import Bundle
from reconciler.converge import access, assemble
from reconciler.converge.executor import Executor
from reconciler.converge.observer import Observer
from reconciler.converge.progress import Silent
from reconciler.kit.secret import Secret
from reconciler.nodes.pool import Pool
from reconciler.nodes.target import Target
from reconciler.record import inventory
from reconciler.store import Store, create_state, open_state

PROGRAM = Path(sys.executable).parent / "reconciler"
Timed = Callable[[], Awaitable[object]]


@dataclass
class Row:
    """One line of the table: what was done, its times in seconds, and the floor it is held against."""

    what: str
    seconds: list[float]
    floor: str = ""

    @property
    def median(self) -> float:
        """The median of the runs."""
        return statistics.median(self.seconds)


async def repeat(times: int, action: Timed) -> list[float]:
    """Wall seconds of `times` runs after one that is not counted."""
    await action()
    found = []
    for _ in range(times):
        start = time.perf_counter()
        await action()
        found.append(time.perf_counter() - start)
    return found


@dataclass
class Bench:
    """One size: nodes that run, a fleet of them, a store."""

    settings: Settings
    store: Store
    nodes: Sequence[Node]
    sites: int
    runs: int
    floor: Floor

    async def run(self) -> list[Row]:
        """Everything that is measured, first converge first."""
        rows = [await self._first()]
        state = {s.name: s for s in assemble.of_record(self.store.read(inventory.recorded)).servers()}
        recorded = self.store.read(inventory.recorded)
        whole = assemble.of_record(recorded)
        known = {key: resource.identity for key, resource in recorded.resources.items()}
        secrets = access.source(self.store.read(lambda tx: access.passwords(tx, whole)))
        bundles = {
            name: assemble.state(server, whole, known, secrets).bundle for name, server in state.items()
        }
        contents = {name: files(bundle) for name, bundle in bundles.items()}
        start = time.perf_counter()
        await self.floor.write_fresh(contents, self.sites)
        rows.insert(0, Row("floor: users and the same files written, fresh", [time.perf_counter() - start]))
        await self.floor.open()
        rows.insert(1, await self._started(bundles, rows[0].median))
        rows[2].floor = rows[1].what
        rows += [
            Row("floor: true, kept", await repeat(self.runs, self.floor.true_kept)),
            Row("floor: true, fresh", await repeat(self.runs, self.floor.true_fresh)),
            Row(
                "floor: hash the same files, kept",
                await repeat(self.runs, lambda: self.floor.hash_kept(contents)),
            ),
            Row(
                "floor: hash the same files, fresh",
                await repeat(self.runs, lambda: self.floor.hash_fresh(contents)),
            ),
        ]
        await self.floor.close()
        return rows + await self._unchanged()

    async def _started(self, bundles: Mapping[str, Bundle], written: float) -> Row:
        units = {name: services(bundle) for name, bundle in bundles.items()}
        await self.floor.stop(units)
        start = time.perf_counter()
        await self.floor.start(units)
        return Row("floor: the same, and units started", [written + time.perf_counter() - start])

    async def _first(self) -> Row:
        async with Pool() as pool:
            revision = fleets.at_commit(self.settings)
            start = time.perf_counter()
            plan = planning.of(revision, await self.store.aread(inventory.recorded))
            results = await Executor(self.store, pool, Silent()).apply(plan)
            took = time.perf_counter() - start
        failed = [result for result in results if result.state != "succeeded"]
        if failed:
            raise RuntimeError(f"{failed[0].key}: {failed[0].message}")
        return Row("first converge, fresh", [took])

    async def _unchanged(self) -> list[Row]:
        recorded = await self.store.aread(inventory.recorded)

        async def look(pool: Pool) -> None:
            seen = await Observer(self.store, pool, Silent()).observe(recorded)
            if seen.drift or seen.unreachable:
                raise RuntimeError(f"not a no-op: {seen.drift[:1]} {seen.unreachable}")

        async def fresh() -> None:
            async with Pool() as pool:
                await look(pool)

        async with Pool() as pool:
            kept = await repeat(self.runs, lambda: look(pool))
        return [
            Row("no-op reconcile, kept", kept, "floor: true, kept"),
            Row("no-op reconcile, kept", kept, "floor: hash the same files, kept"),
            Row(
                "no-op reconcile, fresh", await repeat(self.runs, fresh), "floor: hash the same files, fresh"
            ),
            Row(
                "no-op `reconciler apply`, whole process",
                await repeat(self.runs, self._program),
                "floor: true, fresh",
            ),
        ]

    async def _program(self) -> None:
        env = {
            **os.environ,
            "RECONCILER_STATE": str(self.settings.state),
            "RECONCILER_FLEET": str(self.settings.fleet),
            # an installed program is compiled
            "PYTHONPYCACHEPREFIX": str(self.settings.state / "compiled"),
        }
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        done = await asyncio.create_subprocess_exec(
            PROGRAM, "apply", "--yes", env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        said, _ = await done.communicate()
        if done.returncode or b"No changes." not in said:
            raise RuntimeError(said.decode()[-500:])


def table(rows: Sequence[Row]) -> str:
    """Median, minimum and maximum of each row, and its ratio to its floor."""
    by_name = {row.what: row for row in rows}
    lines = [f"{'':<50} {'median s':>9} {'min':>8} {'max':>8}  ratio"]
    for row in rows:
        ratio = ""
        if row.floor:
            ratio = f"{row.median / by_name[row.floor].median:.2f} x {row.floor}"
        lines.append(
            f"{row.what:<50} {row.median:9.3f} {min(row.seconds):8.3f} {max(row.seconds):8.3f}  {ratio}"
        )
    return "\n".join(lines)


def measure(lab: Lab, folder: Path, count: int, sites: int, runs: int) -> list[Row]:
    """Start `count` nodes with everything installed, enrol them, measure, take them away."""
    nodes = [lab.add(f"n{count}x{number}", "el9-web") for number in range(count)]
    lab.up(*nodes)
    for node in nodes:
        node.wait_active("nginx", "mariadb")
    repo = folder / f"fleet{count}"
    fleet.write(repo, {node.name: node.ip for node in nodes}, sites)
    settings = Settings(state=folder / f"state{count}", fleet=repo)
    create_state(settings.state)
    env = {**os.environ, "RECONCILER_STATE": str(settings.state), "RECONCILER_FLEET": str(repo)}
    for node in nodes:
        words = ["servers", "enroll", node.name, "--identity", str(lab.key.private), "--accept-host-key"]
        subprocess.run([PROGRAM, *words], env=env, check=True, stdout=subprocess.DEVNULL)
    host_key = " ".join(lab.host_key.with_suffix(".pub").read_text().split()[:2])
    private = Secret(lab.key.private.read_text())
    targets = [Target(n.name, n.ip, 22, private, (host_key,), user="root") for n in nodes]
    with open_state(settings.state) as store:
        bench = Bench(settings, store, nodes, sites, runs, Floor(targets))
        rows = asyncio.run(bench.run())
    for node in nodes:
        node.remove()
    return rows


def main() -> None:
    """Parse, measure each size, print."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--sites", type=int, default=20)
    parser.add_argument("--runs", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="reconciler-bench-") as folder, Lab() as lab:
        for count in arguments.nodes:
            rows = measure(lab, Path(folder), count, arguments.sites, arguments.runs)
            print(
                f"\n{count} {'node' if count == 1 else 'nodes'} x {arguments.sites} sites; load {os.getloadavg()[0]:.1f}"
            )
            print(table(rows), flush=True)


if __name__ == "__main__":
    main()
