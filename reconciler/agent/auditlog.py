"""The audit log as one stream of lines over its files, from a place that outlives the call.

auditd renames its files when one is full (`audit.log` becomes `audit.log.1` and so on, auditd.conf(5)) and removes the
oldest. A place is therefore an inode and an offset, and a digest of the file's first line: a removed file's inode is
soon given to a new one, and a file may be emptied or copied.
"""

import hashlib
import os
import re
import stat
from typing import IO, Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from . import places
from .faults import Refusal

FOLDER = "/var/log/audit"
MAX_LINE = 8192
"""Bytes of a line that are looked at; auditd's own are at most 8970 long, the translation at their end included."""

MOST_AHEAD = 64
"""How many lines apart the records of one event may be: processors write at the same time, but not for long."""

HEAD = re.compile(
    rb"(?:node=\S+ )?type=([A-Z0-9_]{1,64}) msg=audit\(([0-9]{1,11}\.[0-9]{1,9}):([0-9]{1,19})\):"
)

_NAME = re.compile(r"audit\.log(?:\.([0-9]{1,4}))?\Z")
_TRIES = 5
_MARKED = 65536

Place = Tuple[int, int]
"""Which file of those that were opened, from the oldest on, and an offset in it."""


class Cursor(NamedTuple):
    """A place that can be told to somebody. `at` is the time of the last record before it, seconds since 1970, or 0.

    `told` are the ids of events that were told already although records of theirs follow.
    """

    machine: str
    inode: int
    offset: int
    first: str
    at: float
    told: List[str]

    def to_json(self) -> Dict[str, Any]:
        """As it is sent."""
        return dict(self._asdict())

    @staticmethod
    def of(value: Any) -> "Cursor":
        """A cursor as it came back. Raises ValueError for what none can be."""
        kinds = (
            ("machine", str),
            ("inode", int),
            ("offset", int),
            ("first", str),
            ("at", float),
            ("told", list),
        )
        if not isinstance(value, dict) or set(value) != {name for name, _ in kinds}:
            raise ValueError("is no place in the audit log")
        # JSON of others may lack the fraction of a round number
        given = dict(value, at=float(value["at"])) if type(value["at"]) is int else value
        if any(type(given[name]) is not kind for name, kind in kinds) or not 0 <= given["offset"] < 2**53:
            raise ValueError("is no place in the audit log")
        if len(given["told"]) > MOST_AHEAD or any(type(item) is not str for item in given["told"]):
            raise ValueError("names more events than can be under way")
        return Cursor(**given)


class Gap(NamedTuple):
    """Lines that are lost: those after `since`, until `until` (0: nothing followed yet). `reason`: `rotated`, or
    `truncated` when the file is there and is another one by now."""

    since: float
    until: float
    reason: str


class File:
    """One file of the log. `first` is a digest of its first line, empty before there is a whole one."""

    def __init__(self, source: "IO[bytes]", inode: int, size: int) -> None:
        self.source = source
        self.inode = inode
        self.size = size
        start = source.read(_MARKED)
        line, newline, _ = start.partition(b"\n")
        whole = bool(newline) or len(start) == _MARKED
        self.first = hashlib.sha256(line).hexdigest()[:16] if whole else ""
        self.at = time_of(line)

    def holds(self, offset: int) -> bool:
        """Whether a line begins at this offset, or the next one will."""
        if offset > self.size:
            return False
        if offset == 0:
            return True
        self.source.seek(offset - 1)
        return self.source.read(1) == b"\n"


def time_of(line: bytes) -> float:
    """When a record was made, in seconds since 1970; 0 for what is none."""
    head = HEAD.match(line[:512])
    return float(head.group(2)) if head else 0.0


