"""`reconciler wait`: when it ends, with which code, and what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.store import Tx
from reconciler.store.queries import revisions
from tests.cli.recorded import NEW, NEWER, OLD, Recorded, accept, apply


@pytest.fixture
def state(tmp_path: Path) -> Recorded:
    made = Recorded.make(tmp_path / "state")
    with made.store() as store:

        def unit(tx: Tx) -> None:
            for kind, name in (("Server", "web1"), ("Site", "shop"), ("User", "ada")):
                apply(tx, kind, name)
            accept(tx, OLD, "applied")

        store.write(unit)
    made.put("Server/web1", "Ready", "True", revision=OLD)
    made.put("Site/shop", "Ready", "True", revision=OLD)
    made.put("Site/shop", "Drifted", "False", reason="InSync")
    return made


SOON = ("--timeout", "50ms")


def test_what_is_so_already_is_said_at_once(state: Recorded) -> None:
    told = state.run("wait", "Site/shop", "server/web1")
    assert (told.code, told.out, told.err) == (0, "Site/shop: Ready=True\nServer/web1: Ready=True\n", "")
    assert state.run("wait", "--for", "drifted=false", "--for", "Ready", "Site/shop").code == 0


def test_it_ends_when_the_condition_is_reached(state: Recorded) -> None:
    state.put("Site/shop", "Ready", "Unknown", reason="Progressing", message="being reconciled")
    running = state.start("wait", "Site/shop", "Server/web1", "--timeout", "1m")
    try:
        assert running.stdout is not None
        assert running.stdout.readline() == "Server/web1: Ready=True\n"
        assert running.poll() is None
        state.put("Site/shop", "Ready", "True", revision=OLD)
        out, err = running.communicate(timeout=30)
    finally:
        running.kill()
        running.communicate()
    assert (running.returncode, out, err) == (0, "Site/shop: Ready=True\n", "")


def test_a_time_out_says_what_is_the_case_instead(state: Recorded) -> None:
    state.put("Site/shop", "Ready", "False", reason="ReconciliationFailed", message="nginx refused it")
    told = state.run("wait", "Site/shop", "Site/shpo", *SOON)
    assert (told.code, told.out) == (7, "")
    assert told.err.splitlines() == [
        "Site/shop: Ready=False (ReconciliationFailed: nginx refused it)",
        "Site/shpo: nothing is recorded yet",
        "Error: the time is over: 2 resources did not come to it",
        "Hint: did you mean 'Site/shop'?",
    ]
    assert "no Stalled yet" in state.run("wait", "Site/shop", "--for", "Stalled=False", *SOON).err


def test_a_stalled_resource_ends_it_with_its_message(state: Recorded) -> None:
    state.put("Site/shop", "Ready", "False", revision=OLD)
    state.put("Site/shop", "Stalled", "True", reason="NeedsApproval", message="3 databases go", revision=OLD)
    told = state.run("wait", "Site/shop", "Server/web1", "--timeout", "1m")
    assert told.code == 1
    assert told.err == "Error: Site/shop: stalled, NeedsApproval: 3 databases go\n"
    assert state.run("wait", "--for", "Stalled", "Site/shop").code == 0


def test_all_means_what_is_on_nodes_and_what_else_has_the_condition(state: Recorded) -> None:
    told = state.run("wait", "--all")
    assert (told.code, told.out) == (0, "All 2 resources: Ready=True\n")
    state.put("User/ada", "Ready", "False", reason="Failed", message="x")
    told = state.run("wait", "--all", *SOON)
    assert told.code == 7
    assert told.err.splitlines()[0] == "User/ada: Ready=False (Failed: x)"


def test_nothing_recorded_is_not_everything_ready(tmp_path: Path) -> None:
    told = Recorded.make(tmp_path / "empty").run("wait", "--all", *SOON)
    assert told.code == 7
    assert "nothing is recorded" in told.err


def test_a_revision_is_awaited_and_not_what_was_before_it(state: Recorded) -> None:
    told = state.run("wait", "Site/shop", "--revision", NEW[:8], *SOON)
    assert told.code == 7
    assert told.err.startswith(f"Site/shop: Ready=True, but of {OLD[:7]}\n")
    with state.store() as store:
        store.write(lambda tx: accept(tx, NEW, "applying"))
    assert state.run("wait", "Site/shop", "--revision", NEW, *SOON).code == 7
    state.put("Site/shop", "Ready", "True", revision=NEW)
    assert state.run("wait", "Site/shop", "--revision", NEW.upper(), *SOON).code == 0
    assert state.run("wait", "Site/shop", "--revision", OLD, *SOON).code == 0, (
        "a newer revision holds the older one"
    )


def test_what_a_revision_does_not_change_has_it_once_it_is_applied(state: Recorded) -> None:
    with state.store() as store:
        store.write(lambda tx: accept(tx, NEW, "applying"))
    assert state.run("wait", "--all", "--revision", NEW, *SOON).code == 7
    with state.store() as store:
        store.write(lambda tx: revisions.set_status(tx, NEW, "applied"))
    assert state.run("wait", "--all", "--revision", NEW, *SOON).code == 0
    with state.store() as store:
        store.write(lambda tx: revisions.set_status(tx, NEW, "superseded"))
        store.write(lambda tx: accept(tx, NEWER, "applied"))
    assert state.run("wait", "--all", "--revision", NEW, *SOON).code == 0


def test_drift_is_judged_of_what_is_applied(state: Recorded) -> None:
    assert state.run("wait", "--for", "Drifted=False", "Site/shop", "--revision", OLD, *SOON).code == 0
    assert state.run("wait", "--for", "Drifted=False", "Site/shop", "--revision", NEW, *SOON).code == 7


def test_a_stall_of_an_older_revision_does_not_end_the_wait_for_a_newer_one(state: Recorded) -> None:
    state.put("Site/shop", "Stalled", "True", reason="NeedsAttention", message="old", revision=OLD)
    with state.store() as store:
        store.write(lambda tx: accept(tx, NEW, "applying"))
    assert state.run("wait", "Site/shop", "--revision", NEW, *SOON).code == 7
    state.put("Site/shop", "Stalled", "True", reason="NeedsAttention", message="new", revision=NEW)
    assert state.run("wait", "Site/shop", "--revision", NEW, *SOON).code == 1


def test_a_quarantined_revision_ends_the_wait(state: Recorded) -> None:
    with state.store() as store:
        store.write(lambda tx: accept(tx, NEW, "quarantined"))
    told = state.run("wait", "Site/shop", "--revision", NEW, "--timeout", "1m")
    assert told.code == 1
    assert f"revision {NEW[:7]} is quarantined" in told.err


def test_a_time_out_tells_what_holds_the_fleet_up(state: Recorded) -> None:
    state.put("Fleet/main", "SourceReady", "False", reason="Rewritten", message="the branch was rewritten")
    told = state.run("wait", "Site/shop", "--revision", NEW, *SOON)
    assert told.code == 7
    assert "Fleet/main: SourceReady=False (Rewritten: the branch was rewritten)\n" in told.err


def test_a_whole_fleet_can_be_awaited(state: Recorded) -> None:
    state.put("Fleet/main", "Ready", "True", revision=OLD)
    assert state.run("wait", "fleet/main", "--revision", OLD).code == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "or give --all"),
        (("--all", "Site/shop"), 2, "or give --all"),
        (("shop",), 1, "KIND/NAME"),
        (("Sitte/shop",), 1, "did you mean 'Site'?"),
        (("Site/",), 1, "KIND/NAME"),
        (("Site/shop", "--for", "Redy"), 1, "did you mean 'Ready'?"),
        (("Site/shop", "--for", "Ready=Yes"), 1, "True, False or Unknown"),
        (("Site/shop", "--for", ""), 1, "conditions: Ready"),
        (("Site/shop", "--timeout", "5"), 2, "1h30m"),
        (("Site/shop", "--revision", "main"), 1, "git rev-parse"),
    ],
)
def test_mistakes_are_met_with_what_to_write(
    state: Recorded, words: tuple[str, ...], code: int, said: str
) -> None:
    told = state.run("wait", *words)
    assert told.code == code
    assert said in told.err
