"""Units that many sections want: validated first, then enabled and started together, in a folder node.

systemctl is a shell script that remembers what it was told; that the real one behaves so is tested on nodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .building import bundle, file, gone, section, unit
from .talking import Here, Talk

NGINX = {"type": "nginx"}
SITES = "/etc/nginx/conf.d"
UNITS = "/etc/systemd/system"

NGINX_SCRIPT = f"""
echo test >> $root/calls
for file in $root{SITES}/*.conf; do
  [ -e "$file" ] || continue
  if grep -q bad "$file"; then echo "nginx: [emerg] bad directive in $file:1" >&2; exit 1; fi
done
if [ "$(grep -l clash $root{SITES}/*.conf 2>/dev/null | wc -l)" -gt 1 ]; then echo "nginx: [emerg] a clash" >&2; exit 1; fi
"""
SYSTEMCTL_SCRIPT = f"""
verb=; units=
for word; do case "$word" in --*) ;; *) if [ -z "$verb" ]; then verb=$word; else units="$units $word"; fi;; esac; done
mkdir -p $root/units
if [ $verb = show ]; then
  for unit in $units; do
    active=inactive; enabled=disabled
    if [ $unit = nginx.service ]; then active=active; enabled=enabled; fi
    if [ -e $root/units/$unit.active ]; then active=active; fi
    if [ -e $root/units/$unit.enabled ]; then enabled=enabled; fi
    printf "LoadState=loaded\\nActiveState=$active\\nSubState=any\\nUnitFileState=$enabled\\n\\n"
  done
  exit
fi
echo "$verb$units" >> $root/calls
code=0
for unit in $units; do
  case $verb in
    start) if grep -q broken $root{UNITS}/$unit; then echo "Job for $unit failed." >&2; code=1
           else touch $root/units/$unit.active; fi;;
    stop) rm -f $root/units/$unit.active;;
    enable) if grep -q stubborn $root{UNITS}/$unit; then echo "Refused." >&2; exit 1; fi; touch $root/units/$unit.enabled;;
    disable) rm -f $root/units/$unit.enabled;;
  esac
done
exit $code
"""


@pytest.fixture
def node(here: Here) -> Here:
    here.path(SITES).mkdir()
    here.program_on_path("nginx", NGINX_SCRIPT)
    here.program_on_path("systemctl", SYSTEMCTL_SCRIPT)
    here.program_on_path("journalctl", "echo the port is taken")
    return here


@pytest.fixture
def talk(node: Here) -> Iterator[Talk]:
    with node.talk() as talking:
        yield talking


def name_of(site: str) -> str:
    return f"panel-fpm-{site}.service"


def steps(site: str, service: str = "", vhost: str = "") -> list[dict[str, Any]]:
    name = name_of(site)
    return [
        file(f"{UNITS}/{name}", service.encode()),
        unit(name, active=True, enabled=True, restart_on=[f"file:{UNITS}/{name}"]),
        file(f"{SITES}/{site}.conf", (vhost or site).encode(), validate=NGINX),
    ]


def sites(*more: dict[str, Any], **services: str) -> dict[str, Any]:
    server = section("Server/web1", unit("nginx.service", active=True, reload_on=["file:/etc/nginx/*"]))
    made = [
        section(f"Site/{site}", *steps(site, service), needs=("Server/web1",))
        for site, service in services.items()
    ]
    return bundle(server, *made, *more)


def hand(talk: Talk, number: int, made: dict[str, Any]) -> dict[str, Any]:
    """Apply with every body that there is."""
    texts = ["", "broken", "stubborn", "bad", "clash", "harmless", *"abcd"]
    outcome: dict[str, Any] = talk.apply(number, made, *(text.encode() for text in texts))
    return outcome


def apply(talk: Talk, number: int, made: dict[str, Any]) -> dict[str, str]:
    """The state of each site."""
    outcome = hand(talk, number, made)
    return {
        name.removeprefix("Site/"): part["state"]
        for name, part in outcome["sections"].items()
        if name.startswith("Site/")
    }


def calls(node: Here) -> list[str]:
    """What nginx and systemctl were told since the last look."""
    path = node.path("/calls")
    found = path.read_text().splitlines() if path.exists() else []
    path.write_text("")
    return found


def up(node: Here) -> set[str]:
    """The sites whose unit runs and is enabled."""
    folder = node.path("/units")
    return {
        path.name.removeprefix("panel-fpm-").removesuffix(".service.active")
        for path in folder.glob("*.active")
        if path.with_name(path.name.replace(".active", ".enabled")).exists()
    }


ALL = " ".join(name_of(site) for site in "abc")
RELOAD = "reload nginx.service"


def test_the_units_of_all_sites_are_started_at_once_after_validation(node: Here, talk: Talk) -> None:
    assert apply(talk, 1, sites(a="", b="", c="")) == dict.fromkeys("abc", "succeeded")
    assert calls(node) == ["test", f"enable {ALL}", "daemon-reload", f"start {ALL}", RELOAD]
    done = [event for event in talk.events if event["type"] == "section_done"]
    assert {event["section"]: event["changed"] for event in done} == {
        "Server/web1": 0,
        "Site/a": 3,
        "Site/b": 3,
        "Site/c": 3,
    }
    assert apply(talk, 2, sites(a="", b="", c="")) == dict.fromkeys("abc", "unchanged")
    assert calls(node) == []


def test_the_unit_that_does_not_start_fails_its_site_alone(node: Here, talk: Talk) -> None:
    outcome = hand(talk, 1, sites(a="", b="broken", c=""))
    states = {name: part["state"] for name, part in outcome["sections"].items()}
    assert states == {
        "Server/web1": "unchanged",
        "Site/a": "succeeded",
        "Site/b": "failed",
        "Site/c": "succeeded",
    }
    message = outcome["sections"]["Site/b"]["message"]
    assert "Job for panel-fpm-b.service failed.; it last said: the port is taken" in message
    assert up(node) == {"a", "c"}
    assert not node.path(f"{UNITS}/{name_of('b')}").exists()
    assert not node.path(f"{SITES}/b.conf").exists()
    assert calls(node)[-1] == RELOAD


def test_the_unit_that_cannot_be_enabled_fails_its_site_alone(node: Here, talk: Talk) -> None:
    assert apply(talk, 1, sites(a="", b="stubborn", c="")) == {
        "a": "succeeded",
        "b": "failed",
        "c": "succeeded",
    }
    assert up(node) == {"a", "c"}


def test_what_does_not_validate_is_never_started(node: Here, talk: Talk) -> None:
    made = sites(section("Site/d", *steps("d", vhost="bad"), needs=("Server/web1",)), a="")
    assert apply(talk, 1, made) == {"a": "succeeded", "d": "failed"}
    assert f"start {name_of('a')}" in calls(node)
    assert up(node) == {"a"}


def test_old_files_that_come_back_are_validated_again_with_the_new_ones(node: Here, talk: Talk) -> None:
    """`a` gives up what `b` takes over; when `a` does not start, both cannot stay."""
    old = section("Site/a", *steps("a", vhost="clash"), needs=("Server/web1",))
    assert apply(talk, 1, sites(old)) == {"a": "succeeded"}
    node.path(f"/units/{name_of('a')}.active").unlink()
    new = section("Site/a", *steps("a", "broken", "harmless"), needs=("Server/web1",))
    takes = section("Site/b", *steps("b", vhost="clash"), needs=("Server/web1",))
    assert apply(talk, 2, sites(new, takes, c="")) == {"a": "failed", "b": "failed", "c": "succeeded"}
    assert {path.stem: path.read_text() for path in node.path(SITES).iterdir()} == {"a": "clash", "c": "c"}
    assert up(node) == {"c"}
    done = [event["section"] for event in talk.events if event["type"] == "section_done"]
    assert done.count("Site/c") == 1


def test_a_section_that_others_need_starts_its_unit_in_place(node: Here, talk: Talk) -> None:
    base = section("Site/base", *steps("a"))
    child = section("Site/child", *steps("b"), needs=("Site/base",))
    assert apply(talk, 1, bundle(base, child)) == {"base": "succeeded", "child": "succeeded"}
    found = calls(node)
    assert found.index(f"start {name_of('a')}") < found.index("test") < found.index(f"start {name_of('b')}")


def test_removals_and_stops_stay_in_place(node: Here, talk: Talk) -> None:
    assert apply(talk, 1, sites(a="", b="")) == dict.fromkeys("ab", "succeeded")
    calls(node)
    removed = section("Site/b", *[gone(step) for step in reversed(steps("b"))], needs=("Server/web1",))
    removed["steps"][0]["validate"] = NGINX
    assert apply(talk, 2, sites(removed, a="")) == {"a": "unchanged", "b": "succeeded"}
    found = calls(node)
    assert found.index(f"stop {name_of('b')}") < found.index("test")
    assert up(node) == {"a"}


def test_a_runner_killed_at_any_write_leaves_nothing_that_the_next_apply_does_not_start(node: Here) -> None:
    """Also between the intents of the units, and between them and the start."""
    died = []
    for point in range(1, 80):
        with node.talk(PANEL_TEST_DIE_AT=str(point)) as talk:
            first = hand(talk, 1000 + point, sites(a="", b=""))
        if first["state"] == "interrupted":
            died.append(first["doubt"])
        with node.talk() as talk:
            assert apply(talk, 2000 + point, sites(a="", b="")).keys() == {"a", "b"}
            assert talk.ask("check", digest=talk.ask("hello", protocol=1)["bundle"])["in_sync"]
            assert up(node) == {"a", "b"}
            assert not node.path("/var/lib/panel/pending.json").exists()
            if first["state"] == "succeeded":
                break
            gone_all = [
                section(f"Site/{site}", *[gone(step) for step in reversed(steps(site))]) for site in "ab"
            ]
            apply(talk, 3000 + point, bundle(*gone_all))
            assert up(node) == set()
    else:
        raise AssertionError("the apply has more durable writes than the test tries")
    assert any(key and key.startswith("unit:") for key in died)


def test_a_site_that_fails_after_a_dead_runner_started_it_goes_back_to_where_it_was(node: Here) -> None:
    """The dead apply had written its files; the next one finds them as wanted but cannot start the unit."""
    with node.talk() as talk:
        assert apply(talk, 1, sites(a="")) == {"a": "succeeded"}
    node.path(f"/units/{name_of('a')}.active").unlink()
    for point in range(1, 60):
        with node.talk(PANEL_TEST_DIE_AT=str(point)) as talk:
            first = hand(talk, 10 + point, sites(a="broken"))
        if first["state"] == "interrupted":
            with node.talk() as talk:
                outcome = hand(talk, 100 + point, sites(a="broken"))
            assert outcome["sections"]["Site/a"]["state"] == "failed"
        assert node.path(f"{UNITS}/{name_of('a')}").read_text() == ""
        if first["state"] == "failed":
            break
    else:
        raise AssertionError("the apply has more durable writes than the test tries")
