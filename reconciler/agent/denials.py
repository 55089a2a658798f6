"""What SELinux refused, from the audit log: the records of one event together, equal events as one with their number."""

import re
import time
from collections import OrderedDict, deque
from typing import Any, Deque, Dict, List, Optional, Set, Tuple

from . import auditlog
from .auditlog import Cursor, Gap, Place

MOST_READ = 8 * 1024 * 1024
"""Bytes of the log that one call looks at."""

MOST_TOLD = 1024 * 1024
"""Bytes of lines that one answer holds: as JSON, where a byte may become six, that is below the limit of a line."""

_DENIALS = frozenset([b"AVC", b"USER_AVC", b"SELINUX_ERR", b"USER_SELINUX_ERR"])
_ALONE = frozenset([b"USER_AVC", b"USER_SELINUX_ERR"])
_COMPANIONS = frozenset(
    [
        b"SYSCALL",
        b"PATH",
        b"CWD",
        b"PROCTITLE",
        b"EXECVE",
        b"SOCKADDR",
        b"SOCKETCALL",
        b"IPC",
        b"MMAP",
        b"OBJ_PID",
    ]
)
_LAST = b"PROCTITLE"
"""The kernel writes this one last."""

_LINES = 32
_BYTES = 64 * 1024
"""What is kept of one event."""

_YOUNG = 2.0
"""Seconds after which an event is whole, as ausearch(8) has it."""

_FIELD = re.compile(
    rb"(?<![\w])(scontext|tcontext|tclass|permissive|comm|exe|path|name|op|seresult|oldcontext|newcontext"
    rb"|invalid_context|perms|dest|ino|inode|nametype|cwd)=(\"[^\"]*\"|[^\s'\"]*)"
)
_ASKED = re.compile(rb"avc:\s+(?:denied|granted)\s+\{[^}]*\}|invalid context \S+")
_NOTICE = re.compile(rb"avc:\s+(?!\s|denied|granted)")
_NOT_ITSELF = (b"ino", b"inode", b"nametype", b"cwd")

_Key = Tuple[Any, ...]


class _Event:
    """The records of one event so far. `place` is that of the first, `last` that of its last denial."""

    __slots__ = ("at", "closed", "id", "kept", "last", "lines", "number", "place")

    def __init__(self, event: bytes, at: float, place: Place) -> None:
        self.id = event
        self.at = at
        self.place = place
        self.last = place
        self.lines: List[Tuple[bytes, bytes]] = []
        self.kept = 0
        self.number = 0
        self.closed = False

    def add(self, kind: bytes, line: bytes) -> None:
        """One more record, without its translation; of very many the first ones are kept."""
        line = line.partition(b"\x1d")[0].rstrip()
        if len(self.lines) < _LINES and self.kept + len(line) <= _BYTES:
            self.lines.append((kind, line))
            self.kept += len(line)

    def key(self) -> _Key:
        """The same for events that differ in time, serial and numbers of processes and inodes only."""
        found: List[Any] = []
        companions = [(kind, _fields(line)) for kind, line in self.lines if kind not in _DENIALS]
        for kind, line in self.lines:
            if kind not in _DENIALS:
                continue
            body = line[line.find(b"):") :]
            values = _fields(body)
            own = [item for item in sorted(values.items()) if item[0] not in _NOT_ITSELF]
            if kind in _ALONE:
                own = [item for item in own if item[0] != b"dest"]  # the bus numbers its connections
            asked = _ASKED.search(body)
            path = () if b"path" in values else _path(values, companions)
            found.append((kind, asked.group() if asked else b"", tuple(own), path))
        programs = [values.get(b"exe") for kind, values in companions if kind == b"SYSCALL"]
        return (tuple(found), tuple(programs))


def _fields(line: bytes) -> Dict[bytes, bytes]:
    found: Dict[bytes, bytes] = {}
    for name, value in _FIELD.findall(line):
        found.setdefault(name, value)
    return found


def _path(values: Dict[bytes, bytes], companions: List[Tuple[bytes, Dict[bytes, bytes]]]) -> _Key:
    """The path that other records give to the object of a denial: by its inode, or as the only one."""
    named = [v for kind, v in companions if kind == b"PATH" and v.get(b"nametype") != b"PARENT"]
    inode = values.get(b"ino")
    same = [v for v in named if inode is not None and v.get(b"inode") == inode]
    if not same and (inode is not None or len(named) != 1):
        return ()
    folders = tuple(v.get(b"cwd") for kind, v in companions if kind == b"CWD")
    return ((same or named)[0].get(b"name"), folders[:1])


