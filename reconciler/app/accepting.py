"""Accepting a commit that does not follow from the one before: after a branch was rewritten or rewound."""

from __future__ import annotations

import re

from reconciler.errors import UsageFault
from reconciler.kit.text import did_you_mean, short
from reconciler.store import Tx
from reconciler.store.queries import audit, sources
from reconciler.store.queries.sources import Source

_HEX = re.compile(r"[0-9a-f]{7,64}")


def source_of(tx: Tx, fleet: str | None) -> Source:
    """The source of a fleet; of the only one when none is named. UsageFault when that is not clear."""
    known = sources.listed(tx)
    if not known:
        raise UsageFault("no fleet was looked at yet", hint="start the daemon: reconciler serve")
    if fleet is None and len(known) == 1:
        return known[0]
    names = [source.fleet for source in known]
    if fleet is None:
        raise UsageFault("there are several fleets", hint=f"give --fleet-name: {', '.join(names)}")
    found = next((source for source in known if source.fleet == fleet), None)
    if found is None:
        raise UsageFault(
            f"there is no fleet {fleet[:60]!r}",
            hint=did_you_mean(fleet, names) or f"fleets: {', '.join(names)}",
        )
    return found


def accept(tx: Tx, fleet: str | None, commit: str, by: str) -> Source:
    """Accept the commit that the branch shows. `commit` is its id or at least the first 7 characters of it.

    UsageFault when it is no id, when the branch shows another commit, and when there is nothing that waits for this.
    """
    wanted = commit.strip().lower()
    if not _HEX.fullmatch(wanted):
        raise UsageFault(
            f"{commit[:80]!r} is no commit id",
            hint="give the hexadecimal id, at least 7 characters: `reconciler source`",
        )
    source = source_of(tx, fleet)
    seen = source.seen_commit or ""
    if not seen.startswith(wanted):
        said = f"shows {short(seen)}" if seen else "was never seen"
        raise UsageFault(
            f"branch {source.branch} of fleet {source.fleet} {said}, not {wanted}",
            hint="look at what it shows now, and accept that: `reconciler source`",
        )
    if seen == source.head_commit:
        raise UsageFault(f"{short(seen)} is accepted already", hint="there is nothing to do")
    if source.state == "unsigned":
        raise UsageFault(
            f"{short(seen)} is refused by the signature policy, which an acceptance does not override: {source.message}",
            hint="push a commit that is signed, or have the signer added",
        )
    sources.set_accept(tx, source.fleet, seen)
    detail = {"commit": seen, "instead_of": source.head_commit}
    audit.append(tx, actor=by, action="accept", subject=f"Fleet/{source.fleet}", detail=detail)
    return source
