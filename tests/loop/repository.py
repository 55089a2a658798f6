"""A fleet's repository and the source that follows it, both real."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from reconciler.app import accepting
from reconciler.desired.mirror import Mirror
from reconciler.desired.signers import Signers
from reconciler.loop.settings import FleetSpec
from reconciler.loop.source import GitSource, Head
from reconciler.store import Store
from reconciler.store.queries import conditions, events, sources
from reconciler.testing.builders import Repository


class Fleet(Repository):
    """A repository that is a remote, a store, and one fleet's source; `restart` makes another source on the same store."""

    def __init__(self, folder: Path, store: Store) -> None:
        super().__init__(folder / "fleet")
        self.store = store
        self.mirror_folder = folder / "mirrors" / "main.git"
        self.spec = FleetSpec("main", poll=1.0)
        self.remotes = [str(self.folder)]
        self.bootstrap: Callable[[], Signers] = Signers
        self._mirrors: list[Mirror] = []
        self.source = self.restart()

    def restart(self, **spec: object) -> GitSource:
        """Another source, as a daemon that is started again has it."""
        self.spec = replace(self.spec, **spec)  # type: ignore[arg-type]
        mirror = Mirror(self.mirror_folder, self.remotes, frozenset({"file", "https"}), seconds=60)
        self._mirrors.append(mirror)
        self.source = GitSource(self.spec, mirror, self.store, self._bootstrap)
        return self.source

    def _bootstrap(self) -> Signers:
        return self.bootstrap()

    def away(self, *, away: bool = True) -> None:
        """Let nobody answer at the remote's address, or the repository again."""
        self.remotes = ["https://127.0.0.1:1/fleet.git" if away else str(self.folder)]
        self.restart()

    def close(self) -> None:
        for mirror in self._mirrors:
            mirror.close()

    @property
    def head(self) -> str:
        return self.git("rev-parse", "HEAD")

    def add(self, name: str, message: str = "") -> str:
        """Commit one more resource."""
        self.put("SSHKey", name)
        return self.commit(message or f"Add {name}")

    async def look(self) -> Head | None:
        return await self.source.look()

    async def followed(self) -> str:
        """The commit that a look follows; empty for none."""
        head = await self.source.look()
        return head.commit if head is not None else ""

    async def state(self) -> sources.Source:
        found = await self.store.aread(lambda tx: sources.get(tx, "main"))
        assert found is not None
        return found

    async def says(self) -> str:
        """The source's condition: status and reason."""
        found = await self.store.aread(lambda tx: conditions.get(tx, "Fleet", "main", "SourceReady"))
        assert found is not None
        return f"{found.status} {found.reason}"

    async def happened(self) -> list[str]:
        """The reasons of the fleet's events, the oldest first."""
        found = await self.store.aread(lambda tx: events.listed(tx, kind="Fleet", name="main", limit=200))
        return [event.reason for event in reversed(found)]

    async def accept(self, commit: str) -> None:
        """As `reconciler source accept`."""
        await self.store.awrite(lambda tx: accepting.accept(tx, "main", commit, "ada"))

    async def names(self, commit: str) -> set[str]:
        """The keys that a revision declares."""
        _, loaded = await self.source.read(commit)
        return {key.name for key in loaded.fleet.entries}