class _Fold:
    """Distinct events with their numbers, bounded."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = 0
        self._known: "OrderedDict[_Key, Dict[str, Any]]" = OrderedDict()

    def take(self, event: _Event) -> bool:
        """Count an event; false when it is one too many."""
        key = event.key()
        entry = self._known.get(key)
        if entry is None:
            full = len(self._known) >= self._most or self._size + event.kept > MOST_TOLD
            if full and self._known:
                return False
            self._size += event.kept
            lines = [line.decode("utf-8", "backslashreplace") for _, line in event.lines]
            self._known[key] = {"lines": lines, "count": 1, "first": event.at, "last": event.at}
            return True
        entry["count"] += 1
        entry["first"] = min(entry["first"], event.at)
        entry["last"] = max(entry["last"], event.at)
        return True

    def told(self) -> List[Dict[str, Any]]:
        """What the answer says."""
        return list(self._known.values())


class _Reading:
    """One call: takes lines in, and counts events in the order of their first records as soon as they are whole."""

    def __init__(self, start: Place, most: int, told: Set[str]) -> None:
        self.fold = _Fold(most)
        self.full = False
        self._start = start
        self._told = told
        self._number = 0
        self._open: Dict[bytes, _Event] = {}
        self._waiting: Deque[_Event] = deque()
        self._counted: Deque[Tuple[str, Place]] = deque(maxlen=auditlog.MOST_AHEAD)

    def take(self, kind: bytes, event: bytes, at: float, place: Place, line: bytes) -> None:
        """A record, of whatever kind."""
        self._number += 1
        known = self._open.get(event)
        if kind in _DENIALS and not _NOTICE.search(line):
            if known is None:
                if event.decode("ascii") in self._told:
                    return
                known = self._open[event] = _Event(event, at, place)
                self._waiting.append(known)
            known.last = place
        if known is not None and (kind in _DENIALS or kind in _COMPANIONS):
            known.add(kind, line)
            known.number = self._number
            if kind == _LAST or kind in _ALONE:
                self._close(known)
        self.count()

    def _close(self, event: _Event) -> None:
        event.closed = True
        self._open.pop(event.id, None)

    def count(self) -> None:
        """Count the events that are whole, up to the first that is not."""
        while self._waiting and not self.full:
            event = self._waiting[0]
            if not event.closed and self._number - event.number > auditlog.MOST_AHEAD:
                self._close(event)
            if not event.closed:
                return
            if not self.fold.take(event):
                self.full = True
                return
            self._waiting.popleft()
            self._counted.append((event.id.decode("ascii"), event.last))

    def end(self, now: float) -> None:
        """There is no more to read: what is not quite new is whole."""
        for event in self._waiting:
            if not -_YOUNG <= now - event.at < _YOUNG:
                self._close(event)
        self.count()

    def force(self) -> None:
        """Make sure that something was counted, or nothing waits at the very beginning."""
        if self._waiting and self._waiting[0].place == self._start:
            self._close(self._waiting[0])
            self.count()

    def rest(self, place: Place, at: float) -> Tuple[Place, List[str], float]:
        """Where the next call begins, which events behind that were counted already, and the time of that place.

        `place` and `at` are those of the end of what was read.
        """
        if self._waiting:
            place, at = self._waiting[0].place, self._waiting[0].at
        return place, [event for event, last in self._counted if last >= place], at


def collect(cursor: Optional[Cursor], most: int) -> Dict[str, Any]:
    """The result of the operation `avc`: at most `most` distinct events from `cursor` on. Raises OSError and Refusal."""
    log = auditlog.open_log()
    if log is None:
        return without(cursor, time.time())
    with log:
        return read(log, cursor, most, time.time())


def without(cursor: Optional[Cursor], now: float) -> Dict[str, Any]:
    """The answer of a node that has no audit log."""
    kept = cursor.to_json() if cursor else None
    return {"log": False, "now": now, "cursor": kept, "gap": None, "events": [], "more": False}


def read(log: auditlog.Log, cursor: Optional[Cursor], most: int, now: float) -> Dict[str, Any]:
    """The answer from a log; `now` is the time by which an event is young."""
    start, gap = log.find(cursor)
    reading = _Reading(start, most, set(cursor.told) if cursor and gap is None else set())
    place, at, seen, stopped = start, cursor.at if cursor else 0.0, 0, False
    for begin, place_after, line in log.lines(start):
        head = auditlog.HEAD.match(line)
        if head:
            kind, seconds, serial = head.groups()
            at = float(seconds)
            reading.take(kind, seconds + b":" + serial, at, begin, line)
        place = place_after
        seen += place_after[1] - begin[1]
        if reading.full or seen >= MOST_READ:
            stopped = True
            break
    if stopped:
        reading.force()
    else:
        reading.end(now)
    cut, told, at = reading.rest(place, at)
    return {
        "log": True,
        "now": now,
        "cursor": log.cursor(cut, at, told).to_json(),
        "gap": _told(gap),
        "events": reading.fold.told(),
        "more": stopped or reading.full,
    }


def _told(gap: Optional[Gap]) -> Optional[Dict[str, Any]]:
    if gap is None:
        return None
    return {"from": gap.since or None, "to": gap.until or None, "reason": gap.reason}
