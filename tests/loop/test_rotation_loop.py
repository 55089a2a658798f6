"""The daemon brings a new password to the node and to the site's `.env`, whenever it is killed, and loses neither password."""

from __future__ import annotations

import hashlib
from collections import Counter

from reconciler.app import rotating
from reconciler.kit.secret import Secret
from reconciler.store import Tx
from reconciler.store.queries import databases
from reconciler.testing import builders
from tests.loop.machine.stage import Program, Stage, play, sampled

FILES = builders.fleet_files(1, 1, databases=1)
NAME = "db1-1"


def both(tx: Tx) -> tuple[Secret, Secret | None]:
    row = databases.get(tx, NAME)
    assert row is not None
    return databases.password_of(tx, row.id), databases.pending_of(tx, row.id)


def on_node(stage: Stage) -> tuple[str, str]:
    """Digests of what the node has: the password of the user, and the site's `.env`."""
    things = stage.node("web1").things
    (user,) = [thing for key, thing in things.items() if key.startswith("mariadb_user:")]
    (env,) = [thing for key, thing in things.items() if key.startswith("file:") and key.endswith("/.env")]
    return str(user["password"]), str(env["sha256"])


def digest(password: Secret) -> str:
    return hashlib.sha256(password.reveal().encode()).hexdigest()


async def _in_order(stage: Stage) -> tuple[Program, str, Secret]:
    program = stage.start()
    commit = stage.push()
    await stage.comes_right(commit)
    old, pending = await stage.store.aread(both)
    assert pending is None
    assert on_node(stage)[0] == digest(old)
    return program, commit, old


async def _arrived(stage: Stage, commit: str, old: Secret, env: str) -> None:
    async def done() -> bool:
        return (await stage.store.aread(both))[1] is None

    await stage.until(done, 900)
    await stage.comes_right(commit)
    new, _ = await stage.store.aread(both)
    assert new != old
    assert on_node(stage)[0] == digest(new)
    assert on_node(stage)[1] != env


def test_a_daemon_that_runs_does_what_an_operator_asks_for() -> None:
    async def scene(stage: Stage) -> None:
        _, commit, old = await _in_order(stage)
        env = on_node(stage)[1]
        begun = await stage.store.awrite(lambda tx: rotating.begin(tx, NAME, "ada"))
        assert (begun.database, begun.site, begun.began) == ("Database/db1-1", "Site/site1-1", True)
        answer = await stage.ask("reconcile", begun.database)
        assert answer.outcome == "done"
        await _arrived(stage, commit, old, env)
        ran = Counter(one.kind for one in await stage.deployments() if one.status == "success")
        assert (ran["Database"], ran["Site"], ran["Server"]) == (2, 2, 1), "nothing else was touched"

    play(FILES, scene)


def test_while_the_node_does_not_answer_both_passwords_are_kept() -> None:
    async def scene(stage: Stage) -> None:
        _, commit, old = await _in_order(stage)
        env = on_node(stage)[1]
        stage.node("web1").down = True
        await stage.store.awrite(lambda tx: rotating.begin(tx, NAME, "ada"))
        await stage.ask("reconcile", f"Database/{NAME}")
        await stage.until_says("Server", "web1", "Reachable", "False", 900)
        now, pending = await stage.store.aread(both)
        assert now == old
        assert pending is not None
        again = await stage.store.awrite(lambda tx: rotating.begin(tx, NAME, "ada"))
        assert not again.began
        assert await stage.store.aread(both) == (now, pending)
        stage.node("web1").down = False
        await _arrived(stage, commit, old, env)
        assert (await stage.store.aread(both))[0] == pending

    play(FILES, scene)


def _points() -> int:
    """How many writes a daemon does from its start until the new password is confirmed."""
    found: list[int] = []

    async def scene(stage: Stage) -> None:
        first, commit, old = await _in_order(stage)
        env = on_node(stage)[1]
        await first.kill()
        await stage.store.awrite(lambda tx: rotating.begin(tx, NAME, "ada"))
        second = stage.start()
        await _arrived(stage, commit, old, env)
        found.append(len(second.points.seen))

    play(FILES, scene)
    return found[0]


def test_a_daemon_that_is_killed_at_any_write_leaves_it_to_the_next_one() -> None:
    for number in sampled(_points(), 12):

        async def scene(stage: Stage, number: int = number) -> None:
            first, commit, old = await _in_order(stage)
            env = on_node(stage)[1]
            await first.kill()
            await stage.store.awrite(lambda tx: rotating.begin(tx, NAME, "ada"))
            second = stage.start(dies_at=number)
            await second.killed()
            now, pending = await stage.store.aread(both)
            had = on_node(stage)[0]
            assert had in {digest(one) for one in (now, pending) if one is not None}, (
                "what the node has is known"
            )
            await second.kill()
            stage.start()
            await _arrived(stage, commit, old, env)

        play(FILES, scene)
