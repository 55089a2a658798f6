"""The manifest files of one revision, and reading them from a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from reconciler.desired.fleet import Loaded
from reconciler.desired.problems import Problem, Source
from reconciler.desired.reading import is_manifest_path
from reconciler.desired.readings import Readings
from reconciler.desired.tree import load
from reconciler.desired.yamldoc import MAX_FILE_BYTES
from reconciler.errors import SourceFault

WORKTREE = "worktree"
"""The commit of files that are not committed."""

MAX_FILES = 50_000
MAX_TOTAL_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class Snapshot:
    """What a revision holds below the fleet's root.

    `commit` is a full id, or `worktree`. `files` maps paths below the root to contents, manifests only. `problems` tell
    of what could not be read (links, submodules, huge files): hand them to `load`, or use `load_snapshot`.
    `ids` are git's ids of the files by path, empty for files that are not committed.
    No file at all is no fault here: whoever plans decides what an empty revision means.
    """

    commit: str
    author_name: str = ""
    author_email: str = ""
    message: str = ""
    committed_at: datetime = field(default_factory=lambda: datetime.fromtimestamp(0, UTC))
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    problems: tuple[Problem, ...] = ()
    ids: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)


def load_snapshot(snapshot: Snapshot, readings: Readings | None = None) -> Loaded:
    """The fleet of a snapshot, with the problems of reading it. `readings` is what earlier loads have read already."""
    return load(snapshot.files, snapshot.problems, ids=snapshot.ids, readings=readings)


def read_folder(folder: Path) -> Snapshot:
    """The manifests of a folder as they are now, committed or not. Links are not followed.

    Raises SourceFault when the folder cannot be listed or holds more than the limits.
    """
    if not folder.is_dir():
        hint = "give the folder that holds the manifests"
        raise SourceFault(
            f"{folder}: {'not a folder' if folder.exists() else 'there is no such folder'}", hint=hint
        )
    files: dict[str, bytes] = {}
    problems: list[Problem] = []
    total = 0
    newest = 0.0
    for entry in _walk(folder, folder):
        path = os.path.relpath(entry.path, folder)
        problem = _unfit(entry, path)
        if problem is not None:
            problems.append(problem)
        elif is_manifest_path(path) and entry.is_file(follow_symlinks=False):
            content = _content(entry.path)
            if content is None:
                message = "the file cannot be read: permission denied"
                problems.append(Problem(Source(path), "unreadable-file", message))
                continue
            files[path] = content
            total += len(content)
            newest = max(newest, entry.stat(follow_symlinks=False).st_mtime)
            refuse_excess(str(folder), len(files), total)
    at = datetime.fromtimestamp(newest, UTC)
    return Snapshot(WORKTREE, committed_at=at, files=files, problems=tuple(sorted(problems)))


def refuse_excess(where: str, count: int, total: int) -> None:
    """Raises SourceFault when there are more files, or more bytes, than a fleet can sensibly have."""
    if count > MAX_FILES or total > MAX_TOTAL_BYTES:
        limit = f"{MAX_FILES} manifest files and {MAX_TOTAL_BYTES // 1024**2} MiB"
        raise SourceFault(
            f"{where}: more than {limit}", hint="is this the right folder? Name the one of the fleet"
        )


def oversize(path: str, size: int) -> Problem | None:
    """The problem of a file that is too large to be read, or None."""
    if size <= MAX_FILE_BYTES:
        return None
    message = f"the file has {size} bytes; a manifest file has at most {MAX_FILE_BYTES // 1024} KiB"
    return Problem(Source(path), "file-too-large", message, "split it into several files")


def link(path: str) -> Problem:
    """The problem of a symbolic link that may stand for manifests."""
    message = "symbolic links are not followed"
    return Problem(Source(path), "symlink", message, "commit the file itself in this place")


def _walk(folder: Path | str, root: Path) -> Iterator[os.DirEntry[str]]:
    """Everything below a folder but folders, in no order; dot-names are left out."""
    try:
        with os.scandir(folder) as found:
            entries = list(found)
    except OSError as fault:
        raise SourceFault(
            f"{folder}: {fault.strerror}", hint="check the permissions of the folder"
        ) from fault
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, root)
        else:
            yield entry


def _unfit(entry: os.DirEntry[str], path: str) -> Problem | None:
    if entry.is_symlink():
        # A link to something that is no manifest, such as a README, hides nothing.
        target = Path(entry.path).resolve()
        return None if target.is_file() and not is_manifest_path(f"{path}/{target.name}") else link(path)
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")
        return Problem(Source(shown), "path-not-text", "the name of the file is not UTF-8 text", "rename it")
    if not is_manifest_path(path):
        return None
    if not entry.is_file(follow_symlinks=False):
        return Problem(Source(path), "unreadable-file", "not an ordinary file", "remove it")
    return oversize(path, entry.stat(follow_symlinks=False).st_size)


def _content(path: str) -> bytes | None:
    try:
        # Not following a link that has just taken the file's place.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with open(descriptor, "rb") as file:  # noqa: PTH123 - an open descriptor has no path
        return file.read(MAX_FILE_BYTES + 1)
