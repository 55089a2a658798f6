"""What SELinux refused, from the records of the audit log: one `Denial` an event, and equal ones folded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, get_args

from reconciler.selinux import mcs, records
from reconciler.selinux.records import Line

Kind = Literal["AVC", "USER_AVC", "SELINUX_ERR", "USER_SELINUX_ERR"]
Verdict = Literal["denied", "granted", "error"]

KINDS: tuple[str, ...] = get_args(Kind)
"""The kinds of records to collect; systemd and the bus refuse by USER_AVC, not AVC."""

_AVC = re.compile(r"avc:\s+(denied|granted)\s+\{ ([^}]*)\}")
_INVALID = re.compile(r"invalid context (\S+)")
_PERMISSIONS = 64


@dataclass(frozen=True)
class Context:
    """A security context. `level` is `s0:c1,c2`, or a range such as `s0-s0:c0.c1023`; empty on a policy without levels."""

    user: str
    role: str
    type: str
    level: str

    @staticmethod
    def of(text: str | None) -> Context | None:
        """The parts of `user:role:type:level`, or None for what is no context (`?`, a number)."""
        parts = (text or "").split(":", 3)
        if len(parts) < 3 or not all(parts[:3]):
            return None
        return Context(parts[0], parts[1], parts[2], parts[3] if len(parts) == 4 else "")

    def __str__(self) -> str:
        return ":".join(part for part in (self.user, self.role, self.type, self.level) if part)


@dataclass(frozen=True)
class Denial:
    """One refusal (or a grant that policy wants recorded, or a fault of the policy).

    Of an `error`, `target` is the context that could not be reached, and there may be no permissions. `path` is the
    whole path where it is known, `name` the last part of it. `permissive`: it was allowed all the same. `text` is the
    record as it came.
    """

    kind: Kind
    verdict: Verdict
    at: datetime
    serial: int
    permissions: tuple[str, ...]
    source: Context | None
    target: Context | None
    tclass: str
    comm: str | None = None
    exe: str | None = None
    path: str | None = None
    name: str | None = None
    pid: int | None = None
    ino: int | None = None
    dev: str | None = None
    permissive: bool = False
    text: str = ""

    @property
    def object(self) -> str:
        """What it was about, for people: the path, else the name, else nothing."""
        return self.path or self.name or ""


@dataclass(frozen=True)
class Folded:
    """Equal denials: the first one, how many there were, and when the last one was."""

    denial: Denial
    count: int
    last_at: datetime


def parse(lines: Iterable[str]) -> tuple[Denial, ...]:
    """The denials in lines of the audit log, in the order of their records. Never raises; other lines are passed over.

    Records of one event share a serial and a time: SYSCALL, PATH, CWD and PROCTITLE complete what an AVC leaves out.
    """
    events: dict[tuple[datetime, int], list[Line]] = {}
    for text in lines:
        line = records.read(text)
        if line is not None:
            events.setdefault((line.at, line.serial), []).append(line)
    found = []
    for event in events.values():
        found += [_completed(denial, event) for line in event if (denial := _denial(line)) is not None]
    return tuple(found)


def _denial(line: Line) -> Denial | None:
    match line.kind:
        case "AVC" | "USER_AVC":
            return _refusal(line, line.kind)
        case "SELINUX_ERR" | "USER_SELINUX_ERR":
            return _fault(line, line.kind)
        case _:
            return None


def _refusal(line: Line, kind: Literal["AVC", "USER_AVC"]) -> Denial | None:
    match = _AVC.search(line.body)
    if match is None:  # `avc:  received policyload notice`
        return None
    # a user-space manager's own pid comes before the message: what is asked about is within
    inner = records.fields(line.body[match.end() :].removesuffix("'"))
    return Denial(
        kind=kind,
        verdict="denied" if match[1] == "denied" else "granted",
        at=line.at,
        serial=line.serial,
        permissions=tuple(match[2].split()[:_PERMISSIONS]),
        source=Context.of(inner.get("scontext")),
        target=Context.of(inner.get("tcontext")),
        tclass=inner.get("tclass", ""),
        comm=inner.get("comm"),
        exe=inner.get("exe"),
        path=inner.get("path"),
        name=inner.get("name"),
        pid=records.number(inner.get("pid") or inner.get("spid")),
        ino=records.number(inner.get("ino")),
        dev=inner.get("dev"),
        permissive=inner.get("permissive") == "1",
        text=line.body,
    )


def _fault(line: Line, kind: Literal["SELINUX_ERR", "USER_SELINUX_ERR"]) -> Denial:
    values = line.fields
    invalid = _INVALID.search(line.body)
    reached = values.get("invalid_context") or values.get("newcontext") or (invalid[1] if invalid else None)
    target = values.get("tcontext")
    return Denial(
        kind=kind,
        verdict="error",
        at=line.at,
        serial=line.serial,
        permissions=tuple(values.get("perms", "").replace(",", " ").split()[:_PERMISSIONS]),
        source=Context.of(values.get("scontext") or values.get("oldcontext")),
        target=Context.of(reached or target),
        tclass=values.get("tclass", ""),
        text=line.body,
    )


def _completed(denial: Denial, event: Sequence[Line]) -> Denial:
    """With what the other records of its event say."""
    values: dict[str, str] = {}
    for line in event:
        if line.kind == "SYSCALL":
            values |= {name: line.fields[name] for name in ("comm", "exe", "pid") if name in line.fields}
    return replace(
        denial,
        comm=denial.comm or values.get("comm"),
        exe=denial.exe or values.get("exe"),
        pid=denial.pid if denial.pid is not None else records.number(values.get("pid")),
        path=denial.path or _path(denial, event),
    )


def _path(denial: Denial, event: Sequence[Line]) -> str | None:
    """The path of the object of an AVC that has a name only: the PATH record of the same inode, or the only one."""
    paths = [line.fields for line in event if line.kind == "PATH" and line.fields.get("nametype") != "PARENT"]
    same = [
        fields
        for fields in paths
        if denial.ino is not None and records.number(fields.get("inode")) == denial.ino
    ]
    one = same[0] if same else paths[0] if len(paths) == 1 and denial.ino is None else None
    if one is None or denial.name is None:
        return None
    path = one.get("name", "")
    if path.startswith("/"):
        return path
    folder = next((line.fields.get("cwd", "") for line in event if line.kind == "CWD"), "")
    return f"{folder.rstrip('/')}/{path.removeprefix('./')}" if folder.startswith("/") and path else None


def fold(denials: Iterable[Denial], known: Iterable[Folded] = ()) -> tuple[Folded, ...]:
    """Equal denials as one with their number; `known` are counted on. In the order of their first appearance.

    Equal are those of the same kind, verdict, contexts, class, permissions, program and object, whatever their time.
    """
    found: dict[tuple[object, ...], Folded] = {}
    for entry in (*known, *(Folded(denial, 1, denial.at) for denial in denials)):
        key = _key(entry.denial)
        old = found.get(key)
        if old is None:
            found[key] = entry
        else:
            found[key] = Folded(old.denial, old.count + entry.count, max(old.last_at, entry.last_at))
    return tuple(found.values())


def _key(denial: Denial) -> tuple[object, ...]:
    what = (denial.tclass, denial.permissions, denial.comm, denial.object, denial.permissive)
    return (denial.kind, denial.verdict, denial.source, denial.target, *what)


def site_of(context: Context | None, sites: Mapping[int, str]) -> str | None:
    """The site that a process or a file belongs to by its level; `sites` are a server's, by the number of their pair."""
    number = mcs.number_of_level(context.level) if context is not None else None
    return sites.get(number) if number is not None else None
