"""`python -m bench.push`: what a commit of one file costs, in CPU seconds (the program's and those of what it starts).

First the offline part in a large fleet, with and without the readings that the daemon keeps; then the parts of a push, from
the receive hooks to the played nodes. No node is needed. Wall time says little on a busy machine, so none is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from reconciler.app import hook_settings
from reconciler.app.config import Config
from reconciler.app.daemon import Daemon, Parts
from reconciler.desired.fleet import Loaded
from reconciler.desired.readings import Readings
from reconciler.desired.snapshot import Snapshot, load_snapshot
from reconciler.desired.source import read_commit
from reconciler.plan.make import make_plan
from reconciler.plan.offline import recorded_from
from reconciler.store.queries import revisions
from reconciler.testing import builders
from reconciler.testing.builders import Repository
from reconciler.testing.pool import FakePool

Work = Callable[[], object]


def cpu() -> float:
    """CPU seconds of this process and of all children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


@dataclass
class Row:
    """One line: what was done, its CPU seconds in each run, and the line that it is held against."""

    what: str
    seconds: Sequence[float]
    against: str = ""

    @property
    def median(self) -> float:
        """The median of the runs."""
        return statistics.median(self.seconds)


def repeat(runs: int, work: Work, before: Work = lambda: None) -> list[float]:
    """CPU seconds of `runs` runs; `before` goes ahead of each and does not count."""
    found = []
    for _ in range(runs):
        before()
        start = cpu()
        work()
        found.append(cpu() - start)
    return found


