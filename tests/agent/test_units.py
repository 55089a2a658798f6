"""The operation `units`, in a folder node: systemctl is a script."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .building import bundle, gone, section, unit
from .stopping import dress
from .talking import Here, Refused, Talk


@pytest.fixture(params=["3.6", "now"])
def node(request: pytest.FixtureRequest) -> Here:
    found = request.getfixturevalue("oldest" if request.param == "3.6" else "here")
    assert isinstance(found, Here)
    return dress(found)


@pytest.fixture
def talk(node: Here) -> Iterator[Talk]:
    with node.talk() as talking:
        yield talking


def test_units_are_told_in_systemds_words(talk: Talk) -> None:
    told = talk.ask("units", names=["nginx.service", "panel-fpm-a.service"])["units"]
    assert told == {
        "nginx.service": {
            "load": "loaded",
            "active": "active",
            "sub": "any",
            "result": "success",
            "restarts": 2,
            "description": "the unit nginx.service",
        },
        "panel-fpm-a.service": {
            "load": "loaded",
            "active": "inactive",
            "sub": "any",
            "result": "success",
            "restarts": 2,
            "description": "the unit panel-fpm-a.service",
        },
    }


def test_what_systemd_leaves_out_is_empty(node: Here, talk: Talk) -> None:
    node.program_on_path(
        "systemctl",
        "printf 'NRestarts=[not set]\\nActiveState=active\\nDescription=a = b, \\303\\274'; head -c 500 /dev/zero | tr '\\0' x; echo",
    )
    told = talk.ask("units", names=["x.timer"])["units"]["x.timer"]
    assert (told["active"], told["restarts"], told["result"], told["description"]) == (
        "active",
        0,
        "",
        "a = b, ü" + "x" * 192,
    )


@pytest.mark.parametrize(
    "names",
    [
        [],
        "nginx.service",
        ["nginx"],
        ["--all.service"],
        ["../x.service"],
        ["a.service\n"],
        ["a.service", "a.service"],
        ["$(id).service"],
        [1],
        [f"u{n}.service" for n in range(257)],
    ],
    ids=str,
)
def test_names_that_are_no_units_are_refused(node: Here, talk: Talk, names: object) -> None:
    with pytest.raises(Refused) as caught:
        talk.ask("units", names=names)
    assert caught.value.code == "bad_request"
    assert not node.path("/calls").exists()


def test_many_units_are_one_question(node: Here, talk: Talk) -> None:
    names = [f"u{number}.service" for number in range(256)]
    assert list(talk.ask("units", names=names)["units"]) == names


def test_a_node_whose_systemd_does_not_answer_says_so(node: Here, talk: Talk) -> None:
    node.program_on_path("systemctl", "echo 'Failed to connect to bus' >&2; exit 1")
    with pytest.raises(Refused, match=r"cannot ask systemd about units.*Failed to connect to bus"):
        talk.ask("units", names=["nginx.service"])
    assert talk.ask("bye") == {}


STATES = """
state=inactive; sub=dead
case "$*" in *show*) ;; *) echo "$*" >> $root/calls; case "$*" in *reset-failed*) touch $root/reset;; esac; exit;; esac
for name; do case "$name" in
  *worker*) printf 'LoadState=loaded\\nActiveState=activating\\nSubState=auto-restart\\nUnitFileState=enabled\\n\\n';;
  *.service) if [ -e $root/reset ]; then state=inactive; else state=failed; fi
    printf "LoadState=loaded\\nActiveState=$state\\nSubState=$state\\nUnitFileState=static\\n\\n";;
esac; done
"""


def test_a_worker_between_two_attempts_is_running_and_another_service_is_not(node: Here, talk: Talk) -> None:
    node.program_on_path("systemctl", STATES.replace("*worker*", "panel-*"))
    worker = section("Site/a", unit("panel-worker-a_b@1.service", active=True))
    other = section("Site/b", unit("panel-fpm-b.service", active=True))
    outcome = talk.apply(1, bundle(worker, other))
    assert {name: part["state"] for name, part in outcome["sections"].items()} == {
        "Site/a": "unchanged",
        "Site/b": "failed",
    }
    assert "start -- panel-worker" not in node.path("/calls").read_text()


def test_a_failed_unit_that_goes_is_forgotten_and_one_that_stays_is_not(node: Here, talk: Talk) -> None:
    node.program_on_path("systemctl", STATES)
    name = "panel-cron-a_b.service"
    assert talk.apply(1, bundle(section("Site/a", unit(name, active=None))))["state"] == "succeeded"
    assert not node.path("/calls").exists()
    goes = bundle(section("Site/a", gone(unit(name))))
    assert talk.apply(2, goes)["state"] == "succeeded"
    assert f"reset-failed -- {name}" in node.path("/calls").read_text()
    assert talk.ask("check", digest=talk.hand_over(goes))["in_sync"]
