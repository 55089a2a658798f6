"""Looks at the repositories that sites are deployed from, brings what is new here, and records the commits.

Nodes are given archives, never a repository's address or key: those stay with the daemon.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from reconciler.desired import archive, remotes
from reconciler.desired.fleet import Loaded
from reconciler.desired.kinds.source import ApplicationSource
from reconciler.desired.mirror import Mirror
from reconciler.desired.pinning import sources, wish
from reconciler.errors import ReconcilerError, SourceFault
from reconciler.kit.secret import Secret
from reconciler.kit.text import short
from reconciler.store import Store, Tx
from reconciler.store.queries import events, site_sources, ssh_keys
from reconciler.store.queries.site_sources import Revision

_AT_ONCE = 8
_KEPT = 30
"""Archives of one repository that are not made anew when they are asked for again."""


@dataclass(frozen=True)
class Reach:
    """How repositories are reached: protocols, a key where a source names none, pinned host keys, seconds for each call."""

    protocols: Collection[str] = remotes.PROTOCOLS
    ssh_key: Path | None = None
    known_hosts: Path | None = None
    seconds: float = 120.0


class Applications:
    """The repositories of all sites. `state` is the state directory, where mirrors and archives are kept."""

    def __init__(self, state: Path, store: Store, reach: Reach) -> None:
        self._folder = state / "applications"
        self._archives = archive.folder_in(state)
        self._store = store
        self._reach = reach
        self._gate = asyncio.Semaphore(_AT_ONCE)

    async def refresh(self, loaded: Loaded) -> frozenset[str]:
        """Look at the sources of all sites of a revision: the sites of which something else is known now.

        Faults of repositories are recorded, not raised. StoreFault's leaves.
        """
        wanted = sources(loaded)
        groups: dict[tuple[str, str, str], list[str]] = {}
        for name, source in wanted.items():
            groups.setdefault((source.repository, source.ref, source.key or ""), []).append(name)
        news = await asyncio.gather(
            *(self._group(names, wanted[names[0]]) for _, names in sorted(groups.items()))
        )
        return frozenset(name for some in news for name in some)

    async def _group(self, names: list[str], source: ApplicationSource) -> set[str]:
        async with self._gate:
            try:
                tip = await self._look(source)
            except SourceFault as fault:
                said = f"{fault.message}; {fault.hint}" if fault.hint else fault.message
                return await self._store.awrite(lambda tx: _failed(tx, names, source, said))
            return await self._store.awrite(lambda tx: _found(tx, names, source, tip))

    async def _look(self, source: ApplicationSource) -> Revision:
        """Where a source stands, with its archive made. SourceFault's leaves."""
        private = await self._private(source)
        with _as_file(self._folder, private) as key:
            folder = self._folder / f"{remotes.digest(source.repository)}.git"
            mirror = Mirror(
                folder,
                [source.repository],
                set(self._reach.protocols),
                ssh_key=key or self._reach.ssh_key,
                known_hosts=self._reach.known_hosts,
                seconds=self._reach.seconds,
                what="the application's repository",
            )
            try:
                fetched = await mirror.fetch(source.ref)
            finally:
                mirror.close()
        return await asyncio.to_thread(self._packed, folder, fetched.commit)

    async def _private(self, source: ApplicationSource) -> Secret | None:
        name = source.key
        if name is None:
            return None

        def unit(tx: Tx) -> Secret | None:
            row = ssh_keys.get(tx, name)
            return ssh_keys.private_key(tx, row.id) if row is not None else None

        try:
            private = await self._store.aread(unit)
        except ReconcilerError as fault:
            raise SourceFault(
                f"the private half of SSHKey/{name} cannot be opened: {fault.message}", hint=fault.hint
            ) from fault
        if private is None:
            raise SourceFault(
                f"the private half of SSHKey/{name} is not known",
                hint="a pair is generated for an SSHKey without spec.publicKey at its first apply; give the repository its public half",
            )
        return private

    def _packed(self, mirror: Path, commit: str) -> Revision:
        """The archive of a commit: the one that was made of it before, while it is there."""
        note = self._archives / f"{mirror.stem}-{commit}.json"
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            known = json.loads(note.read_text(encoding="utf-8"))
            if (self._archives / f"{known['sha256']}.tar.gz").stat().st_size == known["size"]:
                return Revision(commit, known["sha256"], known["size"])
        made = archive.pack(mirror, commit, self._archives)
        fresh = note.with_suffix(".new")
        fresh.write_text(json.dumps({"sha256": made.sha256, "size": made.size}), encoding="utf-8")
        fresh.replace(note)
        self._tidy(mirror.stem)
        return Revision(commit, made.sha256, made.size)

    def _tidy(self, repository: str) -> None:
        notes = sorted(self._archives.glob(f"{repository}-*.json"), key=lambda path: path.stat().st_mtime)
        for old in notes[:-_KEPT]:
            with contextlib.suppress(OSError, ValueError, KeyError):
                sha256 = json.loads(old.read_text(encoding="utf-8"))["sha256"]
                old.unlink()
                (self._archives / f"{sha256}.tar.gz").unlink()


@contextlib.contextmanager
def _as_file(folder: Path, private: Secret | None) -> Iterator[Path | None]:
    """A private key as ssh wants it: a file of ours alone, for as long as it is used."""
    if private is None:
        yield None
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".key-") as name:
        path = Path(name) / "key"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(private.reveal())
        yield path


def _found(tx: Tx, names: list[str], source: ApplicationSource, tip: Revision) -> set[str]:
    news = set()
    for name in names:
        known = site_sources.get(tx, name)
        if site_sources.found(tx, name, wish(source), tip):
            news.add(name)
            before = known.tip.commit if known is not None and known.tip is not None else ""
            said = f"{source.followed}: {short(before) if before else 'nothing'} -> {short(tip.commit)}"
            events.add(tx, "Site", name, reason="SourceMoved", message=said)
        elif known is not None and known.fault:
            events.add(tx, "Site", name, reason="SourceReady", message=f"{source.followed} can be read again")
    return news


def _failed(tx: Tx, names: list[str], source: ApplicationSource, said: str) -> set[str]:
    news = set()
    for name in names:
        if site_sources.failed(tx, name, wish(source), said):
            news.add(name)
            events.add(tx, "Site", name, reason="SourceNotReady", message=said, type="Warning")
    return news
