"""Sites that are deployed from repositories, in the loop: pushes, rollbacks and repositories that cannot be read, on played nodes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import yaml

from reconciler.app import releasing
from reconciler.desired import archive
from reconciler.desired.kinds.source import ApplicationSource
from reconciler.errors import SourceFault
from reconciler.loop.applications import Applications
from reconciler.store.queries.site_sources import Revision
from reconciler.testing import builders
from reconciler.testing.simulated import SimulatedClock, SimulatedLoop, run

from .world import LoopWorld

SITE = "site1-1"


class Repository:
    """The one repository: its branch, and the archives that are made of its commits in a state directory."""

    def __init__(self, state: Path) -> None:
        self.folder = archive.folder_in(state)
        self.tip = ""
        self.broken = ""

    def push(self, commit: str) -> str:
        self.tip = commit * 40
        return self.tip

    def revision(self) -> Revision:
        body = f"archive of {self.tip}".encode()
        sha256 = hashlib.sha256(body).hexdigest()
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"{sha256}.tar.gz").write_bytes(body)
        note = f'{{"sha256": "{sha256}", "size": {len(body)}}}'
        (self.folder / f"repo-{self.tip}.json").write_text(note)
        return Revision(self.tip, sha256, len(body))


Play = Callable[[Callable[[LoopWorld, Repository], Awaitable[None]]], None]


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    """Plays a scene with a world of one server with two sites, one of which has a source."""

    def play(scene: Callable[[LoopWorld, Repository], Awaitable[None]]) -> None:
        loop = SimulatedLoop(limit=2 * 86400)
        files = dict(builders.fleet_files(1, 2))
        path = next(path for path, text in files.items() if f"name: {SITE}\n" in text)
        manifest = yaml.safe_load(files[path])
        manifest["spec"]["source"] = {"repository": "git@git.example.test:shop.git"}
        files[path] = yaml.safe_dump(manifest)
        world = LoopWorld(tmp_path, files, SimulatedClock(loop))
        repository = Repository(world.store.path.parent)

        async def look(self: Applications, source: ApplicationSource) -> Revision:
            if repository.broken:
                raise SourceFault(repository.broken)
            return repository.revision()

        monkeypatch.setattr(Applications, "_look", look)
        try:
            run(scene(world, repository), loop=loop)  # type: ignore[arg-type]
        finally:
            world.store.close()

    return play


def served(world: LoopWorld) -> str:
    """The commit of the release that the node serves."""
    (node,) = world.nodes.values()
    return str(node.things.get(f"release:{SITE}", {}).get("commit", ""))


def test_a_push_to_the_application_is_deployed_at_the_next_look(play: Play) -> None:
    async def scene(world: LoopWorld, repository: Repository) -> None:
        first = repository.push("a")
        async with world.daemon() as daemon:
            commit = world.push()
            daemon.look("main", "push")
            await asyncio.sleep(60)
            await world.settled(commit)
            assert served(world) == first
            second = repository.push("b")
            await asyncio.sleep(900)
            assert served(world) == second
            newest = (await world.deployments(SITE))[-1]
            assert (newest.source_branch, newest.source_commit) == ("main", second)

    play(scene)


def test_a_rollback_holds_until_the_branch_moves(play: Play) -> None:
    async def scene(world: LoopWorld, repository: Repository) -> None:
        state = world.store.path.parent
        first = repository.push("a")
        async with world.daemon() as daemon:
            world.push()
            daemon.look("main", "push")
            await asyncio.sleep(60)
            repository.push("b")
            daemon.look("main", "push")
            await asyncio.sleep(60)
            await world.store.awrite(lambda tx: releasing.roll_back(tx, state, SITE, None, "ada"))
            await asyncio.sleep(1800)
            assert served(world) == first
            third = repository.push("c")
            await asyncio.sleep(1800)
            assert served(world) == third

    play(scene)


def test_a_repository_that_cannot_be_read_holds_only_its_site(play: Play) -> None:
    async def scene(world: LoopWorld, repository: Repository) -> None:
        repository.broken = "nobody answers"
        async with world.daemon() as daemon:
            commit = world.push()
            daemon.look("main", "push")
            await asyncio.sleep(60)
            assert await world.ready("Site", "site1-2") == "True ReconciliationSucceeded"
            assert served(world) == ""
            assert "SourceNotReady" in await world.ready("Site", SITE)
            repository.broken = ""
            first = repository.push("a")
            daemon.look("main", "push")
            await asyncio.sleep(60)
            await world.settled(commit)
            assert served(world) == first
            repository.broken = "nobody answers"
            await asyncio.sleep(3600)
            assert served(world) == first
            assert await world.ready("Site", SITE) == "True ReconciliationSucceeded"

    play(scene)
