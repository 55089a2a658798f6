"""Entering folders without being led astray.

A path is walked one component at a time on open descriptors. A symbolic link among the parents is followed only where
nobody but root could have put it: in a folder owned by root that others may not write, outside homes, and before the
walk has entered anybody else's folder. So a site that swaps its `public_html` for a link to `/etc` gets an error, at
any instant, and what was checked is what is written to.
"""

import errno
import os
import stat
from contextlib import contextmanager
from typing import Dict, Iterator, List, NamedTuple, Optional

from . import fields, places
from .faults import StepFault, os_fault

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS = 16
_MOST_KNOWN = 256
_known: Optional[Dict[str, int]] = None


class Parent(NamedTuple):
    """The open folder that holds the last component of a path."""

    fd: int
    name: str
    path: str


def _others_may_write(info: os.stat_result) -> bool:
    return info.st_uid != os.geteuid() or bool(stat.S_IMODE(info.st_mode) & 0o022)


def _below_a_home(path: str) -> bool:
    return any(path.startswith(prefix) for prefix in fields.HOMES)


class _Walk:
    """One walk from the root folder; `fd` is the folder reached, `at` its path without links."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.links = 0
        self.fd = os.open(places.ROOT or "/", _FOLDER)
        self.at: List[str] = []
        self.strangers = False
        self.no_links = _below_a_home(path)

    def restart(self) -> None:
        os.close(self.fd)
        self.fd = os.open(places.ROOT or "/", _FOLDER)
        self.at = []
        self.strangers = False

    def enter(self, name: str) -> Optional[List[str]]:
        """Enter one folder; the components to walk from the root instead when a trusted link stands there."""
        here = os.fstat(self.fd)
        self.strangers = self.strangers or _others_may_write(here)
        try:
            below = os.open(name, _FOLDER, dir_fd=self.fd)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                raise
            return self._link(name, error)
        os.close(self.fd)
        self.fd = below
        self.at.append(name)
        return None

    def _link(self, name: str, error: OSError) -> List[str]:
        shown = "/" + "/".join(self.at + [name])
        if not stat.S_ISLNK(os.stat(name, dir_fd=self.fd, follow_symlinks=False).st_mode):
            raise error
        if self.strangers or (self.no_links and _below_a_home(shown)):
            raise StepFault(
                "{} is a symbolic link; links below a home or in others' folders are refused".format(shown)
            )
        self.links += 1
        if self.links > _MOST_LINKS:
            raise StepFault("{}: too many symbolic links".format(self.path))
        target = os.path.normpath(os.path.join("/", *(self.at + [os.readlink(name, dir_fd=self.fd)])))
        return [part for part in target.split("/") if part]


@contextmanager
def parent_of(path: str) -> Iterator[Parent]:
    """Open the folder of the last component of `path` (an absolute path of the node).

    Raises FileNotFoundError when a folder is missing, StepFault when a link is in the way, OSError else.
    """
    rest = [part for part in path.split("/") if part]
    name = rest.pop()
    folder = path.rpartition("/")[0]
    if _known is not None and folder in _known:
        yield Parent(_known[folder], name, path)
        return
    walk = _Walk(path)
    try:
        while rest:
            instead = walk.enter(rest[0])
            if instead is None:
                rest = rest[1:]
            else:
                rest = instead + rest[1:]
                walk.restart()
        if _known is not None and len(_known) < _MOST_KNOWN:
            _known[folder] = os.dup(walk.fd)
        yield Parent(walk.fd, name, path)
    finally:
        os.close(walk.fd)


@contextmanager
def remembering() -> Iterator[None]:
    """Enter each folder only once until the end of the block, for many looks in a row; nothing may be written meanwhile,
    and no other thread may walk. A folder that is exchanged meanwhile is seen as it was at the first look."""
    global _known  # noqa: PLW0603 (the walks of one check, wherever they are made)
    _known = {}
    try:
        yield
    finally:
        for fd in _known.values():
            os.close(fd)
        _known = None


def look(parent: Parent) -> Optional[os.stat_result]:
    """lstat of the last component, None when there is nothing."""
    try:
        return os.stat(parent.name, dir_fd=parent.fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


def examine(path: str) -> Optional[os.stat_result]:
    """lstat of a path, walked safely; None when it or a folder above it is missing. Raises StepFault."""
    try:
        with parent_of(path) as parent:
            return look(parent)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise os_fault("look at", path, error) from None


def open_file(parent: Parent) -> int:
    """Open the last component for reading: a regular file only, never a link, a device or a pipe. Raises OSError."""
    fd = os.open(
        parent.name,
        os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC,
        dir_fd=parent.fd,
    )
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise StepFault("{} is not a regular file".format(parent.path))
    return fd


def open_folder(parent: Parent) -> int:
    """Open the last component as a folder, never through a link. Raises OSError."""
    return os.open(parent.name, _FOLDER, dir_fd=parent.fd)


def kind(info: os.stat_result) -> str:
    """`file`, `directory`, `symlink` or `special`."""
    if stat.S_ISREG(info.st_mode):
        return "file"
    if stat.S_ISDIR(info.st_mode):
        return "directory"
    if stat.S_ISLNK(info.st_mode):
        return "symlink"
    return "special"


def mode_text(info: os.stat_result) -> str:
    """The permission bits as four octal digits."""
    return "{:04o}".format(stat.S_IMODE(info.st_mode))
