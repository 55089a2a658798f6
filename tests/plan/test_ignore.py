"""What becomes of drift: put back, reported or left alone, as `spec.drift` of each resource says."""

from __future__ import annotations

import string
from datetime import date, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from reconciler.desired.fleet import Key
from reconciler.desired.kinds import Kind
from reconciler.plan.ignore import Judged, as_glob, drift_of, judge
from reconciler.plan.model import DriftItem
from reconciler.plan.recorded import Recorded, RecordedResource

TODAY = date(2026, 11, 22)
SITE, SERVER = Key(Kind.SITE, "shop"), Key(Kind.SERVER, "web1")
MOTD, ENV = "file:/etc/motd", "file:/home/web1/.env"


def recorded(key: Key = SITE, **drift: Any) -> Recorded:
    """One resource whose manifest was applied with these drift settings; none at all without any."""
    spec: dict[str, Any] = {"drift": drift} if drift else {}
    return Recorded({key: RecordedResource(key, {"spec": spec}, "web1")})


def item(step: str = ENV, *fields: str, key: Key = SITE, action: str = "update", note: str = "") -> DriftItem:
    return DriftItem(key, "web1", step, action, tuple((field, "old", "new") for field in fields), note)


def look(*items: DriftItem, key: Key = SITE, today: date = TODAY, **drift: Any) -> Judged:
    return judge(items, recorded(key, **drift), today)


def test_without_settings_drift_is_reported() -> None:
    assert look(item()) == Judged(report=(item(),))
    assert judge([item()], Recorded(), TODAY) == Judged(report=(item(),)), "nothing is recorded of it"


def test_each_resource_has_its_own_mode() -> None:
    modes = {"a": "heal", "b": "report", "c": "off"}
    state = Recorded(
        {
            key: RecordedResource(key, {"spec": {"drift": {"mode": mode}}}, "web1")
            for name, mode in modes.items()
            for key in [Key(Kind.SITE, name)]
        }
    )
    a, b, c = (item(key=Key(Kind.SITE, name)) for name in modes)
    judged = judge([a, b, c], state, TODAY)
    assert (judged.heal, judged.report) == ((a,), (b,))
    (off,) = judged.ignored
    assert (off.item, off.rule, off.until, off.reason) == (c, None, None, "spec.drift.mode is off")
    assert judged.counted == (a, b)


def test_a_rule_leaves_alone_what_its_pattern_matches_in_every_mode() -> None:
    other = item(ENV)
    for mode in ("report", "heal"):
        judged = look(item(MOTD), other, mode=mode, ignore=[{"step": "file:/etc/*", "reason": "theirs"}])
        assert judged.counted == (other,)
        assert [(i.item, i.reason, i.until) for i in judged.ignored] == [(item(MOTD), "theirs", None)]


def test_patterns_are_those_of_a_shell_over_the_whole_key_with_case_and_slashes() -> None:
    def hits(pattern: str, step: str) -> bool:
        return not look(item(step), ignore=[{"step": pattern}]).counted

    assert hits("file:/etc/*", "file:/etc/php/8.2/fpm.conf"), "a slash is matched like any other character"
    assert hits("unit:panel-fpm-?hop.service", "unit:panel-fpm-shop.service")
    assert hits("file:/etc/[m]otd", MOTD)
    assert not hits("file:/etc", MOTD), "the whole key"
    assert not hits("*/MOTD", MOTD), "case counts"
    assert not hits("/etc/motd", MOTD)


def test_a_field_rule_takes_its_field_and_leaves_the_rest() -> None:
    judged = look(item(ENV, "mode", "sha256"), ignore=[{"step": ENV, "field": "mode"}])
    assert judged.report == (item(ENV, "sha256"),)
    assert [i.item for i in judged.ignored] == [item(ENV, "mode")]


def test_an_item_whose_every_field_is_ignored_is_no_drift() -> None:
    rules = [{"step": ENV, "field": "mode"}, {"step": "file:*", "field": "sha256"}]
    judged = look(item(ENV, "sha256", "mode"), ignore=rules)
    assert judged.counted == ()
    assert [(i.item, i.rule.step) for i in judged.ignored if i.rule] == [
        (item(ENV, "mode"), ENV),
        (item(ENV, "sha256"), "file:*"),
    ]


def test_a_field_rule_does_not_hide_that_the_object_is_missing_or_cannot_be_looked_at() -> None:
    missing = item(ENV, "mode", action="create")
    unclear = item(ENV, note="permission denied")
    judged = look(missing, unclear, ignore=[{"step": "*", "field": "mode"}])
    assert judged.report == (missing, unclear)
    assert judged.ignored == ()


def test_a_rule_counts_up_to_and_on_its_last_day() -> None:
    rule = {"step": MOTD, "until": TODAY.isoformat(), "reason": "until the move"}
    assert look(item(MOTD), ignore=[rule]).ignored[0].until == TODAY
    after = look(item(MOTD), today=TODAY + timedelta(days=1), mode="heal", ignore=[rule])
    assert after.heal == (item(MOTD),)
    assert after.ignored == ()
    assert [(e.item, e.rule.reason, e.number) for e in after.expired] == [(item(MOTD), "until the move", 0)]


def test_an_expired_rule_is_only_told_where_it_would_have_mattered() -> None:
    old = {"step": MOTD, "until": "2026-01-01"}
    assert look(item(ENV), ignore=[old]).expired == ()
    assert look(item(MOTD), ignore=[old, {"step": "*"}]).expired == (), "another rule still counts"
    field = {"step": MOTD, "field": "mode", "until": "2026-01-01"}
    assert look(item(MOTD, "sha256"), ignore=[field]).expired == ()
    assert [e.number for e in look(item(MOTD, "sha256", "mode"), ignore=[old, field]).expired] == [0, 1]


def test_the_rules_of_a_server_are_for_its_own_section_only() -> None:
    own, of_site = item(MOTD, key=SERVER), item(MOTD, key=SITE)
    judged = look(own, of_site, key=SERVER, ignore=[{"step": "*"}])
    assert judged.report == (of_site,)
    assert [i.item for i in judged.ignored] == [own]


def test_settings_that_cannot_be_read_are_as_none() -> None:
    assert drift_of({"spec": {"drift": {"mode": "of a later version"}}}).mode == "report"
    assert drift_of(None).mode == "report"


@given(st.text(alphabet=string.printable, min_size=1, max_size=40), st.text(alphabet="a*?[]!-/", max_size=8))
def test_the_pattern_of_a_key_matches_that_key_and_no_other(step: str, other: str) -> None:
    judged = look(item(step), item(other), ignore=[{"step": as_glob(step)}]) if _fits(step) else None
    if judged is not None:
        assert [i.item for i in judged.ignored] == [item(step)] * (1 + (step == other))


def _fits(step: str) -> bool:
    return all(character.isprintable() for character in step)


@given(
    st.lists(st.sampled_from(["mode", "owner", "sha256", None]), max_size=4),
    st.lists(st.sampled_from(["mode", "owner", "sha256"]), unique=True, max_size=3),
    st.sampled_from(["off", "report", "heal"]),
)
def test_no_field_is_lost_and_none_is_in_two_places(
    rules: list[str | None], fields: list[str], mode: str
) -> None:
    ignore = [{"step": "*", "field": field} for field in rules]
    judged = look(item(ENV, *fields), mode=mode, ignore=ignore)
    parts = [*judged.heal, *judged.report, *(i.item for i in judged.ignored)]
    assert sorted(change[0] for part in parts for change in part.changes) == sorted(fields)
    assert parts, "a difference is always somewhere"
