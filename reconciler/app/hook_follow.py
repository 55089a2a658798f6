"""After a push: what the daemon does with the commit, shown as it happens."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from reconciler.app.hook_settings import Watch
from reconciler.kit.clock import utc_now
from reconciler.kit.text import count
from reconciler.store import Store, Tx
from reconciler.store.queries import deployments, events, plans, revisions, sources
from reconciler.store.queries.deployments import Deployment, Filter
from reconciler.store.queries.events import Event
from reconciler.store.queries.plans import StoredPlan
from reconciler.store.queries.revisions import Revision
from reconciler.store.queries.sources import Source

_PAUSE = 0.2
_SETTLED = 1.5
"""How long nothing may run before a revision without a last word counts as done, in seconds."""


@dataclass(frozen=True)
class _Seen:
    """What the database says of a commit at one moment."""

    source: Source | None
    revision: Revision | None
    deployments: tuple[Deployment, ...]
    events: tuple[Event, ...]
    waiting: tuple[StoredPlan, ...]


@dataclass
class Follower:
    """Follows one commit of a fleet in the database, which it only reads. `say` prints a line; False: nobody listens.

    `since` is when the push began.
    """

    store: Store
    watch: Watch
    commit: str
    say: Callable[[str], bool]
    since: datetime = field(default_factory=lambda: utc_now() - timedelta(seconds=2))
    _told: set[str] = field(default_factory=set)

    def follow(self, seconds: float) -> bool:
        """Shows what happens until the daemon is done with the commit: whether it was within `seconds`."""
        until = time.monotonic() + seconds
        quiet = time.monotonic()
        while True:
            seen = self.store.read(self._look)
            if not self._show(seen):
                return True
            now = time.monotonic()
            if any(d.finished_at is None for d in seen.deployments):
                quiet = now
            if end := self._end(seen, quiet_for=now - quiet):
                self.say(end)
                return True
            if now > until:
                running = sum(d.finished_at is None for d in seen.deployments)
                doing = f"{count(running, 'deployment')} under way" if running else "not finished"
                self.say(f"after {seconds:.0f} s: {doing}; go on with `reconciler events -f`")
                return False
            time.sleep(_PAUSE)

    def _look(self, tx: Tx) -> _Seen:
        commit, fleet = self.commit, self.watch.fleet
        found = tuple(reversed(deployments.listed(tx, Filter(commit_hash=commit), limit=1000)))
        ids = {d.id for d in found}
        recent = [e for e in reversed(events.listed(tx, limit=500)) if e.at >= self.since]
        return _Seen(
            sources.get(tx, fleet),
            revisions.get(tx, commit, fleet),
            found,
            tuple(e for e in recent if e.deployment_id in ids or (e.kind, e.name) == ("Fleet", fleet)),
            tuple(p for p in plans.listed(tx, fleet=fleet, status="waiting") if p.commit == commit),
        )

    def _show(self, seen: _Seen) -> bool:
        """Prints what is new; False when nobody listens any more."""
        lines = [
            (f"{d.id}+", f"{d.kind}/{d.name}: {'repairing drift' if d.corrective else 'begun'}")
            for d in seen.deployments
            if d.started_at is not None
        ]
        lines += [(e.id, f"{e.kind}/{e.name}: {e.message or e.reason}") for e in seen.events]
        fresh = [(key, text) for key, text in lines if key not in self._told]
        self._told.update(key for key, _ in fresh)
        return all(self.say(text) for _, text in fresh)

    def _end(self, seen: _Seen, quiet_for: float) -> str:
        """The closing line when the daemon is done with the commit, else ""."""
        source, revision = seen.source, seen.revision
        if source is not None and source.seen_commit == self.commit and source.state != "ok":
            return f"not accepted: {source.message}"
        if any(d.finished_at is None for d in seen.deployments):
            return ""
        codes = sorted({str(f.get("code", "")) for plan in seen.waiting for f in plan.findings})
        waits = f"waits for approval ({', '.join(codes)}): `reconciler approve`" if seen.waiting else ""
        failed = sum(d.status == "failed" for d in seen.deployments)
        ended = revision is not None and revision.status not in ("accepted", "applying")
        if not ended and (quiet_for < _SETTLED or (not seen.deployments and not waits)):
            return ""
        if revision is not None and revision.status == "quarantined":
            return f"quarantined: {revision.reason or 'its health checks failed'}"
        if revision is not None and revision.status == "superseded":
            return "a newer revision has taken its place"
        if not seen.deployments:
            return waits or "nothing had to change"
        done = f"{count(len(seen.deployments), 'deployment')}"
        done += f", {failed} failed: `reconciler deployments`" if failed else " succeeded"
        return f"{done}; the rest {waits}" if waits else done
