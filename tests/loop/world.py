"""The whole daemon on played nodes, sources in memory and a time that is played."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import yaml

from reconciler.app import approving
from reconciler.app.config import Config
from reconciler.app.config_model import FleetSettings, LimitSettings
from reconciler.app.daemon import Daemon, Parts
from reconciler.desired.fleet import Fleet, Loaded
from reconciler.desired.snapshot import Snapshot, load_snapshot
from reconciler.errors import SourceFault
from reconciler.loop.lease import Timing
from reconciler.loop.source import Head
from reconciler.nodes.pool import Pool
from reconciler.record import conditions
from reconciler.store import Store, Tx, open_state
from reconciler.store.queries import conditions as condition_rows
from reconciler.store.queries import (
    deployments,
    events,
    inventory,
    plans,
    requests,
    revisions,
    rollouts,
    sources,
    suspensions,
)
from reconciler.store.queries.deployments import Deployment
from reconciler.store.queries.plans import StoredPlan
from reconciler.store.words import RequestVerb
from reconciler.testing import builders
from reconciler.testing.node import FakeNode
from reconciler.testing.pool import FakePool
from reconciler.testing.simulated import SimulatedClock, SimulatedLoop, run

OPERATOR = "ada"


@dataclass
class MemorySource:
    """Commits in a list, the last one is the branch's tip. `broken` is what a look meets instead of them."""

    store: Store
    name: str = "main"
    commits: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)
    broken: str = ""
    unreadable: str = ""
    """What reading a commit meets instead of its files."""
    reads: int = 0

    def push(self, files: Mapping[str, str]) -> str:
        text = "\0".join(f"{path}\0{body}" for path, body in sorted(files.items()))
        commit = hashlib.sha1(f"{self.name}{len(self.commits)}{text}".encode()).hexdigest()
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
        known = sources.get(tx, self.name)
        head = known.head_commit if known else None
        conditions.fleet(tx, self.name, "SourceReady", "False", "SourceUnreachable", message, head)

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
            tree=self._tree(commit),
        )
        conditions.fleet(tx, self.name, "SourceReady", "True", "Accepted", "", commit)
        return new

    async def read(self, commit: str) -> tuple[Snapshot, Loaded]:
        self.reads += 1
        if self.unreadable:
            raise SourceFault(self.unreadable)
        for known, files in self.commits:
            if known == commit:
                bodies = {path: text.encode() for path, text in files.items()}
                snapshot = Snapshot(commit, "Ada", "ada@example.test", "Change", files=bodies)
                return snapshot, load_snapshot(snapshot)
        raise SourceFault(f"there is no commit {commit}")

    async def tree(self, commit: str) -> str:
        return self._tree(commit)

    def _tree(self, commit: str) -> str:
        files = next((files for known, files in self.commits if known == commit), {})
        return hashlib.sha1(json.dumps(sorted(files.items())).encode()).hexdigest()


def config(*names: str, **limits: Any) -> Config:
    """Settings for fleets whose remotes are never asked, since their sources are replaced."""
    given = ({"name": name, "remotes": ["/srv/git/infra.git"], "poll": "10m"} for name in names or ("main",))
    fleets = tuple(FleetSettings.model_validate_json(json.dumps(one)) for one in given)
    return Config(fleets, limits=LimitSettings(**limits) if limits else LimitSettings())


