"""What SELinux refused, as operators read it: with the names of server and site, and why it happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from reconciler.errors import UsageFault
from reconciler.kit.text import did_you_mean
from reconciler.selinux import labels, mcs
from reconciler.selinux.audit import Context, Denial, Kind, Verdict
from reconciler.selinux.explain import Explanation, explain
from reconciler.store import Tx
from reconciler.store.queries import audit_cursors, selinux_audit_logs, servers, sites
from reconciler.store.queries.selinux_audit_logs import GAP, SelinuxAuditLog

NEWEST = 50
"""Rows that are shown when no time is given."""


@dataclass(frozen=True)
class Shown:
    """Equal denials of an hour, or a gap (then `denial` is None). Names are empty where they are not known (any more)."""

    id: str
    server: str
    site: str
    count: int
    first_at: datetime
    last_at: datetime
    message: str
    denial: Denial | None
    explanation: Explanation | None = None

    @property
    def advice(self) -> str:
        """What to do about it, and where; empty when nothing should be changed or no reason was asked for."""
        suggestion = self.explanation.suggestion if self.explanation else ""
        words = suggestion.split()
        server = f"Server/{self.server}" if self.server else "the server"
        if words[:1] in (["allow"], ["dontaudit"]):
            return f"spec.selinux.rules of {server}: {suggestion}"
        if words[:2] == ["setsebool", "-P"] and len(words) == 4:
            return f"spec.selinux.booleans of {server}: {words[2]}: {'true' if words[3] == 'on' else 'false'}"
        return f"on {self.server or 'the node'}: {suggestion}" if suggestion else ""


@dataclass(frozen=True)
class Wanted:
    """Which rows: of a server or site, and since when (None: the newest); `explained`: with the reason of each."""

    server: str | None = None
    site: str | None = None
    since: datetime | None = None
    explained: bool = False


def listed(tx: Tx, wanted: Wanted) -> list[Shown]:
    """The rows, newest first. UsageFault for a server or site that is not recorded."""
    all_servers = {row.id: row for row in servers.all(tx)}
    all_sites = sites.all(tx)
    server_names = {row.id: row.name for row in all_servers.values()}
    site_names = {row.id: row.name for row in all_sites}
    rows = selinux_audit_logs.listed(
        tx,
        server_id=_id("server", wanted.server, server_names),
        site_id=_id("site", wanted.site, site_names),
        since=wanted.since,
        limit=NEWEST if wanted.since is None else None,
    )
    reasons = _Reasons(all_sites) if wanted.explained else None
    return [_shown(row, server_names, site_names, reasons) for row in rows]


def without_log(tx: Tx) -> list[str]:
    """The names of servers that keep no audit log, so that nothing is known of them."""
    found = set(audit_cursors.without_log(tx))
    return [row.name for row in servers.all(tx) if row.id in found]


class _Reasons:
    """Explains denials of a server by its sites and the labels that their files are to have."""

    def __init__(self, all_sites: Sequence[sites.Site]) -> None:
        self._names: dict[str, dict[int, str]] = {}
        self._labels: dict[str, list[labels.Label]] = {}
        for site in all_sites:
            if site.mcs_id is None:
                continue
            level = mcs.level(site.mcs_id)
            self._names.setdefault(site.server_id, {})[site.mcs_id] = site.name
            kind = site.app_type
            mine = labels.of_site(site.name, site.system_user, kind, level, deployed=True, redis=True)
            self._labels.setdefault(site.server_id, []).extend(mine)

    def of(self, server_id: str | None, denial: Denial) -> Explanation:
        known = server_id or ""
        return explain(denial, sites=self._names.get(known, {}), wanted=self._labels.get(known, ()))


def _shown(
    row: SelinuxAuditLog,
    server_names: Mapping[str, str],
    site_names: Mapping[str, str],
    reasons: _Reasons | None,
) -> Shown:
    denial = None if row.identity == GAP else _denial(row)
    return Shown(
        id=row.id,
        server=server_names.get(row.server_id or "", ""),
        site=site_names.get(row.site_id or "", ""),
        count=row.count,
        first_at=row.first_at,
        last_at=row.last_at,
        message=row.message,
        denial=denial,
        explanation=reasons.of(row.server_id, denial) if reasons and denial else None,
    )


def _denial(row: SelinuxAuditLog) -> Denial:
    """The denial that a row was made of."""
    known: Mapping[str, Any] = row.context or {}
    about = known.get("path")
    whole = isinstance(about, str) and about.startswith("/")
    return Denial(
        kind=cast("Kind", known.get("kind", "AVC")),
        verdict=cast("Verdict", known.get("verdict", "denied")),
        at=row.first_at,
        serial=0,
        permissions=tuple(known.get("permissions", ())),
        source=Context.of(known.get("source")),
        target=Context.of(known.get("target")),
        tclass=known.get("class", ""),
        comm=known.get("command"),
        exe=known.get("exe"),
        path=about if whole else None,
        name=None if whole else about,
        ino=known.get("inode"),
        permissive=bool(known.get("permissive")),
        text=row.message,
    )


def _id(noun: str, name: str | None, names: Mapping[str, str]) -> str | None:
    """The id that has this name; None when none is asked for. UsageFault when nothing has it."""
    if name is None:
        return None
    given = name.removeprefix(f"{noun.capitalize()}/")
    found = next((row_id for row_id, known in names.items() if known == given), None)
    if found is None:
        hint = did_you_mean(given, names.values()) or "reconciler status lists what is recorded"
        raise UsageFault(f"there is no {noun} {given[:80]!r}", hint=hint)
    return found
