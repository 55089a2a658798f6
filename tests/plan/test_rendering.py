"""The three renderings: nothing secret, no broken fence, Terraform's words."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from reconciler.desired.fleet import Loaded
from reconciler.desired.kinds import Kind, Resource
from reconciler.desired.problems import Problem, Source
from reconciler.plan.model import DriftItem, Plan
from reconciler.plan.offline import recorded_from
from reconciler.plan.recorded import Recorded
from reconciler.plan.render import MARKER, ansi, as_json, as_markdown, as_text, json_value

from .fleets import fleets
from .scene import fleet_of, manifest, plan_of, recorded_of, site_key, usual

CANARY = "canary-5f2b9c"
FENCE = re.compile(r"^(`{3,})", re.MULTILINE)


def secretive_plans() -> dict[str, Plan]:
    """Plans in which a secret comes, stays, changes and goes."""
    secret = {"API_TOKEN": f"{CANARY}-1", "SHORT": CANARY}
    other = {"API_TOKEN": f"{CANARY}-2"}
    with_secret, with_other = fleet_of(*usual(env=secret)), fleet_of(*usual(env=other))
    recorded = recorded_of(with_secret)
    web2 = manifest(Kind.SERVER, "web2", address="203.0.113.2")
    key = site_key("shop")
    failed = replace(
        recorded, resources={**recorded.resources, key: replace(recorded.resources[key], failed=True)}
    )
    return {
        "created": plan_of(with_secret),
        "changed": plan_of(with_other, recorded),
        "added": plan_of(with_secret, recorded_of(fleet_of(*usual()))),
        "removed": plan_of(fleet_of(*usual()), recorded),
        "deleted": plan_of(fleet_of(*usual()[:2]), recorded),
        "moved": plan_of(fleet_of(*usual(env=other, server="web2")[:3], web2), recorded),
        "renamed": plan_of(
            fleet_of(
                *usual()[:2], manifest(Kind.SITE, "store", {"reconciler/moved-from": "shop"}, env=other)
            ),
            recorded,
        ),
        "suspended": plan_of(fleet_of(*usual(env=other, suspend=True)), recorded),
        "retried": plan_of(with_secret, failed),
        "unchanged": plan_of(with_secret, recorded),
        "kept": plan_of(fleet_of(), recorded),
        "offline": plan_of(with_other, recorded_from(with_secret, "b" * 40)),
    }


@pytest.mark.parametrize("name", secretive_plans())
def test_no_rendering_shows_a_secret(name: str) -> None:
    plan = secretive_plans()[name]
    assert CANARY in repr([(c.before, c.after) for c in plan.changes])
    shown = [
        as_text(plan),
        as_text(plan, detail=True),
        as_text(plan, detail=True, style=ansi),
        as_json(plan),
        as_markdown(plan),
        as_markdown(plan, detail=True),
        repr(plan),
        str(plan.effective),
    ]
    for text in shown:
        assert CANARY not in text


def test_a_changed_secret_is_seen_to_change_without_being_shown() -> None:
    plan = secretive_plans()["changed"]
    text = as_text(plan)
    assert "~ API_TOKEN = (sensitive value)" in text
    assert "- SHORT = (sensitive value) -> null" in text
    (change,) = [c for c in json.loads(as_json(plan))["resource_changes"] if c["address"] == "Site/shop"]
    assert change["change"]["after"]["spec"]["env"] == {"API_TOKEN": "(sensitive value)"}
    assert change["change"]["after_sensitive"] == {"spec": {"env": {"API_TOKEN": True}}}
    assert change["change"]["before_sensitive"] == {"spec": {"env": {"API_TOKEN": True, "SHORT": True}}}


def test_without_a_style_there_are_no_colour_codes_and_with_one_the_words_are_the_same() -> None:
    plan = secretive_plans()["moved"]
    plain, coloured = as_text(plan, detail=True), as_text(plan, detail=True, style=ansi)
    assert "\x1b" not in plain
    assert "\x1b[32m+\x1b[0m" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain


def test_what_would_act_on_a_terminal_is_escaped() -> None:
    noted = manifest(Kind.USER, "ada", {"note": "a\u202eb"})
    problem = Problem(Source("a.yaml"), "x", "bad \x1b[2J name")
    drift = DriftItem(site_key("shop"), "web1", "file:/\x1b[31m", "update", (("mode", "\x07", "1"),))
    plan = plan_of(Loaded(fleet_of(noted).fleet, (problem,)), Recorded(), drift=[drift])
    for text in (as_text(plan), as_markdown(plan)):
        assert not set(text) & {"\x1b", "\x07", "\u202e"}


def test_a_rule_written_for_terraform_plans_works() -> None:
    """`deny[msg] { input.resource_changes[_].change.actions[_] == "delete" }`."""

    def deleted(plan: Plan) -> list[str]:
        return [
            rc["address"]
            for rc in json.loads(as_json(plan))["resource_changes"]
            if "delete" in rc["change"]["actions"]
        ]

    plans = secretive_plans()
    assert deleted(plans["deleted"]) == ["Site/shop"]
    assert deleted(plans["moved"]) == ["Site/shop"]
    assert deleted(plans["changed"]) == []


def test_json_has_terraforms_names() -> None:
    value = json_value(secretive_plans()["moved"])
    assert value["format_version"] == "1.0"
    assert {"resource_changes", "resource_drift", "checks", "errored", "timestamp"} <= value.keys()
    changes: Any = value["resource_changes"]
    (moved,) = [c for c in changes if c["address"] == "Site/shop"]
    assert (moved["mode"], moved["type"], moved["name"]) == ("managed", "Site", "shop")
    assert moved["change"]["actions"] == ["delete", "create"]
    assert moved["change"]["replace_paths"] == [["spec", "server"]]
    assert moved["action_reason"] == "replace_because_cannot_update"
    renamed: Any = json_value(secretive_plans()["renamed"])["resource_changes"]
    assert [c["previous_address"] for c in renamed if "previous_address" in c] == ["Site/shop"]


def test_a_comment_shows_what_changes_in_the_first_column() -> None:
    text = as_markdown(secretive_plans()["changed"])
    assert text.startswith(MARKER)
    inside = text.split("```diff\n")[1].split("```")[0]
    assert '\n!   resource "Site" "shop" {\n' in inside
    assert not re.search(r"^ *[~+]|^ +[-!] ", inside, re.MULTILINE)


def _check_comment(text: str, limit: int) -> None:
    """As a forge reads it: every fence that opens also closes, and every fold too."""
    assert len(text) <= limit
    tokens = MarkdownIt("commonmark").parse(text)
    fences = [t for t in tokens if t.type == "fence"]
    lines = text.split("\n")
    for fence in fences:
        assert fence.map is not None
        assert lines[fence.map[1] - 1] == fence.markup, "a fence is not closed"
        assert "<details>" not in fence.content
        assert "</details>" not in fence.content
    outside = "".join(t.content for t in tokens if t.type == "html_block")
    assert outside.count("<details>") == outside.count("</details>") == len(fences)
    assert outside.count("<") == 1 + 4 * len(fences), "text of a manifest became markup"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(fleets(), fleets(), st.integers(2_000, 12_000), st.booleans())
def test_a_comment_is_never_too_long_and_never_splits_a_fence(
    before: list[Resource], after: list[Resource], limit: int, detail: bool
) -> None:
    plan = plan_of(fleet_of(*after), recorded_of(fleet_of(*before)))
    text = as_markdown(plan, limit=limit, detail=detail)
    _check_comment(text, limit)


def test_a_huge_plan_still_fits_githubs_limit_and_says_what_is_missing() -> None:
    sites = [manifest(Kind.SITE, f"s{n}", {"note": "```\n" * 40}) for n in range(400)]
    servers = [manifest(Kind.SERVER, f"n{n}", address=f"10.0.0.{n + 1}") for n in range(150)]
    problems = tuple(Problem(Source(f"f{n}.yaml", n + 1), "code", "`no`" * 50) for n in range(200))
    loaded = Loaded(fleet_of(*usual(), *servers, *sites).fleet, problems)
    text = as_markdown(plan_of(loaded))
    _check_comment(text, 65_536)
    assert len(text) > 40_000
    assert "left out" in text


def test_one_block_that_is_too_long_is_cut_at_a_line() -> None:
    aliases = [f"alias-{n}.{'x' * 50}.test" for n in range(500)]
    text = as_markdown(plan_of(fleet_of(*usual(aliases=aliases))), limit=4_000)
    _check_comment(text, 4_000)
    assert "left out" in text


def test_a_limit_that_holds_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2000"):
        as_markdown(plan_of(fleet_of()), limit=100)
