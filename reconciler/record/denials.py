"""What SELinux refused on a node, as rows: parsed, given to its site, equal denials of an hour counted in one row."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from reconciler.kit.clock import stamp
from reconciler.kit.text import count
from reconciler.nodes.answers import Denials, Denied, Gap
from reconciler.selinux import audit
from reconciler.selinux.audit import Context, Denial
from reconciler.store import Tx
from reconciler.store.queries import audit_cursors, events, rollouts, selinux_audit_logs, servers, sites
from reconciler.store.queries.selinux_audit_logs import GAP, Seen

WINDOW = timedelta(hours=1)
"""How much time one row covers; equal denials after that begin a new one."""

KEPT = 5000
"""Rows of one server; beyond them those go that have not happened for longest."""

VARIETY = 100
"""Rows within `WINDOW` that differ only in the program and the object; further ones share a row. Both are of the choice
of whoever is refused, who could have everything else of the server forgotten otherwise."""

_SKEW = timedelta(seconds=5)
"""A node's clock may differ by this much before its times are put right by ours."""
_LONGEST = 1024
_WORD = 64
_TICK = timedelta(microseconds=1)
_OTHERS = ".others"

Redact = Callable[[str], str]


@dataclass(frozen=True)
class Taken:
    """What was new. `classes` are numbers of denials by class of the object; `told` the resources that have an event."""

    number: int = 0
    classes: Mapping[str, int] | None = None
    told: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class _Denied:
    """Equal denials of one answer, at times of our clock."""

    denial: Denial
    site_id: str | None
    site: str
    seen: Seen


Parsed = Sequence[tuple[Denied, Denial]]


def parsed(found: Denials, redact: Redact = str) -> Parsed:
    """The denials of an answer, each with the event that it is of, without secrets. Of a full answer this takes a while."""
    return [
        (event, _clean(one, redact))
        for event in found.events
        # a half of a surrogate pair is no text that could be stored
        for one in audit.parse(line.encode("utf-8", "backslashreplace").decode() for line in event.lines)
    ]


def take(
    tx: Tx, server: str, found: Denials, given: Parsed, quiet: Collection[tuple[str, str]] = ()
) -> Taken:
    """Records an answer of the server's agent, and how far its log was read by that: both or nothing.

    `given` is what it says (`parsed`). Resources (kind and name) in `quiet` get no event. A server that is not recorded
    (any more) has nothing recorded.
    """
    row = servers.get(tx, server)
    if row is None:
        return Taken()
    audit_cursors.put(tx, row.id, found.cursor, log=found.log)
    shift = tx.now - datetime.fromtimestamp(found.now, UTC)
    if abs(shift) <= _SKEW:
        shift = timedelta()
    if found.gap is not None:
        _gap(tx, row.id, server, found.gap, shift)
    change = rollouts.newest_change(tx, server)
    fresh: dict[tuple[str, str], list[_Denied]] = {}
    classes: Counter[str] = Counter()
    for one in _denied(tx, row.id, given, shift):
        if one.denial.verdict != "granted":
            classes[one.denial.tclass] += one.seen.count
        for part in _parts(one, change):
            if _record(tx, row.id, part, change):
                fresh.setdefault(("Site", one.site) if one.site else ("Server", server), []).append(part)
    if fresh:
        selinux_audit_logs.keep(tx, row.id, KEPT)
    fresh = {who: refused for who, some in fresh.items() if (refused := _refused(some))}
    told = tuple(who for who in fresh if who not in quiet)
    for kind, name in told:
        events.add(tx, kind, name, reason="SELinuxDenied", message=_event(fresh[kind, name]), type="Warning")
    return Taken(classes.total(), classes, told)


def _denied(tx: Tx, server_id: str, given: Parsed, shift: timedelta) -> Iterator[_Denied]:
    ids = {one.mcs_id: one for one in sites.all(tx, server_id=server_id) if one.mcs_id is not None}
    names = {number: site.id for number, site in ids.items()}
    by_id = {site.id: site.name for site in ids.values()}
    for event, denial in given:
        last = _time(event.last, shift, tx.now)
        first = min(_time(event.first, shift, tx.now), last)
        site = audit.site_of(denial.source, names) or audit.site_of(denial.target, names)
        seen = Seen(event.count, first, last, _identity(denial))
        yield _Denied(denial, site, by_id[site] if site else "", seen)


def _time(seconds: float, shift: timedelta, now: datetime) -> datetime:
    """A node's time as one of ours. Nothing happened later than now, whatever its clock says."""
    try:
        return min(datetime.fromtimestamp(seconds, UTC) + shift, now)
    except OverflowError:
        return now


def _clean(denial: Denial, redact: Redact) -> Denial:
    """Without secrets in what programs chose, and not longer than people read."""

    def short(text: str | None) -> str | None:
        return redact(text)[:_LONGEST] if text is not None else None

    return replace(
        denial,
        comm=short(denial.comm),
        exe=short(denial.exe),
        path=short(denial.path),
        name=short(denial.name),
        text=redact(denial.text)[:_LONGEST],
        tclass=denial.tclass[:_WORD],
        permissions=tuple(word[:_WORD] for word in denial.permissions),
        source=_sane(denial.source),
        target=_sane(denial.target),
    )


def _sane(context: Context | None) -> Context | None:
    return context if context is not None and len(str(context)) <= _LONGEST else None


