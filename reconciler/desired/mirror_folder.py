"""A mirror's folder on disk: one process at a time, what a killed fetch left cleared away, made again when it is damaged.

The folder is a cache: everything in it can be fetched again, so what is damaged is thrown away, never repaired.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from reconciler.desired import git_process
from reconciler.desired.git_process import Bounds, Ended
from reconciler.errors import SourceFault, SourceUnreachable

_ID_LINE = re.compile(rb"(?:[0-9a-f]{40}|[0-9a-f]{64})\n?")
_TEMPORARY = ("tmp_", "incoming-", ".tmp-")
"""How git names what it has not finished below `objects`."""


@dataclass(frozen=True)
class Held:
    """The lock on a mirror, as a descriptor that every git started under it inherits.

    So the lock outlives a killed daemon as long as a git of it runs.
    """

    descriptor: int

    def note(self, group: int) -> None:
        """Writes down which process group works now, for whoever comes after a crash."""
        words = f"{group} {_born(group)} {os.getpid()} {_born(os.getpid())}\n".encode("ascii")
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, words, 0)


@contextlib.contextmanager
def held(folder: Path, seconds: float, stop: threading.Event) -> Iterator[Held]:
    """Holds the mirror for this process. The lock is a file beside the folder, which itself may be made again.

    A git that a killed process left behind is ended. SourceUnreachable when another process keeps the lock for
    `seconds`; SourceFault when the folder cannot be written.
    """
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder.with_name(f"{folder.name}.lock")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as fault:
        hint = "name a folder that this user may write to"
        raise SourceFault(f"the mirror {folder} cannot be made: {fault.strerror}", hint=hint) from fault
    try:
        until = time.monotonic() + seconds
        while not _taken(descriptor):
            _end_orphan(descriptor)
            if stop.wait(0.05) or time.monotonic() > until:
                hint = "two daemons on one state directory exclude each other; end the other one"
                raise SourceUnreachable(f"the mirror {folder} is in use by another process", hint=hint)
        yield Held(descriptor)
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _born(pid: int) -> str:
    """When a process started, in clock ticks since the boot: with its number it names it for good. "0": it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return "0"


def _end_orphan(descriptor: int) -> None:
    """Ends the group that holds the lock, if the process that started it is gone."""
    words = os.pread(descriptor, 200, 0).decode("ascii", "replace").split()
    if len(words) != 4 or not (words[0].isdigit() and words[2].isdigit()):
        return
    group, born, parent, parent_born = words
    if _born(int(group)) == born != "0" and _born(int(parent)) != parent_born:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(int(group), signal.SIGKILL)


def environment(folder: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """For git in the mirror."""
    return git_process.environment({"GIT_DIR": str(folder), **(more or {})})


def ask(folder: Path, *arguments: str, given: bytes = b"", bounds: Bounds | None = None) -> Ended:
    """Runs git in the mirror."""
    return git_process.run(git_process.git(*arguments), environment(folder), given=given, bounds=bounds)


def trusting(folder: Path, repository: str) -> Path:
    """A file with git's configuration for serving a local repository that may belong to another user; written if need be.

    git asks for that in configuration which no repository and no command line can give to the other end (safe.directory).
    Whoever named the repository as a remote trusts it; git-upload-pack(1) runs no program that a repository names.
    SourceFault when it cannot be written.
    """
    path = folder.with_name(f"{folder.name}.gitconfig")
    places = dict.fromkeys((repository, f"{repository.rstrip('/')}/.git", os.path.realpath(repository)))
    quoted = (place.replace("\\", "\\\\").replace('"', '\\"') for place in places)
    text = "[safe]\n" + "".join(f'\tdirectory = "{place}"\n' for place in quoted)
    try:
        if not path.is_file() or path.read_text(encoding="utf-8", errors="surrogateescape") != text:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
            fresh.write_text(text, encoding="utf-8", errors="surrogateescape")
            fresh.replace(path)
    except OSError as fault:
        raise SourceFault(f"{path} cannot be written: {fault.strerror}") from fault
    return path


def ensure(folder: Path, object_format: str, bounds: Bounds) -> bool:
    """Makes the mirror unless a usable one of this object format (sha1, sha256) is there; whether it was made.

    SourceFault when it cannot be.
    """
    if _usable(folder, object_format):
        return False
    discard(folder)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.new-", dir=folder.parent))
    try:
        # Born complete: a crash in the middle leaves nothing under the mirror's name.
        words = ("init", "--quiet", "--bare", "--template=", f"--object-format={object_format}")
        ended = git_process.run(git_process.git(*words), environment(made), bounds=bounds)
        if ended.status != 0:
            raise SourceFault(f"the mirror {folder} cannot be made: {ended.error.strip()}")
        made.rename(folder)
    except OSError as fault:
        raise SourceFault(f"the mirror {folder} cannot be made: {fault.strerror}") from fault
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return True


def _usable(folder: Path, object_format: str) -> bool:
    if not all((folder / part).exists() for part in ("HEAD", "config", "objects", "refs")):
        return False
    ended = ask(folder, "rev-parse", "--show-object-format", bounds=Bounds(seconds=30))
    return ended.status == 0 and ended.output.decode("ascii", "replace").strip() == object_format


def discard(folder: Path) -> None:
    """Removes the mirror and what crashed attempts to make one left."""
    for leftover in folder.parent.glob(f".{folder.name}.new-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    if os.path.lexists(folder):
        away = Path(tempfile.mkdtemp(prefix=f".{folder.name}.new-", dir=folder.parent))
        folder.rename(away / "old")
        shutil.rmtree(away, ignore_errors=True)


def clear(folder: Path) -> None:
    """Removes what a killed git left: locks, half packs and objects, half-written refs. Only while the lock is held."""
    for path in _files(folder):
        name = path.name
        inside = path.relative_to(folder).parts
        stale = name.endswith(".lock") or name in {"gc.pid", "FETCH_HEAD"}
        half = inside[0] == "objects" and name.startswith(_TEMPORARY)
        # index-pack keeps a pack from being repacked until its refs are written; a killed fetch keeps it for good.
        kept = inside[:2] == ("objects", "pack") and name.endswith(".keep")
        broken = inside[0] == "refs" and not _ID_LINE.fullmatch(_content(path))
        if stale or half or kept or broken:
            path.unlink(missing_ok=True)
    for left in (folder / "objects").glob("*incoming-*"):
        shutil.rmtree(left, ignore_errors=True)


def _files(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        for name in names:
            yield Path(place) / name


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()[:100]
    except OSError:
        return b""


def packs(folder: Path) -> int:
    """How many packs the mirror has: one a fetch, until they are packed together."""
    return sum(1 for _ in (folder / "objects" / "pack").glob("*.pack"))


def size(folder: Path) -> int:
    """The bytes of the mirror's packs and of what is arriving. Files that go meanwhile count nothing."""
    total = 0
    for place in (folder / "objects", folder / "objects" / "pack"):
        with contextlib.suppress(OSError), os.scandir(place) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.is_file(follow_symlinks=False):
                        total += entry.stat(follow_symlinks=False).st_size
    return total
