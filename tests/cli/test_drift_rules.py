"""`reconciler drift` with settings in manifests, and the rules that it writes, over a played node."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import click
import pytest
import yaml

from reconciler.desired.snapshot import load_snapshot, read_folder
from reconciler.errors import UsageFault
from reconciler.kit.clock import utc_now

from .played import SHOP, Place, build

CONF = "file:/etc/panel/fpm/shop.conf"
UNIT_FILE = "file:/etc/systemd/system/panel-fpm-shop.service"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return build(tmp_path, monkeypatch)


def spoil(place: Place) -> None:
    """Somebody changes two things by hand: the mode and body of one file, and another one is gone."""
    place.node.things[CONF] |= {"mode": "0666", "sha256": "0" * 64}
    del place.node.things[UNIT_FILE]


def test_drift_that_a_manifest_leaves_alone_is_one_line_and_no_drift(place: Place) -> None:
    place.write(
        "shop.yaml",
        SHOP
        + f"""\
  drift:
    ignore:
      - {{step: "{CONF}", field: mode, until: 2999-12-31, reason: Theirs}}
""",
    )
    place.apply()
    place.node.things[CONF] |= {"mode": "0666"}
    said = place.run("drift", "--detailed-exitcode").stdout
    assert said == (
        f"Site/shop on web1: {CONF} differs (mode), ignored until 2999-12-31: Theirs\n"
        "No drift: 1 node asked, 1 ignored.\n"
    )
    assert place.condition("Site/shop", "Drifted") in ("", "False")
    place.node.things[CONF] |= {"owner": "nobody"}
    assert place.run("drift", "--detailed-exitcode", code=2).stdout == (
        f"Site/shop on web1: {CONF} differs\n"
        "    owner: applied root, now nobody\n"
        f"Site/shop on web1: {CONF} differs (mode), ignored until 2999-12-31: Theirs\n"
        "\n1 difference; 1 node asked, 1 ignored. To put back what was applied: reconciler apply, or (while the daemon runs) reconciler reconcile --all --heal\n"
    )
    assert place.condition("Site/shop", "Drifted") == "True"
    seen = place.drift()
    assert [(i["step"], [c["field"] for c in i["changes"]]) for i in seen["drift"]] == [(CONF, ["owner"])]
    assert [(i["step"], i["until"], i["reason"]) for i in seen["ignored"]] == [(CONF, "2999-12-31", "Theirs")]
    assert seen["expired"] == []


def test_a_rule_that_has_expired_is_told_and_counts_no_more(place: Place) -> None:
    place.write(
        "shop.yaml",
        SHOP + f'  drift: {{mode: heal, ignore: [{{step: "{CONF}", until: 2020-01-31, reason: Old}}]}}\n',
    )
    place.apply()
    place.node.things[CONF] |= {"mode": "0666"}
    said = place.run("drift", "--detailed-exitcode", code=2)
    assert "spec.drift.ignore[0] of Site/shop expired on 2020-01-31" in said.stderr
    assert f"Site/shop on web1: {CONF} differs\n" in said.stdout
    assert place.drift()["expired"] == [
        {
            "address": "Site/shop",
            "server": "web1",
            "step": CONF,
            "rule": 0,
            "until": "2020-01-31",
            "reason": "Old",
        }
    ]


def test_settings_count_as_they_were_applied_and_applying_them_touches_no_node(place: Place) -> None:
    place.node.things[CONF] |= {"mode": "0666"}
    place.write("shop.yaml", SHOP + "  drift: {mode: 'off'}\n")
    place.fleet.commit()
    assert len(place.drift()["drift"]) == 1, "committed is not applied"
    applies = place.node.applied
    place.run("apply", "--yes", "--no-refresh")
    assert place.node.applied == applies
    seen = place.drift()
    assert (seen["drift"], [i["reason"] for i in seen["ignored"]]) == ([], ["spec.drift.mode is off"])
    assert place.node.things[CONF]["mode"] == "0666"


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "  drift:\n    mode: heal\n",
        "  drift:\n    ignore:\n      - step: file:/nowhere\n        reason: An older rule\n",
    ],
    ids=["no drift", "drift", "a list"],
)
def test_rules_are_pasted_where_they_say_and_then_nothing_has_drifted(place: Place, spec: str) -> None:
    place.write("shop.yaml", "---\n# the shop\n" + SHOP + spec)
    place.apply()
    spoil(place)
    assert {i["step"] for i in place.drift()["drift"]} == {CONF, UNIT_FILE}

    rules = place.run("drift", "--write-ignore", "--until", "2999-12-31", "--reason", 'As "agreed"').stdout
    place.paste(rules)
    loaded = load_snapshot(read_folder(place.fleet.folder))
    assert [str(problem) for problem in loaded.problems] == []
    place.apply_record_only()
    seen = place.drift()
    assert seen["drift"] == []
    assert sorted((i["step"], i["reason"], len(i["changes"])) for i in seen["ignored"]) == [
        (CONF, 'As "agreed"', 1),
        (CONF, 'As "agreed"', 1),
        (UNIT_FILE, 'As "agreed"', len(seen["ignored"][-1]["changes"])),
    ]


def test_rules_end_in_thirty_days_and_may_go_into_a_new_file(place: Place, tmp_path: Path) -> None:
    spoil(place)
    file = tmp_path / "rules.yaml"
    before = utc_now().date()
    said = place.run("drift", "--write-ignore", str(file))
    days = {(day + timedelta(days=30)).isoformat() for day in (before, utc_now().date())}
    assert f"The rules are in {file}.\n" in said.stderr
    assert said.stdout == ""
    text = file.read_text(encoding="utf-8")
    assert text.startswith("# Site/shop: paste below shop.yaml:5:1\n  drift:\n    ignore:\n      - step: ")
    assert any(text.count(f'until: {day}\n        reason: ""\n') == 3 for day in days)
    again = place.run("drift", "--write-ignore", str(file), code=1)
    assert "exists already" in str(again.exception)
    assert file.read_text(encoding="utf-8") == text


def test_rules_for_a_list_in_defaults_say_so(place: Place) -> None:
    defaults = """\