class Log:
    """The files of the log, oldest first, opened all at one moment. A context manager that closes them."""

    def __init__(self, files: List[File], machine: str) -> None:
        self._files = files
        self._machine = machine

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: Any) -> None:
        for file in self._files:
            file.source.close()

    def find(self, cursor: Optional[Cursor]) -> Tuple[Place, Optional[Gap]]:
        """Where to go on, and what is lost before it. Without a cursor, or with that of another machine: the beginning."""
        if cursor is None or cursor.machine != self._machine:
            return (0, 0), None
        for number, file in sorted(enumerate(self._files), key=lambda item: item[1].inode != cursor.inode):
            same = file.first == cursor.first if cursor.first else file.inode == cursor.inode
            if same and file.holds(cursor.offset):
                return (number, cursor.offset), None
        newer = [n for n, file in enumerate(self._files) if file.at >= cursor.at]
        here = [n for n, file in enumerate(self._files) if file.inode == cursor.inode]
        # the inode may have been given to a new file, with unread ones before it: their times tell
        number = min(newer + here) if newer or here else 0
        emptied = bool(here) and number == here[0]
        return (number, 0), Gap(cursor.at, self._files[number].at, "truncated" if emptied else "rotated")

    def lines(self, start: Place) -> Iterator[Tuple[Place, Place, bytes]]:
        """Each whole line from a place on: where it begins, where the next one does, and its first `MAX_LINE` bytes."""
        for number in range(start[0], len(self._files)):
            source = self._files[number].source
            offset = start[1] if number == start[0] else 0
            source.seek(offset)
            while True:
                line = source.readline(MAX_LINE)
                length = len(line)
                while line and not line.endswith(b"\n"):
                    rest = source.readline(_MARKED)
                    length += len(rest)
                    if not rest or rest.endswith(b"\n"):
                        line = line + b"\n" if rest else b""
                        break
                if not line:
                    break  # what is not ended yet is read when it is
                yield (number, offset), (number, offset + length), line
                offset += length

    def cursor(self, place: Place, at: float, told: List[str]) -> Cursor:
        """A place as it can be told. An empty file is no place to remember: the end of the one before it is."""
        number, offset = place
        while number > 0 and not self._files[number].first:
            number -= 1
            offset = self._end(number)
        file = self._files[number]
        return Cursor(self._machine, file.inode, offset, file.first, at, told)

    def _end(self, number: int) -> int:
        """Behind the last whole line of a file."""
        file = self._files[number]
        back = min(file.size, _MARKED)
        file.source.seek(file.size - back)
        kept = file.source.read(back).rfind(b"\n") + 1
        return file.size - back + kept if kept else 0


def open_log() -> Optional[Log]:
    """The log, or None when there is none: no auditd, or a container. Raises OSError and Refusal."""
    for _ in range(_TRIES):
        files = _open_all()
        if files is None:
            return None
        if [file.inode for file in files] == _inodes():
            return Log(files, _machine()) if files else None
        for file in files:  # it was rotated meanwhile
            file.source.close()
    raise Refusal("internal", "the audit log is rotated again and again while it is opened", "look at auditd")


def _open_all() -> Optional[List[File]]:
    names = _names()
    if names is None:
        return None
    files = []
    for name in names:
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(os.path.join(places.real(FOLDER), name), flags)
        except FileNotFoundError:
            continue
        source = open(descriptor, "rb")  # noqa: SIM115 - closed with the log
        facts = os.fstat(descriptor)
        if stat.S_ISREG(facts.st_mode):
            files.append(File(source, facts.st_ino, facts.st_size))
        else:
            source.close()
    return files


def _inodes() -> List[int]:
    found = []
    for name in _names() or []:
        try:
            facts = os.lstat(os.path.join(places.real(FOLDER), name))
        except FileNotFoundError:
            continue
        if stat.S_ISREG(facts.st_mode):
            found.append(facts.st_ino)
    return found


def _names() -> Optional[List[str]]:
    """The names of the log's files, oldest first; None without the folder."""
    try:
        found = os.listdir(places.real(FOLDER))
    except (FileNotFoundError, NotADirectoryError):
        return None
    numbered = []
    for name in found:
        match = _NAME.match(name)
        if match:
            numbered.append((int(match.group(1) or 0), name))
    return [name for _, name in sorted(numbered, reverse=True)]


def _machine() -> str:
    try:
        with open(places.real("/etc/machine-id"), "rb") as source:
            return source.read(64).decode("ascii", "replace").strip()
    except OSError:
        return ""
