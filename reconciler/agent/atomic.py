"""Writes that are seen whole or not at all, also after a power cut."""

import errno
import hashlib
import json
import os
import stat
from contextlib import suppress
from typing import Any, Callable, NamedTuple, Optional

from . import places, selinux
from .faults import StepFault
from .walk import Parent, look

_BLOCK = 1024 * 1024


class Owner(NamedTuple):
    """Numeric owner and group, and permission bits."""

    uid: int
    gid: int
    mode: int


def temporary_name(name: str) -> str:
    """The name under which a file is made before it takes its place.

    It is always the same for one name, so that what a crash left is found and removed by the next write; it begins
    with a dot, which every include pattern of the programs we configure passes over.
    """
    return ".panel-new-" + hashlib.sha256(name.encode("utf-8")).hexdigest()[:16]


def remove_temporary(parent: Parent) -> None:
    """Remove what an interrupted write of this name left, if anything."""
    with suppress(FileNotFoundError):
        os.unlink(temporary_name(parent.name), dir_fd=parent.fd)


def write_all(fd: int, data: bytes) -> None:
    """Write every byte. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def copy(source: int, target: int, digest: Optional[Any] = None) -> int:
    """Copy from one descriptor to another until the end; the number of bytes. Feeds `digest` when given."""
    total = 0
    while True:
        block = os.read(source, _BLOCK)
        if not block:
            return total
        if digest is not None:
            digest.update(block)
        write_all(target, block)
        total += len(block)


def replace(parent: Parent, fill: Callable[[int], None], owner: Owner) -> None:
    """Make a file with the body that `fill` writes to a descriptor, and let it take the place of `parent.name`.

    Owner and mode are set on the descriptor before the file is visible under its name. Raises OSError, StepFault.
    """
    temporary = temporary_name(parent.name)
    remove_temporary(parent)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with selinux.creating(parent.path, stat.S_IFREG):
        fd = os.open(temporary, flags, 0o600, dir_fd=parent.fd)
    try:
        try:
            fill(fd)
            os.fchown(fd, owner.uid, owner.gid)
            os.fchmod(fd, owner.mode)
            os.fsync(fd)
            os.rename(temporary, parent.name, src_dir_fd=parent.fd, dst_dir_fd=parent.fd)
        except BaseException:
            remove_temporary(parent)
            raise
        now = look(parent)
        made = os.fstat(fd)
        if now is None or (now.st_dev, now.st_ino) != (made.st_dev, made.st_ino):
            raise StepFault("{} was exchanged while it was written".format(parent.path))
    finally:
        os.close(fd)
    os.fsync(parent.fd)


def link(parent: Parent, target: str) -> None:
    """Make a symbolic link take the place of `parent.name`. Raises OSError."""
    temporary = temporary_name(parent.name)
    remove_temporary(parent)
    with selinux.creating(parent.path, stat.S_IFLNK):
        os.symlink(target, temporary, dir_fd=parent.fd)
    try:
        os.rename(temporary, parent.name, src_dir_fd=parent.fd, dst_dir_fd=parent.fd)
    except BaseException:
        remove_temporary(parent)
        raise
    os.fsync(parent.fd)


def make_folder(parent: Parent) -> None:
    """Make a folder that only root may enter, with the label of its path. Raises OSError, StepFault."""
    with selinux.creating(parent.path, stat.S_IFDIR):
        os.mkdir(parent.name, 0o700, dir_fd=parent.fd)


def sync_folder(path: str) -> None:
    """fsync a folder of the agent's own, so that names in it survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


BALLAST = places.STATE + "/ballast"
_BALLAST_SIZE = 2 * 1024 * 1024


def make_ballast() -> None:
    """Set disk space aside so that an apply which fills the disk can still be put back and written down.

    Raises OSError when the disk is full already.
    """
    fd = os.open(places.real(BALLAST), os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(fd).st_size < _BALLAST_SIZE:
            os.posix_fallocate(fd, 0, _BALLAST_SIZE)
    finally:
        os.close(fd)


def with_ballast(write: Callable[[], None]) -> None:
    """Do a write of the agent's own; when the disk is full, throw the ballast off and do it again. Raises OSError."""
    try:
        write()
    except OSError as error:
        if error.errno != errno.ENOSPC or not os.path.exists(places.real(BALLAST)):
            raise
        os.unlink(places.real(BALLAST))
        write()


def append_line(fd: int, line: bytes) -> None:
    """Append one whole line to a log opened with O_APPEND; a part of it that did not fit is taken back."""
    size = os.fstat(fd).st_size

    def write() -> None:
        try:
            write_all(fd, line)
        except OSError:
            os.ftruncate(fd, size)
            raise

    with_ballast(write)


def save_bytes(path: str, data: bytes, *, durable: bool = True) -> None:
    """Write a file of the agent's own (node path below its state folder), 0600 root. Raises OSError."""
    final = places.real(path)
    temporary = "{}.new.{}".format(final, os.getpid())
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        write_all(fd, data)
        if durable:
            os.fsync(fd)
    except BaseException:
        os.unlink(temporary)
        raise
    finally:
        os.close(fd)
    os.rename(temporary, final)
    if durable:
        sync_folder(os.path.dirname(final))


def save_stream(path: str, fill: Callable[[int], None]) -> None:
    """A file of the agent's own, 0600, that appears only once `fill` has written all of it, synced. Raises OSError."""
    final = places.real(path)
    partial = final + ".part"
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fill(fd)
        os.fsync(fd)
    except BaseException:
        os.unlink(partial)
        raise
    finally:
        os.close(fd)
    os.rename(partial, final)
    sync_folder(os.path.dirname(final))


def save_json(path: str, value: Any, *, durable: bool = True) -> None:
    """`save_bytes` of a JSON value, at need with the space of the ballast."""
    data = json.dumps(value, sort_keys=True, separators=(",", ":")).encode("utf-8")
    with_ballast(lambda: save_bytes(path, data, durable=durable))


def load_json(path: str) -> Any:
    """A JSON value of the agent's own; None when the file is missing. Raises ValueError when it is damaged."""
    try:
        with open(places.real(path), "rb") as source:
            return json.loads(source.read().decode("utf-8"))
    except FileNotFoundError:
        return None


def forget(path: str) -> None:
    """Remove a file of the agent's own if it is there."""
    try:
        os.unlink(places.real(path))
    except FileNotFoundError:
        return
    sync_folder(os.path.dirname(places.real(path)))