def _identity(denial: Denial) -> str:
    """Two digests: of what policy goes by, and of what the program chooses."""
    about = [denial.tclass, *denial.permissions, denial.permissive]
    kind = [denial.kind, denial.verdict, str(denial.source), str(denial.target), *about]
    return f"{_digest(kind)}.{_digest([denial.comm, denial.exe, denial.object])}"


def _digest(value: list[Any]) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:24]


def _parts(one: _Denied, change: datetime | None) -> list[_Denied]:
    """Denials that reach over a change of the server, cut there: by their times, at least one on either side."""
    seen = one.seen
    if change is None or seen.count < 2 or not seen.first_at < change <= seen.last_at:
        return [one]
    share = (seen.last_at - change) / (seen.last_at - seen.first_at)
    after = min(max(1, math.ceil(seen.count * share)), seen.count - 1)
    before = replace(seen, count=seen.count - after, last_at=change - _TICK)
    return [replace(one, seen=before), replace(one, seen=replace(seen, count=after, first_at=change))]


def _record(tx: Tx, server_id: str, one: _Denied, change: datetime | None) -> bool:
    """Count it in its row, or begin one; whether it is a new row. No row is continued over a change."""
    seen = one.seen
    since, before = seen.last_at - WINDOW, None
    if change is not None and seen.last_at >= change:
        since = max(since, change)
    elif change is not None:
        before = change
    row = selinux_audit_logs.equal(tx, server_id, seen.identity, since, before)
    if row is None and selinux_audit_logs.alike(tx, server_id, _kind_of(seen), since) >= VARIETY:
        # the row of all the others has no program and no object
        others = replace(one.denial, comm=None, exe=None, path=None, name=None, ino=None)
        seen = replace(seen, identity=_kind_of(seen) + _OTHERS)
        one = replace(one, denial=others, seen=seen)
        row = selinux_audit_logs.equal(tx, server_id, seen.identity, since, before)
    if row is not None:
        selinux_audit_logs.more(tx, row, seen, _context(one.denial, _together(row, seen)))
        return False
    selinux_audit_logs.add(
        tx,
        log_level=_level(one.denial),
        message=one.denial.text,
        context=_context(one.denial, seen),
        server_id=server_id,
        site_id=one.site_id,
        seen=seen,
    )
    return True


def _kind_of(seen: Seen) -> str:
    return seen.identity.partition(".")[0]


def _together(row: selinux_audit_logs.SelinuxAuditLog, seen: Seen) -> Seen:
    first, last = min(row.first_at, seen.first_at), max(row.last_at, seen.last_at)
    return Seen(row.count + seen.count, first, last, seen.identity)


def _level(denial: Denial) -> str:
    """`info` is what was only recorded; a permissive domain's denials count as denials."""
    return {"denied": "warning", "error": "error", "granted": "info"}[denial.verdict]


def _context(denial: Denial, seen: Seen) -> dict[str, Any]:
    return {
        "kind": denial.kind,
        "verdict": denial.verdict,
        "permissive": denial.permissive,
        "command": denial.comm,
        "exe": denial.exe,
        "class": denial.tclass,
        "permissions": list(denial.permissions),
        "path": denial.object or None,
        "inode": denial.ino,
        "source": str(denial.source) if denial.source else None,
        "target": str(denial.target) if denial.target else None,
        "count": seen.count,
        "first": stamp(seen.first_at),
        "last": stamp(seen.last_at),
    }


def _refused(some: list[_Denied]) -> list[_Denied]:
    """Without what the policy allows and only has recorded."""
    return [one for one in some if one.denial.verdict != "granted"]


def _event(fresh: list[_Denied]) -> str:
    """A sentence for people about denials that were not seen in the last hour."""
    denial = fresh[0].denial
    who = denial.source.type if denial.source else "something"
    what = f"{{ {' '.join(denial.permissions)} }} of {denial.tclass} {denial.object}".rstrip()
    on = f" ({denial.target.type})" if denial.target else ""
    verb = "would refuse" if denial.permissive else "refused"
    more = f", and {count(len(fresh) - 1, 'other denial')}" if len(fresh) > 1 else ""
    if denial.verdict == "error":
        return f"SELinux has an error: {denial.text[:200]}{more}"
    return f"SELinux {verb} {who} ({denial.comm or denial.exe or '?'}) {what}{on}{more}"


def _gap(tx: Tx, server_id: str, server: str, gap: Gap, shift: timedelta) -> None:
    since = _time(gap.since, shift, tx.now) if gap.since is not None else None
    until = _time(gap.until, shift, tx.now) if gap.until is not None else None
    why = "was emptied or replaced" if gap.reason == "truncated" else "was rotated away"
    between = f"from {stamp(since)} " if since else ""
    message = (
        f"what SELinux refused {between}until {stamp(until or tx.now)} is not known: the audit log {why} before"
        " it was read"
    )
    context = {
        "kind": GAP,
        "from": stamp(since) if since else None,
        "to": stamp(until) if until else None,
        "reason": gap.reason,
    }
    last = until or tx.now
    seen = Seen(1, min(since or last, last), last, GAP)
    selinux_audit_logs.add(
        tx, log_level="error", message=message, context=context, server_id=server_id, seen=seen
    )
    events.add(tx, "Server", server, reason="DenialsLost", message=message, type="Warning")
