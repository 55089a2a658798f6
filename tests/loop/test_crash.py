"""The daemon is killed at its writes, one after the other; the next one settles what it left, and repeats nothing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import pytest

from reconciler.store import Tx
from reconciler.store.queries import loop_state
from reconciler.testing import builders
from tests.loop.machine.stage import Stage, play, sampled
from tests.loop.world import rollout

Steps = dict[str, Counter[str]]
FIRST_CONVERGE = builders.fleet_files(1, 1)


def _since(stage: Stage, before: Steps) -> Steps:
    """The steps done since, without the numbers of system users: none is given a second time."""
    return {
        server: _unnumbered(done - before.get(server, Counter())) for server, done in stage.done().items()
    }


def _unnumbered(done: Counter[str]) -> Counter[str]:
    found: Counter[str] = Counter()
    for key, times in done.items():
        found[re.sub(r"(user:|/home/)web\d+", r"\1webN", key)] += times
    return found


def _reference() -> tuple[list[str], Steps]:
    """The first converge of a daemon that lives: the points of its writes, and the steps done."""
    points: list[str] = []
    done: Steps = {}

    async def scene(stage: Stage) -> None:
        program = stage.start()
        await stage.comes_right(stage.push())
        points.extend(program.points.seen)
        done.update(stage.done())

    play(FIRST_CONVERGE, scene)
    return points, done


@pytest.mark.parametrize("part", range(4))
def test_a_first_converge_survives_a_kill_at_every_write(part: int) -> None:
    points, done = _reference()

    def killed_at(number: int) -> Callable[[Stage], Awaitable[None]]:
        async def scene(stage: Stage) -> None:
            first = stage.start(dies_at=number)
            commit = stage.push()
            await first.killed()
            assert first.points.seen == points[: number + 1]
            await first.kill()
            stage.start()
            await stage.comes_right(commit)
            assert stage.done() == done, f"killed {points[number]}"

        return scene

    assert len(points) > 40
    play(FIRST_CONVERGE, *(killed_at(number) for number in range(part, len(points), 4)))


@dataclass
class Act:
    """Something that happens to a fleet that is in order, again and again.

    `begin` makes it happen and gives the commit that is to be reached; `undo` prepares for the next time.
    """

    begin: Callable[[Stage, int], Awaitable[str]]
    undo: Callable[[Stage, int], Awaitable[str | None]]
    reached: Callable[[Stage], bool] = lambda stage: True
    seconds: float = 300.0
    anew: bool = False
    """An attempt that broke off is taken back and made anew under another system user, as for moves."""


async def _survived(stage: Stage, act: Act, most: int) -> None:
    """Have it happen once undisturbed, then with a daemon that is killed at one of its writes after the other."""
    program = stage.start()
    await stage.comes_right(stage.push())
    before, seen = stage.done(), len(program.points.seen)
    await _reached(stage, act, await act.begin(stage, 0))
    points, wanted = program.points.seen[seen:], _since(stage, before)
    assert any(wanted.values()), "the act changes nothing on any node"
    for number in sampled(len(points), most):
        await _prepared(stage, act, number + 1)
        before = stage.done()
        program.points.at = len(program.points.seen) + number
        commit = await act.begin(stage, number + 1)
        await program.killed()
        await program.kill()
        program = stage.start()
        await _reached(stage, act, commit)
        done = _since(stage, before)
        if act.anew:
            done = {server: Counter(dict.fromkeys(steps, 1)) for server, steps in done.items()}
        assert done == wanted, f"killed {points[number]}, number {number}"


async def _reached(stage: Stage, act: Act, commit: str) -> None:
    async def there() -> bool:
        return act.reached(stage)

    await stage.until(there, act.seconds)
    await stage.comes_right(commit, act.seconds)


async def _prepared(stage: Stage, act: Act, turn: int) -> None:
    commit = await act.undo(stage, turn)
    if commit is not None:
        await stage.comes_right(commit, act.seconds)


async def _nothing(stage: Stage, turn: int) -> str | None:
    return None


def _survives(files: dict[str, str], act: Act, most: int = 14) -> None:
    async def scene(stage: Stage) -> None:
        await _survived(stage, act, most)

    play(files, scene)


def test_an_update_survives_a_kill_at_any_write() -> None:
    async def begin(stage: Stage, turn: int) -> str:
        stage.change("Site", "site1-1", php={"maxChildren": 3 + turn})
        return stage.push()

    _survives(builders.fleet_files(2, 1), Act(begin, _nothing))


def test_a_removal_survives_a_kill_at_any_write() -> None:
    files = builders.fleet_files(1, 2)

    async def begin(stage: Stage, turn: int) -> str:
        stage.drop("Site", "site1-2")
        return stage.push()

    async def undo(stage: Stage, turn: int) -> str:
        path = builders.path_of("Site", "site1-2")
        return stage.commit({path: files[path]})

    _survives(files, Act(begin, undo))


def test_a_move_between_servers_survives_a_kill_at_any_write() -> None:
    async def begin(stage: Stage, turn: int) -> str:
        stage.change("Site", "site1-1", server="web2")
        return stage.push()

    async def undo(stage: Stage, turn: int) -> str:
        stage.change("Site", "site1-1", server="web1")
        return stage.push()

    _survives(builders.fleet_files(2, 1), Act(begin, undo, anew=True), most=18)


def test_a_repair_of_drift_survives_a_kill_at_any_write() -> None:
    files = builders.fleet_files(1, 1)
    path = builders.path_of("Site", "site1-1")
    spec = {"server": "web1", "domain": "site1-1.test", "phpVersion": "8.2"}
    files[path] = builders.manifest("Site", "site1-1", {**spec, "drift": {"mode": "heal", "every": "30s"}})

    async def begin(stage: Stage, turn: int) -> str:
        stage.spoil("web1", "file:/etc/panel/fpm/")
        return stage.source.commits[-1][0]

    def repaired(stage: Stage) -> bool:
        return any(key.startswith("file:/etc/panel/fpm/") for key in stage.node("web1").things)

    async def undo(stage: Stage, turn: int) -> None:
        """The breaker forgets."""

        def unit(tx: Tx) -> None:
            known = loop_state.get(tx, "Site", "site1-1")
            loop_state.put(tx, replace(known, heals=[], breaker_until=None, breaker_opened=0))

        await stage.store.awrite(unit)

    _survives(files, Act(begin, undo, repaired))


def test_a_rollout_with_a_soak_survives_a_kill_at_any_write() -> None:
    files = builders.fleet_files(2, 1, labels=["one", "two"])
    waves = [{"name": "first", "selector": {"group": "one"}}, {"name": "rest", "selector": {}}]
    files |= rollout(waves=waves, soak="20s")

    async def begin(stage: Stage, turn: int) -> str:
        for site in ("site1-1", "site2-1"):
            stage.change("Site", site, php={"maxChildren": 3 + turn})
        return stage.push()

    _survives(files, Act(begin, _nothing))


def test_a_quarantine_survives_a_kill_at_any_write() -> None:
    files = builders.fleet_files(1, 1) | rollout(soak="10s", healthTimeout="6s")

    async def scene(stage: Stage) -> None:
        async def faults(*given: object, **more: object) -> dict[str, str]:
            """Sites with many children are not healthy."""
            found = re.search(
                rb"pm.max_children = (\d+)", stage.node("web1").body("/etc/panel/fpm/site1-1.conf")
            )
            return {"smoke": "it is on fire"} if found and int(found[1]) >= 60 else {}

        async def good(turn: int) -> dict[str, object]:
            stage.change("Site", "site1-1", php={"maxChildren": 3 + turn % 50})
            await stage.comes_right(stage.push())
            return await stage.spec("Site", "site1-1")

        def bad(turn: int) -> str:
            stage.change("Site", "site1-1", php={"maxChildren": 60 + turn})
            return stage.push()

        async def set_aside(commit: str, wanted: dict[str, object]) -> None:
            async def there() -> bool:
                aside = await stage.status(commit) == "quarantined"
                return aside and await stage.spec("Site", "site1-1") == wanted

            await stage.until(there)
            await stage.until_says("Fleet", "main", "Stalled", "True Quarantined")
            await stage.until_says("Site", "site1-1", "Ready", "True")
            await stage.check()

        stage.faults = faults
        program = stage.start()
        wanted, seen = await good(0), len(program.points.seen)
        await set_aside(bad(0), wanted)
        count = len(program.points.seen) - seen
        for number in sampled(count, 12):
            wanted = await good(number + 1)
            program.points.at = len(program.points.seen) + number
            commit = bad(number + 1)
            await program.killed()
            await program.kill()
            program = stage.start()
            await set_aside(commit, wanted)

    play(files, scene)
