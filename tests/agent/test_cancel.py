"""Cancelling an apply in a folder node: what is stopped, what is put back, what stays, and death at any instant.

systemctl, nginx and the package managers are scripts here; that the real ones behave so is tested on nodes.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reconciler.agent import cancel as module
from reconciler.agent import journal, lock, runner

from .building import directory, file, section
from .stopping import (
    RELOAD,
    UNITS,
    accepted,
    begin,
    calls,
    cancel,
    conf,
    dress,
    made,
    name_of,
    service,
    states,
    undress,
    vhost,
    wait_for,
)
from .talking import Here, Refused, Talk, ulid

DONE = ("succeeded", "")
STOPPED = ("failed", "cancelled")
LEFT_OUT = ("skipped", "cancelled")


@pytest.fixture
def node(here: Here) -> Iterator[Here]:
    yield dress(here)
    undress(here)


@pytest.fixture(params=["3.6", "now"])
def either(request: pytest.FixtureRequest) -> Iterator[Here]:
    """A folder node served by the oldest Python, and by that of the tests."""
    found = request.getfixturevalue("oldest" if request.param == "3.6" else "here")
    assert isinstance(found, Here)
    yield dress(found)
    undress(found)


@pytest.fixture
def talk(node: Here) -> Iterator[Talk]:
    with node.talk() as talking:
        yield talking


@pytest.fixture
def within(inside: Here) -> Iterator[Here]:
    """A folder node whose runner is this process."""
    yield dress(inside)
    module.watch("")


def test_the_running_section_is_put_back_and_what_was_done_is_validated_and_reloaded(
    either: Here,
) -> None:
    node = either
    wanted = made(
        section("Site/a", vhost("a", "1")),
        section("Site/b", directory("/etc/panel/b"), *service("b", "slow"), vhost("b", "2")),
        section("Site/c", vhost("c", "3"), needs=("Site/b",)),
        section("Site/d", vhost("d", "4")),
    )
    with node.talk() as talk:
        begin(talk, 1, wanted)
        wait_for(node.path("/waiting").exists)
        assert cancel(node, 1) == "stopping"
        outcome = talk.answer()
        assert states(outcome) == {"a": DONE, "b": STOPPED, "c": LEFT_OUT, "d": LEFT_OUT}
        assert (outcome["state"], outcome["cancelled"], outcome["reloaded"]) == (
            "failed",
            True,
            ["nginx.service"],
        )
        assert outcome["sections"]["Site/b"]["kept"] == []
        assert conf(node) == {"a": "1"}
        assert not node.path("/etc/panel/b").exists()
        assert not node.path(f"{UNITS}/{name_of('b')}").exists()
        told = calls(node)
        assert told[-2:] == ["test", RELOAD]
        assert f"stop {name_of('b')}" in told
        assert [kind for kind, _ in talk.types("cancelled")] == ["cancelled"]
        assert talk.types("step_failed") == [("step_failed", f"unit:{name_of('b')}")]
        assert not node.path("/var/lib/panel/pending.json").exists()
        assert talk.ask("hello", protocol=1)["running"] is None
        begin(talk, 2, made(section("Site/d", vhost("d", "4"))))
        assert talk.answer()["cancelled"] is False


def test_units_that_start_together_are_kept_when_they_are_up(node: Here, talk: Talk) -> None:
    wanted = made(
        section("Site/a", *service("a"), vhost("a", "1")),
        section("Site/b", *service("b", "slow"), vhost("b", "2")),
        section("Site/c", *service("c"), vhost("c", "3")),
    )
    begin(talk, 1, wanted)
    wait_for(node.path("/waiting").exists)
    assert cancel(node, 1) == "stopping"
    outcome = talk.answer()
    assert states(outcome) == {"a": DONE, "b": STOPPED, "c": STOPPED}
    assert conf(node) == {"a": "1"}
    assert sorted(path.name for path in node.path("/units").iterdir()) == [
        f"{name_of('a')}.active",
        f"{name_of('a')}.enabled",
    ]
    told = calls(node)
    assert {f"stop {name_of('b')}", f"stop {name_of('c')}"} <= set(told)
    assert told[-2:] == ["test", RELOAD]


def test_units_that_wait_for_the_end_are_not_begun_after_a_cancel(node: Here, talk: Talk) -> None:
    wanted = made(
        section("Site/a", *service("a"), vhost("a", "1")),
        section("Site/b", *service("b", "cancel")),
        section("Site/c", vhost("c", "3"), needs=("Site/b",)),
    )
    begin(talk, 1, wanted)
    outcome = talk.answer()
    assert states(outcome) == {"a": STOPPED, "b": STOPPED, "c": LEFT_OUT}
    assert conf(node) == {}
    assert f"start {name_of('a')}" not in calls(node)


def test_a_cancel_that_comes_too_late_stops_nothing_and_is_told(node: Here, talk: Talk) -> None:
    begin(talk, 1, made(section("Site/a", vhost("a", "late"))))
    outcome = talk.answer()
    assert (states(outcome), outcome["state"], outcome["cancelled"]) == ({"a": DONE}, "succeeded", True)
    assert conf(node) == {"a": "late"}


def test_a_validator_that_hangs_is_given_up_and_its_sections_are_put_back(
    within: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "VALIDATOR_SECONDS", 0.3)
    wanted = made(
        section("Site/a", vhost("a", "1")),
        section("Site/b", vhost("b", "hang")),
        section("Site/c", file("/etc/panel/c", b"3")),
    )
    assert runner.main(accepted(within, 1, wanted)) == 0
    outcome = journal.outcome(ulid(1))
    assert outcome is not None
    assert states(outcome) == {"a": STOPPED, "b": STOPPED, "c": DONE}
    assert (outcome["cancelled"], conf(within)) == (True, {})
    assert RELOAD not in calls(within)


def test_a_validator_is_heard_after_a_cancel(within: Here) -> None:
    """The guilty section is found, and an innocent one that was put back for it is done again."""
    within.program_on_path("nginx", 'if [ "$(ls $root/etc/nginx/conf.d | wc -l)" -gt 2 ]; then exit 1; fi')
    wanted = made(
        *(section(f"Site/{name}", vhost(name, "1")) for name in "abc"),
        section("Site/d", file("/etc/panel/d", b"3"), *service("d", "cancel")),
        section("Site/e", needs=("Site/d",)),
    )
    assert runner.main(accepted(within, 1, wanted)) == 0
    outcome = journal.outcome(ulid(1))
    assert outcome is not None
    found = states(outcome)
    assert (found["a"], found["b"], found["d"], found["e"]) == (DONE, DONE, STOPPED, LEFT_OUT)
    assert found["c"][0] == "failed"
    assert found["c"][1] != "cancelled"
    assert conf(within) == {"a": "1", "b": "1"}


def test_a_cancel_before_the_runner_begins_leaves_the_node_as_it_was(within: Here) -> None:
    deployment = accepted(within, 1, made(section("Site/a", vhost("a", "1"))))
    assert cancel(within, 1) == "stopping"
    assert within.call("run", deployment).returncode == 0
    with within.talk() as talk:
        outcome = talk.ask("status", deployment=deployment)
    assert outcome["sections"]["Server/web1"]["message"] == "cancelled"
    assert (states(outcome), outcome["cancelled"], conf(within)) == ({"a": LEFT_OUT}, True, {})
    assert calls(within) == []


def test_a_newer_daemon_may_cancel_what_an_older_one_had_asked_for(within: Here) -> None:
    """Cancelled, not interrupted: nothing is left to settle."""
    deployment = accepted(within, 1, made(section("Site/a", vhost("a", "1"))), fence=3)
    assert cancel(within, 1, fence=4) == "stopping"
    within.call("run", deployment)
    outcome = journal.outcome(deployment)
    assert outcome is not None
    assert (outcome["state"], outcome["cancelled"], states(outcome)) == ("failed", True, {"a": LEFT_OUT})


def test_a_cancel_after_the_end_changes_nothing(node: Here, talk: Talk) -> None:
    begin(talk, 1, made(section("Site/a", vhost("a", "1"))))
    outcome = talk.answer()
    assert cancel(node, 1) == "ended"
    assert talk.ask("status", deployment=ulid(1)) == outcome
    assert (outcome["state"], outcome["cancelled"]) == ("succeeded", False)
    assert not node.path(f"/var/lib/panel/journal/{ulid(1)}/cancel.json").exists()


def test_a_second_cancel_changes_nothing(node: Here, talk: Talk) -> None:
    node.program_on_path("dpkg-query", "true")
    node.program_on_path("apt-get", "touch $root/waiting; until [ -e $root/go ]; do sleep 0.05; done; exit 1")
    wanted = made(section("Site/a", {"type": "package", "key": "package:x", "name": "x"}))
    begin(talk, 1, wanted)
    wait_for(node.path("/waiting").exists)
    assert [cancel(node, 1), cancel(node, 1)] == ["stopping", "stopping"]
    node.write("/go", "")
    outcome = talk.answer()
    assert (outcome["cancelled"], outcome["sections"]["Site/a"]["state"]) == (True, "failed")
    assert cancel(node, 1) == "ended"


def test_a_cancel_that_overtakes_its_apply_is_not_forgotten(node: Here, talk: Talk) -> None:
    assert cancel(node, 1) == "unknown"
    with pytest.raises(Refused, match="unknown_deployment"):
        talk.ask("status", deployment=ulid(1))
    assert "running" not in node.call("status").stdout.replace("running  nothing", "")
    begin(talk, 1, made(section("Site/a", vhost("a", "1"))))
    outcome = talk.answer()
    assert (states(outcome), outcome["cancelled"], conf(node)) == ({"a": LEFT_OUT}, True, {})
    begin(talk, 2, made(section("Site/a", vhost("a", "1"))))
    assert states(talk.answer()) == {"a": DONE}


def test_cancels_of_what_never_comes_do_not_pile_up(node: Here, talk: Talk) -> None:
    begin(talk, 1, made(section("Site/a", vhost("a", "1"))))
    talk.answer()
    for number in range(100, 160):
        assert talk.ask("cancel", deployment=ulid(number), fence=1)["state"] == "unknown"
    left = sorted(path.name for path in node.path("/var/lib/panel/journal").iterdir())
    assert left == [ulid(1), *(ulid(number) for number in range(110, 160))]


def test_after_a_power_cut_a_cancelled_apply_is_interrupted_and_the_next_one_settles_it(
    node: Here, talk: Talk
) -> None:
    node.program_on_path("dpkg-query", "true")
    node.program_on_path("apt-get", "touch $root/waiting; until [ -e $root/go ]; do sleep 0.05; done")
    package = {"type": "package", "key": "package:x", "name": "x"}
    begin(talk, 1, made(section("Site/a", vhost("a", "1")), section("Site/b", package)))
    wait_for(node.path("/waiting").exists)
    assert cancel(node, 1) == "stopping"
    node.kill_runner()
    node.write("/go", "")
    outcome = talk.answer()
    assert (outcome["state"], outcome["cancelled"], outcome["doubt"]) == ("interrupted", True, "package:x")
    assert cancel(node, 1) == "ended"
    assert RELOAD not in calls(node)
    begin(talk, 2, made(section("Site/a", vhost("a", "1"))))
    outcome = talk.answer()
    assert (outcome["state"], outcome["cancelled"]) == ("succeeded", False)
    assert RELOAD in calls(node)


def test_a_cancel_after_the_power_cut_finds_nothing_to_stop(node: Here, talk: Talk) -> None:
    begin(talk, 1, made(section("Site/b", *service("b", "slow")), section("Site/c", needs=("Site/b",))))
    wait_for(node.path("/waiting").exists)
    node.kill_runner()
    assert talk.answer()["cancelled"] is False
    assert cancel(node, 1) == "ended"
    assert talk.ask("status", deployment=ulid(1))["state"] == "interrupted"


def doomed() -> dict[str, object]:
    """Site/b has its own apply cancelled in the middle of its steps."""
    return made(
        section("Site/a", vhost("a", "new")),
        section("Site/b", vhost("b", "2"), *service("b", "cancel")),
        section("Site/c", vhost("c", "3"), needs=("Site/b",)),
    )


def test_a_runner_killed_at_any_write_of_a_cancelled_apply_is_settled_by_the_next_one(node: Here) -> None:
    """After each death nobody claims to be running, no debt is forgotten, and the next apply ends in the wanted state,
    validated and reloaded after the last change."""
    after = made(section("Site/a", vhost("a", "new")), section("Site/b", vhost("b", "2")))
    died = 0
    for point in range(1, 60):
        with node.talk() as talk:
            begin(talk, 10 * point, made(section("Site/a", vhost("a", "1"))))
            assert talk.answer()["state"] == "succeeded"
        calls(node)
        with node.talk(PANEL_TEST_DIE_AT=str(point)) as talk:
            begin(talk, 10 * point + 1, doomed())
            first = talk.answer()
        if first["state"] == "failed":
            break
        died += 1
        assert first["state"] == "interrupted", (point, first)
        cancelled = node.path(f"/var/lib/panel/journal/{ulid(10 * point + 1)}/cancel.json").exists()
        assert first["cancelled"] is cancelled
        reloaded = RELOAD in calls(node)
        changed = conf(node) != {"a": "1"}
        with node.talk() as talk:
            assert talk.ask("hello", protocol=1)["running"] is None
            begin(talk, 10 * point + 2, after)
            again = talk.answer()
            assert (again["state"], again["cancelled"]) == ("succeeded", False), (point, again)
            assert talk.ask("check", digest=talk.ask("hello", protocol=1)["bundle"])["in_sync"]
        assert not changed or reloaded or RELOAD in calls(node), point
        assert conf(node) == {"a": "new", "b": "2"}
        assert not node.path("/var/lib/panel/pending.json").exists()
        for made_by_b in (SITES_B, f"{UNITS}/{name_of('b')}"):
            node.path(made_by_b).unlink(missing_ok=True)
        for path in node.path("/units").iterdir():
            path.unlink()
    else:
        raise AssertionError("the apply has more durable writes than the test tries")
    assert first["cancelled"]
    assert states(first) == {"a": DONE, "b": STOPPED, "c": LEFT_OUT}
    assert died > 15


SITES_B = "/etc/nginx/conf.d/b.conf"


@pytest.mark.parametrize(("point", "kept"), [(1, False), (2, True)])
def test_an_agent_killed_while_it_writes_a_cancel_down(
    node: Here, talk: Talk, point: int, kept: bool
) -> None:
    """Killed before the write there is no cancel, after it there is; asking again works in both cases."""
    begin(talk, 1, made(section("Site/b", *service("b", "slow")), section("Site/c", needs=("Site/b",))))
    wait_for(node.path("/waiting").exists)
    with node.talk(PANEL_TEST_DIE_AT=str(point)) as dying:
        dying.request("cancel", deployment=ulid(1), fence=1)
        assert dying.process.wait(20) != 0
    assert node.path(f"/var/lib/panel/journal/{ulid(1)}/cancel.json").exists() is kept
    assert cancel(node, 1) in {"stopping", "ended"}
    outcome = talk.answer()
    assert (states(outcome)["b"], outcome["cancelled"]) == (STOPPED, True)


def test_a_cancel_of_an_older_daemon_is_fenced(node: Here, talk: Talk) -> None:
    begin(talk, 1, made(section("Site/b", *service("b", "slow")), section("Site/c", needs=("Site/b",))), 5)
    wait_for(node.path("/waiting").exists)
    for number in (1, 2):  # the running one, and one that is not known here
        with node.talk() as other, pytest.raises(Refused, match=r"fenced.*fence 5"):
            other.ask("cancel", deployment=ulid(number), fence=4)
    assert not node.path(f"/var/lib/panel/journal/{ulid(1)}/cancel.json").exists()
    assert cancel(node, 1, fence=6) == "stopping"
    assert talk.answer()["cancelled"]
    assert talk.ask("hello", protocol=1)["fence"] == 6
    begin(talk, 3, made(), fence=5)
    with pytest.raises(Refused, match="fenced"):
        talk.answer()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"deployment": ulid(1)}, "lacks the field fence"),
        ({"fence": 1}, "lacks the field deployment"),
        ({"deployment": "../../etc", "fence": 1}, "deployment is not a ULID"),
        ({"deployment": ulid(1) + "\n", "fence": 1}, "deployment is not a ULID"),
        ({"deployment": ulid(1), "fence": -1}, "fence is not a number"),
        ({"deployment": ulid(1), "fence": True}, "fence is not a number"),
        ({"deployment": ulid(1), "fence": 1, "force": True}, "unknown field 'force' of cancel"),
    ],
)
def test_a_cancel_that_is_not_of_the_protocol_is_refused(
    node: Here, talk: Talk, values: dict[str, object], said: str
) -> None:
    with pytest.raises(Refused, match=said) as caught:
        talk.ask("cancel", **values)
    assert caught.value.code == "bad_request"
    assert not list(node.path("/var/lib/panel/journal").iterdir())


def test_the_greatest_fence_wins_whoever_comes_at_the_same_time(inside: Here) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def admit(number: int) -> bool:
        try:
            lock.admit(number)
        except lock.Stale:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        admitted = list(pool.map(admit, [n * 37 % 101 for n in range(101)]))
    assert any(admitted)
    assert not all(admitted)
    assert lock.fence() == 100
