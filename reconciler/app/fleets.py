"""Reading the fleet repository: a commit, or the files as they are now."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from reconciler.app.settings import Settings
from reconciler.desired import source
from reconciler.desired.fleet import Loaded
from reconciler.desired.snapshot import Snapshot, load_snapshot, read_folder


@dataclass(frozen=True)
class Revision:
    """A revision that was read: its files and author, and what they declare."""

    snapshot: Snapshot
    loaded: Loaded


def at_commit(settings: Settings, rev: str = "HEAD") -> Revision:
    """The fleet at a commit. SourceFault's reasons: no repository, no commit, no such revision or folder."""
    repository, inside = source.locate(settings.fleet)
    folder = str(PurePosixPath(inside) / settings.subpath) if inside or settings.subpath else ""
    snapshot = source.read_commit(repository, rev, "" if folder == "." else folder)
    return Revision(snapshot, load_snapshot(snapshot))


def in_folder(folder: Path) -> Revision:
    """The fleet as the files of a folder declare it now, committed or not."""
    snapshot = read_folder(folder)
    return Revision(snapshot, load_snapshot(snapshot))


def uncommitted(settings: Settings) -> Revision:
    """The fleet as the work tree declares it now."""
    return in_folder(settings.fleet / settings.subpath)
