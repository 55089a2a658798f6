"""Whether resources have come to a condition: what `reconciler wait` asks again and again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from reconciler.errors import UsageFault
from reconciler.kit.text import did_you_mean, short
from reconciler.store import Tx
from reconciler.store.queries import conditions, inventory, revisions
from reconciler.store.queries.conditions import Condition
from reconciler.store.words import ConditionStatus

TYPES = ("Ready", "Reconciling", "Stalled", "Drifted", "Reachable", "SourceReady", "Healthy")
STATUSES: dict[str, ConditionStatus] = {"true": "True", "false": "False", "unknown": "Unknown"}

Address = tuple[str, str]
"""Kind and name; the kind is `Fleet` for a whole fleet."""

_ALWAYS = frozenset({"Server", "Site", "Database"})  # kinds whose conditions every apply sets
_COMMIT = re.compile(r"[0-9a-f]{7,64}")


@dataclass(frozen=True)
class Want:
    """A condition's type and the status to wait for."""

    type: str
    status: ConditionStatus

    def __str__(self) -> str:
        return f"{self.type}={self.status}"


@dataclass(frozen=True)
class View:
    """What is recorded now. `applied` and `fleets` are by resource; `enough` are the commits that satisfy the wait.

    `through`: the fleets in which one of those commits is applied as a whole, so that whatever did not change has it too.
    `refusal` says why the awaited revision will never be applied, if so.
    """

    conditions: Mapping[Address, Mapping[str, Condition]]
    applied: Mapping[Address, str] = field(default_factory=dict)
    fleets: Mapping[Address, str] = field(default_factory=dict)
    enough: frozenset[str] | None = None
    through: frozenset[str] = frozenset()
    refusal: str = ""


@dataclass(frozen=True)
class Standing:
    """How one resource stands. `text` is a sentence: what was reached, what failed, or what is the case so far."""

    address: Address
    state: Literal["reached", "failed", "waiting"]
    text: str

    def __str__(self) -> str:
        return f"{self.address[0]}/{self.address[1]}: {self.text}"


def want(text: str) -> Want:
    """`Ready` or `Drifted=False` as a `Want`. UsageFault for anything else."""
    kind, equals, status = text.partition("=")
    known = {word.lower(): word for word in TYPES}
    kind = known.get(kind.lower(), kind)
    found = STATUSES.get((status if equals else "true").lower())
    if found is None:
        raise UsageFault(f"{status!r} is no status of a condition", hint="it is True, False or Unknown")
    suggestion = "" if kind in TYPES else did_you_mean(kind, TYPES)
    if suggestion or not kind.isalpha():
        raise UsageFault(f"{kind!r} is no condition", hint=suggestion or f"conditions: {', '.join(TYPES)}")
    return Want(kind, found)


def commit(text: str) -> str:
    """A commit id or the first 7 or more characters of one. UsageFault for anything else."""
    if not _COMMIT.fullmatch(text.lower()):
        raise UsageFault(
            f"{text!r} is no commit", hint="give 7 or more characters of its id; git rev-parse prints it"
        )
    return text.lower()


def look(tx: Tx, revision: str | None = None) -> View:
    """What is recorded now; `revision` is the beginning of the awaited commit's id."""
    by_resource: dict[Address, dict[str, Condition]] = {}
    for condition in conditions.listed(tx):
        by_resource.setdefault((condition.kind, condition.name), {})[condition.type] = condition
    known = inventory.origins(tx)
    applied = {(entry.kind, entry.name): entry.revision for entry in known}
    fleets = {(entry.kind, entry.name): entry.fleet for entry in known}
    if revision is None:
        return View(by_resource, applied, fleets)
    enough: set[str] = set()
    through: set[str] = set()
    refusals: list[str] = []
    recorded = revisions.listed(tx, limit=1000)  # newest first
    for fleet in {row.fleet for row in recorded}:
        mine = [row for row in recorded if row.fleet == fleet]
        at = next((number for number, row in enumerate(mine) if row.commit.startswith(revision)), None)
        if at is None:
            continue
        later = [row for row in mine[: at + 1] if row.status != "quarantined"]
        enough |= {row.commit for row in later}
        if any(row.status == "applied" for row in later):
            through.add(fleet)
        if not later:
            refusals.append(
                f"revision {short(revision, 7)} is quarantined: {mine[at].reason or 'see its events'}"
            )
    return View(by_resource, applied, fleets, frozenset(enough), frozenset(through), "; ".join(refusals))


def everything(view: View, wants: Sequence[Want]) -> list[Address]:
    """The resources that `--all` means: those on nodes, and any other that has all of these conditions."""
    types = {one.type for one in wants}
    found = {
        address
        for address in {*view.conditions, *view.applied}
        if address[0] != "Fleet" and (address[0] in _ALWAYS or types <= set(view.conditions.get(address, ())))
    }
    return sorted(found)


def judge(view: View, address: Address, wants: Sequence[Want]) -> Standing:
    """How one resource stands to what is waited for."""
    mine = view.conditions.get(address, {})
    missing = [one for one in wants if not _holds(view, address, mine.get(one.type), one)]
    if not missing:
        return Standing(address, "reached", ", ".join(str(one) for one in wants))
    stalled = mine.get("Stalled")
    if (
        stalled is not None
        and stalled.status == "True"
        and not any(one.type == "Stalled" and one.status == "True" for one in wants)
        and (
            view.enough is None
            or stalled.observed_revision is None
            or stalled.observed_revision in view.enough
        )
    ):
        return Standing(address, "failed", f"stalled, {stalled.reason}: {stalled.message}")
    if view.refusal:
        return Standing(address, "failed", view.refusal)
    return Standing(address, "waiting", _so_far(view, address, mine, missing))


def unknown(view: View, addresses: Iterable[Address]) -> dict[Address, str]:
    """The addresses under which nothing is recorded, each with a suggestion or an empty text."""
    known = {f"{kind}/{name}" for kind, name in {*view.conditions, *view.applied}}
    missing = [(kind, name) for kind, name in addresses if f"{kind}/{name}" not in known]
    return {address: did_you_mean("/".join(address), known) for address in missing}


def troubles(view: View) -> list[str]:
    """What holds whole fleets up, a sentence each: it may be why a resource does not come to its condition."""
    bad = (("SourceReady", "False"), ("Stalled", "True"))
    return [
        f"Fleet/{name}: {kind}={status} ({mine[kind].reason}: {mine[kind].message})"
        for (of, name), mine in sorted(view.conditions.items(), key=lambda item: item[0])
        for kind, status in bad
        if of == "Fleet" and kind in mine and mine[kind].status == status
    ]


def _holds(view: View, address: Address, found: Condition | None, wanted: Want) -> bool:
    if found is None or found.status != wanted.status:
        return False
    if view.enough is None:
        return True
    # a look for drift speaks of what is applied, and names no commit
    observed = found.observed_revision or view.applied.get(address)
    fleet = address[1] if address[0] == "Fleet" else view.fleets.get(address)
    return observed in view.enough or fleet in view.through


def _so_far(view: View, address: Address, mine: Mapping[str, Condition], missing: Sequence[Want]) -> str:
    if not mine:
        return "nothing is recorded yet"
    said = []
    for one in missing:
        found = mine.get(one.type)
        if found is None:
            said.append(f"no {one.type} yet")
        elif found.status != one.status:
            said.append(f"{one.type}={found.status} ({found.reason}: {found.message})".replace(": )", ")"))
        else:
            observed = found.observed_revision or view.applied.get(address) or "no commit"
            said.append(f"{one.type}={found.status}, but of {short(observed, 7)}")
    return ", ".join(said)
