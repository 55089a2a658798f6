"""A fleet's source: where its branch stands, whether that may be followed, and the revision that is accepted by it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from reconciler.desired import lineage, signatures, source
from reconciler.desired.fleet import Loaded
from reconciler.desired.mirror import Mirror
from reconciler.desired.signers import Signers, of_fleet
from reconciler.desired.snapshot import Snapshot, load_snapshot
from reconciler.errors import SourceEmpty, SourceFault, SourceUnreachable
from reconciler.kit.text import short
from reconciler.loop.settings import FleetSpec
from reconciler.record import conditions
from reconciler.store import Store, Tx
from reconciler.store.queries import events, revisions, sources
from reconciler.store.words import SourceState

Refusal = Literal["rewritten", "unsigned", "refused", "empty", "unreachable"]


@dataclass(frozen=True)
class Head:
    """The revision that is to be followed: newest accepted, and whether this look accepted it."""

    commit: str
    new: bool


class Source(Protocol):
    """Where revisions come from."""

    async def look(self) -> Head | None:
        """Look for a new revision and accept it. None while none was ever accepted. Faults are recorded, not raised."""
        ...

    async def read(self, commit: str) -> tuple[Snapshot, Loaded]:
        """The manifests of an accepted revision. SourceFault when it cannot be read."""
        ...

    async def tree(self, commit: str) -> str:
        """The git tree that the revision's manifests are in."""
        ...


class GitSource:
    """A branch of a git repository, by way of a mirror.

    Only what follows from the accepted revision is accepted; a rewritten or rewound branch waits for an operator. The
    keys that may sign a revision are those of the revision before it.
    """

    def __init__(
        self, spec: FleetSpec, mirror: Mirror, store: Store, bootstrap: Callable[[], Signers]
    ) -> None:
        self._spec = spec
        self._mirror = mirror
        self._store = store
        self._bootstrap = bootstrap

    @property
    def folder(self) -> Path:
        """The mirror."""
        return self._mirror.folder

    async def look(self) -> Head | None:
        """As `Source.look`."""
        name = self._spec.name
        known = await self._store.aread(lambda tx: sources.get(tx, name))
        head = known.head_commit if known else None
        try:
            tip = await self._mirror.peek(self._spec.branch)
            settled = known is not None and known.state == "ok" and tip.commit == head
            if settled and await asyncio.to_thread(self._holds, tip.commit):
                await self._note("ok", "", tip.commit, tip.remote)
                return Head(tip.commit, new=False)
            fetched = await self._mirror.fetch(self._spec.branch)
        except SourceUnreachable as fault:
            await self._note("unreachable", _said(fault))
        except SourceFault as fault:
            await self._note("empty" if isinstance(fault, SourceEmpty) else "refused", _said(fault))
        else:
            return await self._judge(
                fetched.commit, fetched.remote, head, known.accept_commit if known else None
            )
        return Head(head, new=False) if head else None

    async def read(self, commit: str) -> tuple[Snapshot, Loaded]:
        """As `Source.read`."""

        def work() -> tuple[Snapshot, Loaded]:
            snapshot = source.read_commit(self._mirror.folder, commit, self._spec.path)
            return snapshot, load_snapshot(snapshot)

        return await asyncio.to_thread(work)

    async def tree(self, commit: str) -> str:
        """As `Source.tree`."""
        return await asyncio.to_thread(lineage.tree, self._mirror.folder, commit, self._spec.path)

    def _holds(self, commit: str) -> bool:
        try:
            return lineage.exists(self._mirror.folder, commit)
        except SourceFault:
            return False

    async def _judge(self, commit: str, remote: str, head: str | None, accepted: str | None) -> Head | None:
        """Follow a tip that was fetched, or say why not."""
        stay = Head(head, new=False) if head else None
        try:
            how = (
                await asyncio.to_thread(lineage.advance, self._mirror.folder, head, commit)
                if head
                else "forward"
            )
            if how in ("behind", "rewritten") and accepted != commit:
                word = "was rewound" if how == "behind" else "was rewritten"
                message = (
                    f"branch {self._spec.branch} {word}: {short(commit)} does not follow from {short(head or '')}; "
                    f"`reconciler source accept {short(commit)}` follows it"
                )
                await self._note("rewritten", message, commit, remote)
                return stay
            snapshot = await asyncio.to_thread(
                source.read_commit, self._mirror.folder, commit, self._spec.path
            )
            if said := await self._unsigned(commit, head if how == "forward" else None):
                await self._note("unsigned", said, commit, remote)
                return stay
            tree = await self.tree(commit)
        except SourceFault as fault:
            await self._note("refused", _said(fault), commit, remote)
            return stay
        await self._store.awrite(lambda tx: self._accept(tx, snapshot, tree, remote, new=how != "same"))
        good = await self._store.aread(lambda tx: revisions.last_good(tx, self._spec.name))
        await self._mirror.keep([commit, *([good.commit] if good is not None else ())])
        return Head(commit, new=how != "same" or head is None)

    async def _unsigned(self, commit: str, head: str | None) -> str:
        """Why the signature policy refuses the way to this commit; empty when it does not."""
        if self._spec.policy == "none":
            return ""

        def work() -> str:
            commits = [commit]
            if self._spec.policy == "strict" and head is not None:
                commits = list(lineage.between(self._mirror.folder, head, commit))
            signers = self._bootstrap()
            if head is not None:
                snapshot = source.read_commit(self._mirror.folder, head, self._spec.path)
                signers |= of_fleet(load_snapshot(snapshot).fleet)
            found = signatures.verify(self._mirror.folder, commits, self._spec.policy, signers)
            return "; ".join(str(verdict) for verdict in signatures.refused(found))

        return await asyncio.to_thread(work)

    def _accept(self, tx: Tx, snapshot: Snapshot, tree: str, remote: str, *, new: bool) -> None:
        name, commit = self._spec.name, snapshot.commit
        sources.put(tx, name, remote=remote, branch=self._spec.branch, state="ok", message="", seen=commit)
        sources.set_head(tx, name, commit)
        revisions.accept(
            tx,
            commit=commit,
            author_name=snapshot.author_name,
            author_email=snapshot.author_email,
            message=snapshot.message.partition("\n")[0][:200],
            fleet=name,
            tree=tree,
        )
        conditions.fleet(tx, name, "SourceReady", "True", "Accepted", "", commit)
        if new:
            subject = snapshot.message.partition("\n")[0][:100]
            message = f"{short(commit)} {subject} ({snapshot.author_name})"
            events.add(tx, "Fleet", name, reason="RevisionAccepted", message=message)

    async def _note(
        self, state: SourceState, message: str, seen: str | None = None, remote: str | None = None
    ) -> None:
        name = self._spec.name

        def unit(tx: Tx) -> None:
            known = sources.get(tx, name)
            where = remote or (known.remote if known else "")
            sources.put(
                tx, name, remote=where, branch=self._spec.branch, state=state, message=message, seen=seen
            )
            status: conditions.Status = "True" if state == "ok" else "False"
            reason = {"ok": "Accepted", "unreachable": "SourceUnreachable"}.get(
                state, f"Source{state.capitalize()}"
            )
            revision = seen or (known.head_commit if known else None)
            if conditions.fleet(tx, name, "SourceReady", status, reason, message, revision) and state != "ok":
                events.add(tx, "Fleet", name, reason=reason, message=message, type="Warning")

        await self._store.awrite(unit)


def _said(fault: SourceFault) -> str:
    return f"{fault.message}; {fault.hint}" if fault.hint else fault.message
