"""Simulated time: it jumps when nothing is left to do, and stands still while anything works outside the loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import random
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

from reconciler.secrets import Box
from reconciler.store import Store, Tx
from reconciler.store.queries import servers
from reconciler.testing.simulated import START, SimulatedClock, SimulatedLoop, Stuck, run

HOURS = 8


def now() -> float:
    return asyncio.get_running_loop().time()


def note(tx: Tx, name: str) -> None:
    servers.upsert(tx, name, servers.ServerFields(ip_address=f"{name}.test", os_version="debian_12"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "state.sqlite", Box([b"k" * 32]))


def test_eight_hours_of_timers_and_writes_pass_in_order(store: Store) -> None:
    fired: list[tuple[float, float]] = []
    writes = 0

    async def periodic(every: float) -> None:
        nonlocal writes
        due = now()
        while (due := due + every) <= HOURS * 3600:
            await asyncio.sleep(due - now())
            fired.append((due, now()))
            if len(fired) % 8 == 0:
                before = now()
                await store.awrite(lambda tx: note(tx, f"at{int(due)}"))
                writes += 1
                assert now() == before, "no time passes while the disk works"

    async def main() -> float:
        await asyncio.gather(*(periodic(random.Random(n).uniform(200, 900)) for n in range(60)))
        return now()

    ended = run(main())
    store.close()
    assert HOURS * 3600 - 900 < ended <= HOURS * 3600
    assert len(fired) > 3000
    assert writes == len(fired) // 8
    assert all(abs(at - due) < 1e-6 for due, at in fired), "a timer fired early or late"
    assert [at for _, at in fired] == sorted(at for _, at in fired)


def test_timers_fire_exactly_when_they_are_due() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        order: list[float] = []
        chance = random.Random(7)
        dues = [chance.uniform(0, 1e6) for _ in range(5000)]
        dues += [dues[0] + 1e-7, dues[0]]

        def note(due: float) -> None:
            assert loop.time() >= due
            order.append(due)

        for due in dues:
            loop.call_at(due, note, due)
        await asyncio.sleep(1e6)
        assert order == sorted(dues)

    run(main())


def test_a_timer_whose_distance_cannot_be_told_exactly_does_not_fire_early() -> None:
    pairs = [(a, b) for a, b in _random_pairs() if a + (b - a) < b]
    assert len(pairs) > 20, "floats round down sometimes"

    async def main(first: float, second: float) -> None:
        loop = asyncio.get_running_loop()
        fired = loop.create_future()
        loop.call_at(first, lambda: loop.call_at(second, lambda: fired.set_result(loop.time())))
        assert await fired == second

    for first, second in pairs:
        run(main(first, second))


def _random_pairs() -> list[tuple[float, float]]:
    chance = random.Random(1)
    return [(chance.uniform(0, 10), chance.uniform(20, 1000)) for _ in range(5000)]


@pytest.mark.parametrize("how", ["to_thread", "executor", "own executor", "wrapped"])
def test_time_stands_still_while_a_thread_works(how: str) -> None:
    other = concurrent.futures.ThreadPoolExecutor(1)

    async def work() -> None:
        loop = asyncio.get_running_loop()
        match how:
            case "to_thread":
                await asyncio.to_thread(time.sleep, 0.1)
            case "executor":
                await loop.run_in_executor(None, time.sleep, 0.1)
            case "own executor":
                await loop.run_in_executor(other, time.sleep, 0.1)
            case _:
                await asyncio.wrap_future(other.submit(time.sleep, 0.1))

    async def main() -> None:
        timer = asyncio.create_task(asyncio.sleep(1, "timer"))
        thread = asyncio.create_task(work())
        done, _ = await asyncio.wait({timer, thread}, return_when=asyncio.FIRST_COMPLETED)
        assert done == {thread}
        assert now() == 0
        assert await timer == "timer"
        assert now() == 1

    with other:
        run(main())
    assert asyncio.wrap_future.__module__ == "asyncio.futures", "asyncio is as it was before"


def test_a_cancelled_wait_for_a_thread_lets_the_time_go_on() -> None:
    held = threading.Event()
    pool = concurrent.futures.ThreadPoolExecutor(1)

    async def main() -> None:
        running = asyncio.wrap_future(pool.submit(held.wait))
        queued = asyncio.wrap_future(pool.submit(held.wait))
        await asyncio.sleep(0)
        queued.cancel()
        held.set()
        await running
        await asyncio.sleep(5)
        assert now() == 5

    with pool:
        run(main())


def test_time_stands_still_while_a_program_runs() -> None:
    async def main() -> None:
        pipe = asyncio.subprocess.PIPE
        for make in (
            asyncio.create_subprocess_exec("sh", "-c", "sleep 0.1; cat; echo end", stdin=pipe, stdout=pipe),
            asyncio.create_subprocess_shell("sleep 0.1; cat; echo end", stdin=pipe, stdout=pipe),
        ):
            at = now()
            timer = asyncio.create_task(asyncio.sleep(3))
            program = await make
            out, _ = await program.communicate(b"x" * 300_000)
            assert (len(out), program.returncode, now() - at) == (300_004, 0, 0)
            await timer
            assert now() - at == 3

    run(main())


def test_a_conversation_over_a_socket_takes_no_time() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            await asyncio.sleep(1)
            writer.write(line)
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for number in range(20):
            async with asyncio.timeout(1.5):
                writer.write(b"%d\n" % number)
                assert await reader.readline() == b"%d\n" % number
        assert now() == 20
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    run(main())


def test_a_deadlock_is_an_error_that_says_who_waits_where() -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(never(), name="the waiting one")
        await asyncio.sleep(2)
        await task

    with pytest.raises(Stuck, match="nothing is scheduled and nothing is outstanding") as caught:
        run(main())
    said = str(caught.value)
    assert "at 2 s" in said
    assert "the waiting one at " in said
    assert f"{Path(__file__).name}:" in said


def test_a_deadlock_beside_an_open_socket_is_an_error_too() -> None:
    async def main() -> None:
        async with await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0):
            await asyncio.Event().wait()

    with pytest.raises(Stuck, match="nothing is scheduled"):
        run(main(), loop=SimulatedLoop(patience=0.2))


def test_a_thread_that_never_ends_is_an_error_and_no_hang() -> None:
    held = threading.Event()

    async def main() -> None:
        waiting = asyncio.ensure_future(asyncio.to_thread(held.wait))
        asyncio.get_running_loop().call_later(1, held.set)  # it would be let go by time that cannot pass
        await waiting

    loop = SimulatedLoop(patience=0.3)
    timer = threading.Timer(1.0, held.set)
    timer.start()
    with pytest.raises(Stuck, match="1 call in a thread or program did not end"):
        run(main(), loop=loop)
    timer.join()


def test_a_wait_that_only_a_periodic_timer_keeps_alive_ends_at_the_limit() -> None:
    async def main() -> None:
        async def tick() -> None:
            while True:
                await asyncio.sleep(60)

        async with asyncio.TaskGroup() as group:
            group.create_task(tick())
            await asyncio.Event().wait()

    with pytest.raises(Stuck, match="3600 simulated seconds have passed"):
        run(main(), loop=SimulatedLoop(limit=3600))


def test_a_hold_keeps_the_time_for_what_the_loop_cannot_see() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        arrived = asyncio.Event()

        def work() -> None:
            time.sleep(0.1)
            loop.call_soon_threadsafe(arrived.set)

        raw = threading.Thread(target=work)
        timer = asyncio.create_task(asyncio.sleep(1))
        with loop.hold():
            raw.start()
            await arrived.wait()
            assert not timer.done()
        raw.join()
        await timer
        assert now() == 1

    run(main())


def test_the_wall_clock_goes_with_the_loop_and_jumps_alone() -> None:
    loop = SimulatedLoop()
    clock = SimulatedClock(loop)

    async def main() -> None:
        assert clock() == START
        await asyncio.sleep(90)
        assert clock() == START + timedelta(seconds=90)
        assert await asyncio.to_thread(clock) == clock()
        began = now()
        sleeper = asyncio.create_task(asyncio.sleep(10, "slept"))
        await asyncio.sleep(1)
        clock.jump(-3600)
        assert clock() == START + timedelta(seconds=91 - 3600)
        assert await sleeper == "slept"
        assert now() - began == 10, "timers do not follow the wall clock"
        clock.jump(7200)
        assert clock() == START + timedelta(seconds=100 + 3600)

    run(main(), loop=loop)


def test_a_store_is_told_the_simulated_time(tmp_path: Path) -> None:
    loop = SimulatedLoop()
    clock = SimulatedClock(loop)
    with Store.create(tmp_path / "state.sqlite", Box([b"k" * 32]), clock=clock) as store:

        async def main() -> None:
            seen = []
            for _ in range(3):
                await asyncio.sleep(3600)
                seen.append(await store.awrite(lambda tx: tx.now))
            assert seen == [START + timedelta(hours=hour) for hour in (1, 2, 3)]

        run(main(), loop=loop)


def test_a_cancelled_write_is_settled_before_time_passes(store: Store) -> None:
    inside = threading.Event()

    def unit(tx: Tx) -> None:
        inside.set()
        time.sleep(0.1)
        note(tx, "slow")

    async def main() -> None:
        task = asyncio.create_task(store.awrite(unit))
        await asyncio.sleep(0)
        await asyncio.to_thread(inside.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert now() == 0
        assert await store.aread(lambda tx: servers.get(tx, "slow")) is not None

    run(main())
    store.close()
