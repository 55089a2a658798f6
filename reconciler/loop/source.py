"""A fleet's source: where its branch stands, whether that may be followed, and the revision that is accepted by it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from reconciler.desired import lineage, signatures, source
from reconciler.desired.fleet import Loaded
from reconciler.desired.mirror import Fetched, Mirror
from reconciler.desired.readings import Readings
from reconciler.desired.signers import Signers, of_fleet
from reconciler.desired.snapshot import Snapshot, load_snapshot
from reconciler.errors import SettingsFault, SourceEmpty, SourceFault, SourceUnreachable
from reconciler.kit.text import short
from reconciler.loop.settings import FleetSpec
from reconciler.record import age, conditions
from reconciler.store import Store, Tx
from reconciler.store.queries import events, revisions, sources
from reconciler.store.words import SourceState

_LATELY = timedelta(seconds=5)


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
        self._readings = Readings()
        self._newest = Snapshot("")
        self._tree = ("", "")

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
            fetched = await self._mirror.fetch(self._spec.branch)
        except SourceUnreachable as fault:
            await self._note("unreachable", _said(fault))
        except SourceFault as fault:
            await self._note("empty" if isinstance(fault, SourceEmpty) else "refused", _said(fault))
        else:
            if fetched.commit != head:
                return await self._judge(fetched, known)
            await self._in_order(fetched, known)
        return Head(head, new=False) if head else None

    async def _in_order(self, fetched: Fetched, known: sources.Source | None) -> None:
        """The branch is where it was. Looks that follow a push closely write that down only once."""
        said = "; ".join(fetched.passed)
        written = known is not None and (known.state, known.message, known.remote) == (
            "ok",
            said,
            fetched.remote,
        )
        if written and known is not None and known.checked_at is not None:
            now = await self._store.aread(lambda tx: tx.now)
            if now - known.checked_at < _LATELY:
                return
        await self._note("ok", said, fetched.commit, fetched.remote)

    async def read(self, commit: str) -> tuple[Snapshot, Loaded]:
        """As `Source.read`. A mirror that turns out to be damaged is fetched anew first."""

        def work() -> tuple[Snapshot, Loaded]:
            snapshot = self._snapshot(commit)
            return snapshot, load_snapshot(snapshot, self._readings)

        try:
            return await self._opened(*await asyncio.to_thread(work))
        except SourceFault:
            if not await self._mirror.mend(self._spec.branch):
                raise
        return await self._opened(*await asyncio.to_thread(work))

    async def _opened(self, snapshot: Snapshot, loaded: Loaded) -> tuple[Snapshot, Loaded]:
        """What is encrypted for others breaks its resource, as other problems do."""
        return snapshot, await self._store.aread(lambda tx: age.judge(tx, loaded))

    async def tree(self, commit: str) -> str:
        """As `Source.tree`."""
        if self._tree[0] != commit:
            found = await asyncio.to_thread(lineage.tree, self._mirror.folder, commit, self._spec.path)
            self._tree = (commit, found)
        return self._tree[1]

    def _snapshot(self, commit: str) -> Snapshot:
        """The files of a commit; what the one of before holds too is not read again."""
        newest = self._newest
        if newest.commit != commit:
            known = {newest.ids[path]: content for path, content in newest.files.items()}
            newest = source.read_commit(self._mirror.folder, commit, self._spec.path, known=known)
            self._newest = newest
        return newest

    async def _judge(self, fetched: Fetched, known: sources.Source | None) -> Head | None:
        """Follow a tip that was fetched, or say why not."""
        commit, remote = fetched.commit, fetched.remote
        head, accepted = (known.head_commit, known.accept_commit) if known else (None, None)
        stay = Head(head, new=False) if head else None
        try:
            how = await self._advance(head, commit)
            if known is not None and how != "forward" and known.seen_commit != commit:
                await self._keep(head)
            if how != "forward" and accepted != commit:
                await self._turned(how, fetched, head or "")
                return stay
            snapshot = await asyncio.to_thread(self._snapshot, commit)
            if said := await self._unsigned(commit, head):
                await self._note("unsigned", said, commit, remote)
                return stay
            tree = await self.tree(commit)
        except (SourceFault, SettingsFault) as fault:
            await self._note("refused", _said(fault), commit, remote)
            return stay
        said = "; ".join(fetched.passed)
        await self._store.awrite(lambda tx: self._accept(tx, snapshot, tree, remote, said))
        if how != "forward":
            await self._keep(commit)
        return Head(commit, new=True)

    async def _advance(self, head: str | None, commit: str) -> lineage.Advance:
        if head is None:
            return "forward"
        return await asyncio.to_thread(lineage.advance, self._mirror.folder, head, commit)

    async def _keep(self, commit: str | None) -> None:
        """Keep what a rewritten branch does not lead to any more: a commit, and the revision to go back to."""
        good = await self._store.aread(lambda tx: revisions.last_good(tx, self._spec.name))
        await self._mirror.keep({c for c in (commit, good.commit if good is not None else None) if c})

    async def _turned(self, how: lineage.Advance, fetched: Fetched, head: str) -> None:
        """Say why a branch that does not lead on from the accepted revision is not followed."""
        commit, branch = fetched.commit, self._spec.branch
        if how == "behind" and fetched.passed:
            # the newest revision came from a remote that does not serve now: this one has not got it yet
            passed = "; ".join(fetched.passed)
            message = f"{passed}; {fetched.remote} is behind: its branch {branch} is at {short(commit)}"
            await self._note("unreachable", message)
            return
        word = "was rewound" if how == "behind" else "was rewritten"
        message = (
            f"branch {branch} {word}: {short(commit)} does not follow from {short(head)}; "
            f"`reconciler source accept {short(commit)}` follows it"
        )
        await self._note("rewritten", message, commit, fetched.remote)

    async def _unsigned(self, commit: str, head: str | None) -> str:
        """Why the signature policy refuses the way from the accepted revision to this one; empty when it does not."""
        policy = self._spec.policy
        if policy == "none":
            return ""
        folder = self._mirror.folder

        def work() -> str:
            known = head is not None and lineage.exists(folder, head)
            commits: Sequence[str] = [commit]
            signers = self._bootstrap()
            if head is not None and known:
                if policy == "strict":
                    commits = lineage.between(folder, head, commit)
                signers |= self._users(head)
            found = signatures.verify(folder, commits, policy, signers)
            return "; ".join(str(verdict) for verdict in signatures.refused(found))

        return await asyncio.to_thread(work)

    def _users(self, head: str) -> Signers:
        """The keys of the accepted revision's Users; none when it had no folder of manifests, as before it was moved."""
        try:
            snapshot = source.read_commit(self._mirror.folder, head, self._spec.path)
        except SourceFault:
            if not lineage.holds(self._mirror.folder, head, self._spec.path):
                return Signers()
            raise
        return of_fleet(load_snapshot(snapshot, self._readings).fleet)

    def _accept(self, tx: Tx, snapshot: Snapshot, tree: str, remote: str, said: str) -> None:
        name, commit = self._spec.name, snapshot.commit
        sources.put(tx, name, remote=remote, branch=self._spec.branch, state="ok", message=said, seen=commit)
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
        conditions.fleet(tx, name, "SourceReady", "True", "Accepted", said, commit)
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


def _said(fault: SourceFault | SettingsFault) -> str:
    return f"{fault.message}; {fault.hint}" if fault.hint else fault.message