apiVersion: reconciler/v1
kind: Defaults
metadata:
  name: sites
spec:
  appliesTo: Site
  values:
    drift:
      ignore:
        - step: file:/nowhere
"""
    place.write("defaults.yaml", defaults)
    place.apply_record_only()
    spoil(place)
    rules = place.run("drift", "--write-ignore").stdout
    assert rules.startswith(
        "# Site/shop: paste below defaults.yaml:9:7, which is in Defaults and counts for all"
    )
    place.paste(rules)
    place.apply_record_only()
    assert place.drift()["drift"] == []


def test_rules_for_something_without_a_manifest_stand_alone(place: Place) -> None:
    spoil(place)
    (place.fleet.folder / "shop.yaml").unlink()
    place.fleet.commit()
    rules = place.run("drift", "--write-ignore").stdout
    head, _, body = rules.partition("\n")
    assert head == "# Site/shop: this revision has no sound manifest of it to paste this into"
    found = yaml.safe_load(body)["spec"]["drift"]["ignore"]
    assert [(rule["step"], rule.get("field")) for rule in found] == [
        (CONF, "sha256"),
        (CONF, "mode"),
        (UNIT_FILE, None),
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--until", "2999-01-01"), "give --write-ignore as well"),
        (("--reason", "so"), "give --write-ignore as well"),
        (("--write-ignore", "--heal"), "give one of them"),
        (("--write-ignore", "--output", "json"), "leave --output json out"),
        (("--write-ignore", "--until", "2020-01-01"), "2020-01-01 has passed"),
        (("--write-ignore", "--until", "tomorrow"), "'tomorrow' does not match the format"),
        (("--write-ignore", "--reason", "two\nlines"), "the reason cannot be written into a manifest"),
        (("--write-ignore", "--reason", "x" * 501), "the reason cannot be written into a manifest"),
        (("--write-ignore", "/nowhere/at/all"), "No such file or directory"),
    ],
    ids=lambda value: " ".join(value)[:40].replace("\n", " ") if isinstance(value, tuple) else "",
)
def test_options_that_do_not_fit_are_refused(place: Place, words: tuple[str, ...], said: str) -> None:
    spoil(place)
    refused = place.run("drift", *words, code=1)
    assert isinstance(refused.exception, click.ClickException | UsageFault)
    assert said in str(getattr(refused.exception, "format_message", lambda: refused.exception)())


def test_no_drift_needs_no_rule(place: Place) -> None:
    said = place.run("drift", "--write-ignore")
    assert (said.stdout, said.stderr) == ("", "No drift, so there is nothing to write a rule for.\n")


@pytest.mark.parametrize("words", [("apply", "--yes"), ("drift", "--heal")], ids=" ".join)
def test_what_is_left_alone_is_neither_planned_nor_put_back(place: Place, words: tuple[str, ...]) -> None:
    place.write("shop.yaml", SHOP + f'  drift: {{ignore: [{{step: "{CONF}", field: mode}}]}}\n')
    place.apply()
    place.node.things[CONF] |= {"mode": "0666"}
    assert "No changes" in place.run("plan", "--refresh", "--detailed-exitcode").stdout
    applies = place.node.applied
    place.run(*words)
    assert place.node.applied == applies
    assert place.node.things[CONF]["mode"] == "0666"

    del place.node.things[UNIT_FILE]
    place.run(*words)
    assert UNIT_FILE in place.node.things
    assert place.drift()["drift"] == []