class Large:
    """A repository with many resources, of which one commit after another changes a single file."""

    def __init__(self, folder: Path, objects: int) -> None:
        each = 50
        servers = max(1, objects // (2 * each))
        self.files = builders.fleet_files(servers, each, databases=each)
        self.repo = Repository(folder / "large")
        self.repo.write(self.files)
        self.commit = self.repo.commit()
        self.repo.git("repack", "-a", "-d", "-q")
        self.number = 0
        self.readings = Readings()
        self.snapshot = self._read()
        self.loaded = self._load()
        self.recorded = recorded_from(self.loaded, self.commit)

    def change(self) -> None:
        """Commit a change of one file."""
        self.number += 1
        self.repo.change("Site", "site1-1", domain=f"changed{self.number}.test")
        self.commit = self.repo.commit()

    def _read(self, known: dict[str, bytes] | None = None) -> Snapshot:
        return read_commit(self.repo.folder, self.commit, known=known)

    def _load(self) -> Loaded:
        return load_snapshot(self.snapshot, self.readings)

    def alone(self) -> None:
        """Read the commit as the command line does, which knows nothing from before."""
        load_snapshot(self._read())

    def following(self) -> None:
        """Read the commit as the daemon does, which has read the one before it."""
        known = {self.snapshot.ids[path]: content for path, content in self.snapshot.files.items()}
        self.snapshot = self._read(known)
        self.loaded = self._load()

    def plan(self) -> None:
        """Plan what was read last against the first commit."""
        made = make_plan(
            self.loaded, self.recorded, head=self.snapshot, created_at="2026-01-01T00:00:00Z", engine="bench"
        )
        if len(made.effective) != 1:
            raise RuntimeError(f"{len(made.effective)} changes instead of one")


def offline(folder: Path, objects: int, runs: int) -> list[Row]:
    """Reading and planning a commit of one file in a fleet of so many resources."""
    large = Large(folder, objects)
    print(f"\n{len(large.files)} resources in as many files")
    alone = "read and load a commit, nothing known"
    rows = [Row(alone, repeat(runs, large.alone, large.change))]
    rows.append(Row("the same, the commit before known", repeat(runs, large.following, large.change), alone))
    rows.append(Row("whole plan of it", repeat(runs, large.plan), alone))
    return rows


class Pushed:
    """A bare repository with hooks, and two commits of which the second is not in its branch yet."""

    def __init__(self, folder: Path) -> None:
        self.files = builders.fleet_files(2, 5)
        self.repo = Repository(folder / "fleet")
        self.repo.write(self.files)
        self.old = self.repo.commit()
        self.bare = folder / "infra.git"
        self.repo.git("clone", "-q", "--bare", ".", str(self.bare))
        self.repo.change("Site", "site1-1", domain="changed.test")
        self.new = self.repo.commit()
        self.repo.git("push", "-q", str(self.bare), "main:next")
        self.state = folder / "hooked"
        self.settings = folder / "hooks.json"
        self.settings.write_text(
            hook_settings.written_settings(hook_settings.HookSettings(self.state, follow=0.0))
        )
        # an installed program is compiled
        self.env = {**os.environ, "GIT_DIR": str(self.bare), "PYTHONPYCACHEPREFIX": str(folder / "compiled")}
        self.env.pop("PYTHONDONTWRITEBYTECODE", None)
        self.run("init", "--state", str(self.state))

    def run(self, *words: str, given: str = "") -> None:
        """Run the program in a process of its own."""
        done = subprocess.run(
            [sys.executable, "-m", "reconciler.cli.main", *words],
            input=given,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stderr or done.stdout)

    def hook(self, name: str) -> None:
        """Run a hook as git does."""
        given = f"{self.old} {self.new} refs/heads/main\n"
        self.run("hook", "run", name, "--settings", str(self.settings), given=given)


def hooks(folder: Path, runs: int) -> list[Row]:
    """The receive hooks, each in a process of its own, with a daemon that can be told."""
    pushed = Pushed(folder)
    floor = "python, nothing imported"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(str(pushed.state / hook_settings.SOCKET))
        daemon.setblocking(False)  # noqa: FBT003 - positional only
        words = [sys.executable, "-c", "pass"]
        rows = [
            Row(floor, repeat(runs, lambda: subprocess.run(words, env=pushed.env, check=True))),
            Row("reconciler --version", repeat(runs, lambda: pushed.run("--version")), floor),
        ]
        for name in ("pre-receive", "post-receive"):
            pushed.hook(name)
            rows.append(Row(name, repeat(runs, lambda name=name: pushed.hook(name)), floor))  # type: ignore[misc]
    return rows


async def daemon(folder: Path, runs: int) -> Row:
    """A daemon's share of a push: from the branch's new tip to a revision that is applied to played nodes."""
    files = builders.fleet_files(2, 5)
    repo = Repository(folder / "followed")
    repo.write(files)
    commit = repo.commit()
    fleet = builders.load(files)
    store, nodes = builders.enrolled(folder / "state", fleet), builders.nodes(fleet)
    parts = Parts(pool=lambda meter: FakePool(nodes, observer=meter), owner="bench:1:x")  # type: ignore[arg-type,return-value]
    made = Daemon(folder / "state", store, Config.default(repo.folder), parts)
    running = asyncio.create_task(made.run())
    seconds = []
    try:
        for number in range(runs + 1):
            start = cpu()
            made.nudge()
            while not await store.aread(lambda tx, commit=commit: _applied(tx, commit)):  # type: ignore[misc]
                if running.done():
                    await running
                await asyncio.sleep(0.05)
            seconds.append(cpu() - start)
            repo.change("Site", "site1-1", domain=f"changed{number}.test")
            commit = repo.commit()
    finally:
        made.stop("measured")
        await running
        store.close()
    return Row("daemon, until it is applied to played nodes", seconds[1:], "python, nothing imported")


def _applied(tx: object, commit: str) -> bool:
    found = revisions.get(tx, commit)  # type: ignore[arg-type]
    return found is not None and found.status == "applied"


def table(rows: Sequence[Row]) -> str:
    """Median, minimum and maximum of each row, and its ratio to the row that it is held against."""
    by_name = {row.what: row for row in rows}
    lines = [f"{'':<46} {'CPU s':>8} {'min':>8} {'max':>8}  ratio"]
    for row in rows:
        ratio = f"{row.median / by_name[row.against].median:.2f} x {row.against}" if row.against else ""
        lines.append(
            f"{row.what:<46} {row.median:8.3f} {min(row.seconds):8.3f} {max(row.seconds):8.3f}  {ratio}"
        )
    return "\n".join(lines)


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.push", description=__doc__)
    parser.add_argument("--objects", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="reconciler-bench-") as scratch:
        folder = Path(scratch)
        print(table(offline(folder, arguments.objects, arguments.runs)), flush=True)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"most memory: {peak:.0f} MiB, with two revisions, their readings and a plan")
        rows = hooks(folder, arguments.runs)
        rows.append(asyncio.run(daemon(folder, arguments.runs)))
        print(
            f"\nA push to a fleet of {len(builders.fleet_files(2, 5))} resources; load {os.getloadavg()[0]:.1f}"
        )
        print(table(rows))


if __name__ == "__main__":
    main()
