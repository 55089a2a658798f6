"""Judges drift by what the resources' `spec.drift` says: what is put back, only reported, or left alone. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from fnmatch import fnmatchcase

from reconciler.desired.kinds.drift import Drift, DriftIgnore
from reconciler.kit import canonical
from reconciler.kit.canonical import Json
from reconciler.plan.kinds import spec_of
from reconciler.plan.model import DriftItem
from reconciler.plan.recorded import Recorded

_IN_PLACE = "update"
"""The action of a step whose object is there: only then single fields of it differ."""


@dataclass(frozen=True)
class Ignored:
    """A difference, or a part of one, that is left alone.

    `rule` is the one that says so, and None where `spec.drift.mode` is `off`.
    """

    item: DriftItem
    rule: DriftIgnore | None = None

    @property
    def until(self) -> date | None:
        """The last day of the rule; None: for ever."""
        return _last_day(self.rule) if self.rule else None

    @property
    def reason(self) -> str:
        """Why, in the words of whoever wrote the rule; empty when they wrote none."""
        return self.rule.reason if self.rule else "spec.drift.mode is off"


@dataclass(frozen=True)
class Expired:
    """A rule whose last day has passed, and the difference that it would have left alone."""

    item: DriftItem
    rule: DriftIgnore
    number: int
    """Its place in `spec.drift.ignore` as applied, from 0."""


@dataclass(frozen=True)
class Judged:
    """Drift, told apart. `heal` and `report` count as drift; what is in `expired` is in one of the two as well."""

    heal: tuple[DriftItem, ...] = ()
    report: tuple[DriftItem, ...] = ()
    ignored: tuple[Ignored, ...] = ()
    expired: tuple[Expired, ...] = ()

    @property
    def counted(self) -> tuple[DriftItem, ...]:
        """What makes a resource Drifted, in the order of server, resource and step."""
        return tuple(sorted((*self.heal, *self.report), key=lambda item: (item.server, item.key, item.step)))


def judge(items: Sequence[DriftItem], recorded: Recorded, today: date) -> Judged:
    """Tell drift apart by the settings that were applied last, not by those of a newer commit.

    `today` is the day in UTC. The settings of a Server are for its own section: a site's drift is judged by the site's.
    An item of which only some fields are left alone is in `ignored` with these and in `heal` or `report` with the rest.
    """
    heal, report = list[DriftItem](), list[DriftItem]()
    ignored, expired = list[Ignored](), list[Expired]()
    for item in items:
        found = recorded.resources.get(item.key)
        settings = drift_of(found.manifest if found else None)
        if settings.mode == "off":
            ignored.append(Ignored(item))
            continue
        rest, left_alone = _split(item, [rule for rule in settings.ignore if counts(rule, today)])
        ignored += left_alone
        if rest is None:
            continue
        (heal if settings.mode == "heal" else report).append(rest)
        expired += [
            Expired(rest, rule, number)
            for number, rule in enumerate(settings.ignore)
            if not counts(rule, today) and _split(rest, [rule])[1]
        ]
    return Judged(tuple(heal), tuple(report), tuple(ignored), tuple(expired))


def drift_of(manifest: Mapping[str, Json] | None) -> Drift:
    """The drift settings in a canonical manifest; the defaults where it has none, or none that can be read."""
    value = spec_of(manifest).get("drift")
    if value is None:
        return Drift()
    try:
        return Drift.model_validate_json(canonical.dumps(value))
    except ValueError:
        return Drift()


def counts(rule: DriftIgnore, today: date) -> bool:
    """Whether a rule still counts: its last day is today or later, or it has none."""
    last = _last_day(rule)
    return last is None or today <= last


def fields_of(item: DriftItem) -> tuple[str, ...]:
    """The fields that rules can tell apart; none where the object is not there, or could not be looked at."""
    return tuple(field for field, *_ in item.changes) if item.action == _IN_PLACE else ()


def as_glob(step: str) -> str:
    """The pattern that matches this step key and no other."""
    return re.sub(r"([*?[])", r"[\1]", step)


def _last_day(rule: DriftIgnore) -> date | None:
    return date.fromisoformat(rule.until) if rule.until else None


def _split(item: DriftItem, rules: Sequence[DriftIgnore]) -> tuple[DriftItem | None, list[Ignored]]:
    """What the rules leave of an item (None: nothing), and the parts that they take; the first rule that fits wins."""
    mine = [rule for rule in rules if fnmatchcase(item.step, rule.step)]
    for rule in mine:
        if rule.field is None:
            return None, [Ignored(item, rule)]
    if not fields_of(item):
        return item, []
    rest, taken = item.changes, list[Ignored]()
    for rule in mine:
        parts = tuple(change for change in rest if change[0] == rule.field)
        if parts:
            taken.append(Ignored(replace(item, changes=parts), rule))
            rest = tuple(change for change in rest if change[0] != rule.field)
    return (replace(item, changes=rest) if rest else None), taken
