"""The daemon ends, in order or by kill -9, at every point and at any moment: the next one settles what is left."""

from __future__ import annotations

import random
import signal
import time

from .gate import gate
from .stage import Stage

SEED = 20_261_122
KILLS = 10


def test_a_daemon_killed_at_any_of_its_writes_loses_nothing(stage: Stage) -> None:
    """From the first write of a start over a converge to the last of the end; the next one goes on from what one leaves."""
    pushes = stage.prepare("shop", [f"{100 + number}M" for number in range(200)])
    for point, commit in enumerate(pushes):
        stage.move_to(commit)
        daemon = stage.serve_warm(kill_at=point)
        stage.wait_for_end_or_newest()
        daemon.terminate()
        code = daemon.wait(10)
        if code == 0:
            break
        assert code == -signal.SIGKILL, stage.told()
    assert code == 0, "no start gets to its end"
    stage.fleet.git("reset", "-q", "--hard", commit)
    stage.limits["shop"] = f"{100 + point}M"
    assert point > 30, "a converge has more writes than that"


def test_a_daemon_killed_at_random_moments_under_load_loses_nothing(stage: Stage) -> None:
    chance = random.Random(SEED)
    number = 0
    for _ in range(KILLS):
        stage.serve_warm()
        end = time.monotonic() + chance.uniform(0.3, 2.0)
        while time.monotonic() < end:
            number += 1
            stage.push(f"Push number {number}", shop=f"{300 + number}M")
            time.sleep(chance.uniform(0.05, 0.6))
        stage.kill()
    stage.serve()
    stage.reach()
    stage.stop()


def test_an_apply_that_outlasts_the_daemon_goes_on_and_is_settled_by_the_next(stage: Stage) -> None:
    with gate(stage) as closed:
        stage.serve()
        commit = stage.push(shop="201M")
        closed.wait()
        assert stage.stop(within=10) < 10
        assert stage.unfinished() == 1, "its node works on it still"
        applies = stage.applies(commit)
        closed.open()
        stage.serve_warm()
        stage.reach()
    stage.stop()
    settled = stage.deployments_of(commit)[0]
    assert settled["status"] == "success"
    assert "settled after an interruption" in str(settled["stdout"])
    assert stage.applies(commit)[: len(applies)] == applies
    assert stage.began(commit, "file:/etc/panel/fpm/shop.conf") == 1, "what the node did is not done again"


def test_an_apply_in_the_middle_is_settled_after_kill_9(stage: Stage) -> None:
    with gate(stage) as closed:
        stage.serve_warm()
        commit = stage.push(shop="202M")
        closed.wait()
        stage.kill()
        before = stage.sessions("web1")
        stage.serve_warm()
        stage.wait(lambda: stage.sessions("web1") - before)
        closed.open()
        stage.reach()
    stage.stop()
    assert stage.deployments_of(commit)[0]["status"] == "success"
    assert stage.began(commit, "file:/etc/panel/fpm/shop.conf") == 1


def test_of_two_daemons_the_second_waits_and_takes_over_from_a_killed_one_at_once(stage: Stage) -> None:
    first = stage.serve()
    stage.push(shop="203M")
    stage.reach()
    mark = stage.mark()
    second = stage.serve_warm()
    stage.until_logs("the daemon works on", mark)
    stage.push(shop="204M")
    stage.reach()
    assert f"pid={second.pid}" not in stage.logged(mark), "it has not begun"
    killed = time.monotonic()
    first.kill()
    assert first.wait(10) == -signal.SIGKILL
    stage.until_logs(f"pid={second.pid}", mark, seconds=30)
    # a lease runs out after 30 s; a dead process's need not
    assert time.monotonic() - killed < 25
    stage.push(shop="205M")
    stage.reach()
    stage.stop()


def test_of_a_hundred_pushes_the_newest_is_reached_without_applying_each(stage: Stage) -> None:
    pushes = stage.prepare("shop", [f"{400 + number}M" for number in range(100)])
    stage.serve_warm()
    stage.reach()
    begun = time.monotonic()
    for commit in pushes:
        stage.move_to(commit)
        time.sleep(max(0.0, begun + 0.1 * (pushes.index(commit) + 1) - time.monotonic()))
    assert time.monotonic() - begun < 60, "that was no hundred pushes in a minute"
    stage.reach()
    stage.stop()
    applied = {str(row["commit_hash"]) for row in stage.deployments_of() if row["commit_hash"] in pushes}
    assert pushes[-1] in applied
    assert len(applied) <= len(pushes) // 2, "the ones in between are passed over"