class LoopWorld:
    """One database, its nodes and its sources; daemons come and go.

    `files` are what the fleet `main` declares now; `more` those of further fleets by name. `clock` is the wall clock.
    """

    def __init__(
        self,
        folder: Path,
        files: Mapping[str, str],
        clock: SimulatedClock,
        more: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self.folder = folder / "state"
        self.clock = clock
        self.files_of: dict[str, dict[str, str]] = {"main": dict(files)}
        self.files_of |= {name: dict(some) for name, some in (more or {}).items()}
        everything = {
            f"{name}/{path}": text for name, some in self.files_of.items() for path, text in some.items()
        }
        self.fleet: Fleet = builders.load(everything)
        self.store = _state(self.folder, everything, self.fleet, clock)
        self.nodes: dict[str, FakeNode] = builders.nodes(self.fleet, clock=clock)
        self.sources = {name: MemorySource(self.store, name) for name in self.files_of}
        self.config = config(*self.files_of)
        self.running: Daemon | None = None

    @property
    def files(self) -> dict[str, str]:
        return self.files_of["main"]

    @property
    def source(self) -> MemorySource:
        return self.sources["main"]

    def node(self, server: str) -> FakeNode:
        return next(node for node in self.nodes.values() if node.server == server)

    # -- the repository

    def push(self, fleet: str = "main") -> str:
        """A new commit with the files as they are; the daemon is told."""
        commit = self.sources[fleet].push(self.files_of[fleet])
        if self.running is not None:
            self.running.look(fleet, "push")
        return commit

    def commit(self, changes: Mapping[str, str | None], fleet: str = "main") -> str:
        """A new commit with files written, or removed where they are None."""
        for path, text in changes.items():
            if text is None:
                del self.files_of[fleet][path]
            else:
                self.files_of[fleet][path] = text
        return self.push(fleet)

    def put(self, kind: str, name: str, spec: Mapping[str, object], fleet: str = "main") -> None:
        self.files_of[fleet][builders.path_of(kind, name)] = builders.manifest(kind, name, spec)

    def change(self, kind: str, name: str, /, *, fleet: str = "main", **spec: object) -> None:
        """Replace fields of a manifest's spec; None takes one away."""
        path = builders.path_of(kind, name)
        value = yaml.safe_load(self.files_of[fleet][path])
        value["spec"].update(spec)
        value["spec"] = {field: new for field, new in value["spec"].items() if new is not None}
        self.files_of[fleet][path] = yaml.safe_dump(value, sort_keys=False)

    def drop(self, kind: str, *names: str, fleet: str = "main") -> None:
        for name in names:
            del self.files_of[fleet][builders.path_of(kind, name)]

    # -- daemons

    @contextlib.asynccontextmanager
    async def daemon(self, **parts: Any) -> AsyncIterator[Daemon]:
        """A running daemon, ended in good order; it looks for operators when it is nudged, and seldom otherwise."""
        parts.setdefault("tick", 20.0)
        made = Daemon(
            self.folder,
            self.store,
            self.config,
            Parts(
                pool=lambda meter: cast("Pool", FakePool(self.nodes, observer=meter)),
                source=lambda spec, store: self.sources[spec.name],
                clock=self.clock,
                lease=parts.pop("lease", Timing(3600, 900)),
                owner=parts.pop("owner", "here:1:x"),
                **parts,
            ),
        )
        task = asyncio.create_task(made.run())
        self.running = made
        try:
            yield made
            if task.done():
                await task
        finally:
            self.running = None
            made.stop("the test is over")
            await asyncio.wait([task], timeout=60)
            self.store.guard(None)
            if task.done() and not task.cancelled():
                task.exception()

    # -- what operators do

    async def ask(self, verb: RequestVerb, subject: str, **args: object) -> requests.Request:
        """Ask the daemon and wait for its answer."""
        asked = await self.store.awrite(lambda tx: requests.add(tx, verb, subject, actor=OPERATOR, args=args))
        self.nudge()
        await self.until(lambda: self._answered(asked.id), 60)
        return await self.store.aread(lambda tx: requests.get(tx, asked.id))

    async def _answered(self, request_id: str) -> bool:
        found = await self.store.aread(lambda tx: requests.get(tx, request_id))
        return found.outcome is not None

    async def suspend(self, kind: str, name: str, reason: str, until: datetime | None = None) -> None:
        await self.store.awrite(
            lambda tx: suspensions.put(tx, kind, name, reason=reason, owner=OPERATOR, expires_at=until)
        )
        self.nudge()

    async def resume(self, kind: str, name: str) -> None:
        await self.store.awrite(lambda tx: suspensions.take_back(tx, kind, name))
        self.nudge()

    async def approve(self, plan: str, *codes: str) -> approving.Waiting:
        """As the verb does it: find, choose, approve, nudge."""

        def unit(tx: Tx) -> approving.Waiting:
            found = approving.find(tx, plan)
            return approving.approve(tx, found, approving.chosen(found, codes), OPERATOR)

        done = await self.store.awrite(unit)
        self.nudge()
        return done

    def nudge(self) -> None:
        if self.running is not None:
            self.running.nudge()

    # -- what is known

    async def ready(self, kind: str, name: str) -> str:
        found = await self.store.aread(lambda tx: condition_rows.get(tx, kind, name, "Ready"))
        return f"{found.status} {found.reason}" if found else "absent"

    async def condition(self, kind: str, name: str, word: str) -> condition_rows.Condition | None:
        return await self.store.aread(lambda tx: condition_rows.get(tx, kind, name, word))

    async def says(self, kind: str, name: str, word: str) -> str:
        """A condition in a line: `True WindowClosed the window is closed`; empty when there is none."""
        found = await self.condition(kind, name, word)
        return f"{found.status} {found.reason} {found.message}".rstrip() if found else ""

    async def conditions(self) -> list[condition_rows.Condition]:
        return await self.store.aread(condition_rows.listed)

    async def recorded(self) -> list[str]:
        """The addresses of everything that is recorded."""
        found = await self.store.aread(inventory.all)
        return sorted(f"{entry.kind}/{entry.name}" for entry in found)

    async def spec(self, kind: str, name: str) -> dict[str, Any]:
        """The spec that is recorded of a resource; empty when nothing is."""
        found = await self.store.aread(lambda tx: inventory.get(tx, kind, name))
        return dict(found.spec["spec"]) if found else {}

    async def deployments(self, name: str = "") -> list[Deployment]:
        """All deployments, or those of resources of a name, the oldest first."""
        found = await self.store.aread(lambda tx: deployments.listed(tx, limit=1000))
        return [one for one in reversed(found) if name in ("", one.name)]

    async def events(self, kind: str, name: str) -> list[str]:
        """Reasons and messages, the oldest first."""
        found = await self.store.aread(lambda tx: events.listed(tx, kind=kind, name=name, limit=200))
        return [f"{one.reason} {one.message}" for one in reversed(found)]

    async def plans(self, fleet: str = "main") -> list[StoredPlan]:
        """The plans of a fleet, the newest first."""
        return await self.store.aread(lambda tx: plans.listed(tx, fleet=fleet))

    async def phases(self, fleet: str = "main") -> dict[str, str]:
        """How far each server has come with the revision that is followed."""
        made = self.running.fleets[fleet].target if self.running else None
        if made is None:
            return {}
        rows = await self.store.aread(lambda tx: rollouts.listed(tx, fleet, made.commit))
        return {row.server: row.state for row in rows}

    async def status(self, commit: str, fleet: str = "main") -> str:
        found = await self.store.aread(lambda tx: revisions.get(tx, commit, fleet))
        return found.status if found else "absent"

    async def healthy(self, commit: str, fleet: str = "main") -> bool:
        found = await self.store.aread(lambda tx: revisions.get(tx, commit, fleet))
        return found is not None and found.healthy_at is not None

    async def until(self, what: Callable[[], Awaitable[object]], seconds: float = 600.0) -> None:
        """Wait until `what()` (awaitable) is true, in the time of the loop; fails with what is known when it never is."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while not await what():
            if loop.time() > end:
                raise AssertionError(await self.told())
            await asyncio.sleep(0.25 if seconds <= 60 else 1.0)

    async def until_says(
        self, kind: str, name: str, word: str, beginning: str, seconds: float = 120.0
    ) -> str:
        """Wait until a condition's line begins so; the line."""

        async def there() -> bool:
            return (await self.says(kind, name, word)).startswith(beginning)

        await self.until(there, seconds)
        return await self.says(kind, name, word)

    async def until_spec(self, kind: str, name: str, seconds: float = 300.0, **fields: object) -> None:
        """Wait until a resource is recorded with these fields."""

        async def there() -> bool:
            found = await self.spec(kind, name)
            return all(found.get(field) == value for field, value in fields.items())

        await self.until(there, seconds)

    async def settled(self, commit: str, seconds: float = 600.0, fleet: str = "main") -> None:
        """Wait until a revision is applied."""

        async def there() -> bool:
            return await self.status(commit, fleet) == "applied"

        await self.until(there, seconds)

    async def converged(self, fleet: str = "main") -> str:
        """Push the files as they are and wait until they are on the nodes, found healthy."""
        commit = self.push(fleet)
        await self.until(lambda: self.healthy(commit, fleet))
        return commit

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
        lines.append(f"{await self.phases()}")
        return "\n".join(lines)


Scene = Callable[[LoopWorld], Awaitable[None]]


def play(
    folder: Path,
    files: Mapping[str, str],
    scene: Scene,
    *,
    start: datetime | None = None,
    days: float = 2.0,
    more: Mapping[str, Mapping[str, str]] | None = None,
) -> None:
    """Play a scene in a world of these files; `start` is the time it begins, `days` the most that may pass in it."""
    loop = SimulatedLoop(limit=days * 86400)
    clock = SimulatedClock(loop, start) if start else SimulatedClock(loop)
    world = LoopWorld(folder, files, clock, more)
    try:
        run(cast("Any", scene(world)), loop=loop)
    finally:
        world.store.close()


def rollout(name: str = "all", **spec: object) -> dict[str, str]:
    """The file of a Rollout manifest."""
    return {builders.path_of("Rollout", name): builders.manifest("Rollout", name, spec)}


_states: dict[str, Mapping[str, bytes]] = {}
"""State directories by what is enrolled in them: making one takes longer than most scenes."""


def _state(folder: Path, files: Mapping[str, str], fleet: Fleet, clock: SimulatedClock) -> Store:
    names: Sequence[str] = sorted(path for path in files if "server" in path or "sshkey" in path)
    key = "\0".join(f"{path}\0{files[path]}" for path in names)
    if key not in _states:
        with TemporaryDirectory() as scratch:
            made = Path(scratch) / "state"
            builders.enrolled(made, fleet, clock=clock).close()
            _states[key] = {path.name: path.read_bytes() for path in made.iterdir()}
    folder.mkdir(mode=0o700)
    for name, content in _states[key].items():
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o600)
    return open_state(folder, {}, clock=clock)
