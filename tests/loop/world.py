"""The whole daemon on played nodes, a source in memory and a time that is played."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from reconciler.app.config import Config
from reconciler.app.config_model import FleetSettings
from reconciler.app.daemon import Daemon, Parts
from reconciler.desired.fleet import Fleet, Loaded
from reconciler.desired.snapshot import Snapshot, load_snapshot
from reconciler.errors import SourceFault
from reconciler.loop.lease import Timing
from reconciler.loop.source import Head
from reconciler.nodes.pool import Pool
from reconciler.record import conditions
from reconciler.store import Store, Tx
from reconciler.store.queries import conditions as condition_rows
from reconciler.store.queries import deployments, revisions, sources
from reconciler.store.queries.deployments import Deployment
from reconciler.testing import builders
from reconciler.testing.node import FakeNode
from reconciler.testing.pool import FakePool
from reconciler.testing.simulated import SimulatedClock


@dataclass
class MemorySource:
    """Commits in a list, the last one is the branch's tip. `broken` is what a look meets instead of them."""

    store: Store
    name: str = "main"
    commits: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)
    broken: str = ""
    reads: int = 0

    def push(self, files: Mapping[str, str]) -> str:
        text = "\0".join(f"{path}\0{body}" for path, body in sorted(files.items()))
        commit = hashlib.sha1(f"{len(self.commits)}{text}".encode()).hexdigest()
        self.commits.append((commit, dict(files)))
        return commit

    async def look(self) -> Head | None:
        message = self.broken
        if message or not self.commits:
            await self.store.awrite(lambda tx: self._refuse(tx, message or "nothing yet"))
            known = await self.store.aread(lambda tx: sources.get(tx, self.name))
            return Head(known.head_commit, new=False) if known and known.head_commit else None
        commit = self.commits[-1][0]
        new = await self.store.awrite(lambda tx: self._accept(tx, commit))
        return Head(commit, new=new)

    def _refuse(self, tx: Tx, message: str) -> None:
        sources.put(tx, self.name, remote="memory", branch="main", state="unreachable", message=message)
        conditions.fleet(tx, self.name, "SourceReady", "False", "SourceUnreachable", message, None)

    def _accept(self, tx: Tx, commit: str) -> bool:
        new = revisions.get(tx, commit, self.name) is None
        sources.put(tx, self.name, remote="memory", branch="main", state="ok", message="", seen=commit)
        sources.set_head(tx, self.name, commit)
        revisions.accept(
            tx,
            commit=commit,
            author_name="Ada",
            author_email="ada@example.test",
            message="Change",
            fleet=self.name,
            tree=commit[::-1],
        )
        conditions.fleet(tx, self.name, "SourceReady", "True", "Accepted", "", commit)
        return new

    async def read(self, commit: str) -> tuple[Snapshot, Loaded]:
        self.reads += 1
        for known, files in self.commits:
            if known == commit:
                bodies = {path: text.encode() for path, text in files.items()}
                snapshot = Snapshot(commit, "Ada", "ada@example.test", "Change", files=bodies)
                return snapshot, load_snapshot(snapshot)
        raise SourceFault(f"there is no commit {commit}")

    async def tree(self, commit: str) -> str:
        return commit[::-1]


def config(**limits: Any) -> Config:
    """Settings for one fleet whose remote is never asked, since its source is replaced."""
    given = {"name": "main", "remotes": ["/srv/git/infra.git"], "poll": "1m"}
    fleet = FleetSettings.model_validate_json(__import__("json").dumps(given))
    from reconciler.app.config_model import LimitSettings

    return Config((fleet,), limits=LimitSettings(**limits) if limits else LimitSettings())


class LoopWorld:
    """One database, its nodes and its source; daemons come and go."""

    def __init__(self, folder: Path, files: Mapping[str, str], clock: SimulatedClock) -> None:
        self.folder = folder / "state"
        self.clock = clock
        self.fleet: Fleet = builders.load(files)
        self.store = builders.enrolled(self.folder, self.fleet, clock=clock)
        self.nodes: dict[str, FakeNode] = builders.nodes(self.fleet, clock=clock)
        self.source = MemorySource(self.store)
        self.files = dict(files)
        self.config = config()

    def node(self, server: str) -> FakeNode:
        return next(node for node in self.nodes.values() if node.server == server)

    def push(self, **changed: str | None) -> str:
        """A new commit; keywords cannot hold paths, so see `commit`."""
        return self.source.push(self.files)

    def commit(self, changes: Mapping[str, str | None]) -> str:
        for path, text in changes.items():
            if text is None:
                del self.files[path]
            else:
                self.files[path] = text
        return self.source.push(self.files)

    @contextlib.asynccontextmanager
    async def daemon(self, **parts: Any) -> AsyncIterator[Daemon]:
        """A running daemon, ended in good order."""
        made = Daemon(
            self.folder,
            self.store,
            self.config,
            Parts(
                pool=lambda meter: cast("Pool", FakePool(self.nodes, observer=meter)),
                source=lambda spec, store: self.source,
                clock=self.clock,
                lease=Timing(),
                owner=parts.pop("owner", "here:1:x"),
                **parts,
            ),
        )
        task = asyncio.create_task(made.run())
        try:
            yield made
            if task.done():
                await task
        finally:
            made.stop("the test is over")
            await asyncio.wait([task], timeout=60)
            if task.done() and not task.cancelled():
                task.exception()

    # -- what is known

    async def ready(self, kind: str, name: str) -> str:
        found = await self.store.aread(lambda tx: condition_rows.get(tx, kind, name, "Ready"))
        return f"{found.status} {found.reason}" if found else "absent"

    async def condition(self, kind: str, name: str, word: str) -> condition_rows.Condition | None:
        return await self.store.aread(lambda tx: condition_rows.get(tx, kind, name, word))

    async def deployments(self) -> list[Deployment]:
        return list(reversed(await self.store.aread(lambda tx: deployments.listed(tx, limit=1000))))

    async def status(self, commit: str) -> str:
        found = await self.store.aread(lambda tx: revisions.get(tx, commit, "main"))
        return found.status if found else "absent"

    async def until(self, what: Any, seconds: float = 600.0) -> None:
        """Wait until `what()` (awaitable) is true, in the time of the loop; fails with what is known when it never is."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while not await what():
            if loop.time() > end:
                raise AssertionError(await self.told())
            await asyncio.sleep(0.25)

    async def settled(self, commit: str, seconds: float = 600.0) -> None:
        async def there() -> bool:
            return await self.status(commit) == "applied"

        await self.until(there, seconds)

    async def told(self) -> str:
        found = await self.store.aread(condition_rows.listed)
        lines = [
            f"{c.kind}/{c.name} {c.type}={c.status} {c.reason} {c.message}"
            for c in found
            if c.status != "False" or c.message
        ]
        lines += [
            f"{d.kind}/{d.name} {d.status} {d.triggered_via} {d.reason}" for d in await self.deployments()
        ]
        return "\n".join(lines)
