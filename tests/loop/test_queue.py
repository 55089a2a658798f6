"""The queue: each key once, nothing lost, limits, turns between groups, delays by the loop's time."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from typing import Any

import pytest

from reconciler.loop.queue import MAX_REASONS, Item, QueueClosed, WorkQueue
from tests.loop.hand_loop import HandLoop, take_all, take_now


@pytest.fixture
def loop() -> Any:
    loop = HandLoop()
    yield loop
    loop.close()


async def test_a_worker_takes_what_was_added_and_why() -> None:
    queue = WorkQueue(limit=2)
    queue.add("web1", "push", group="main")
    queue.add("web1", "poll", group="main")
    queue.add("web1", "push", group="main")
    assert queue.depth == 1
    item = await queue.take()
    assert (item.key, item.group, item.reasons) == ("web1", "main", ("push", "poll"))
    assert item.since <= item.due <= asyncio.get_running_loop().time()
    assert (queue.depth, queue.running) == (0, frozenset({"web1"}))
    queue.done("web1")
    assert queue.running == frozenset()


async def test_a_take_waits_for_an_add() -> None:
    queue = WorkQueue(limit=1)
    taker = asyncio.create_task(queue.take())
    await asyncio.sleep(0)
    assert not taker.done()
    queue.add("web1", "push")
    assert (await asyncio.wait_for(taker, 5)).key == "web1"


async def test_a_key_added_while_it_runs_is_handed_out_again_after_done() -> None:
    queue = WorkQueue(limit=4)
    queue.add("web1", "push")
    await queue.take()
    queue.add("web1", "webhook")
    assert await take_now(queue) is None
    assert queue.depth == 1
    queue.done("web1")
    again = await take_now(queue)
    assert again is not None
    assert again.reasons == ("webhook",)


async def test_a_delayed_key_comes_by_the_real_loops_time() -> None:
    queue = WorkQueue(limit=1)
    loop = asyncio.get_running_loop()
    queue.add("web1", "retry", after=0.02)
    item = await asyncio.wait_for(queue.take(), 5)
    assert loop.time() >= item.due == pytest.approx(item.since + 0.02)


def test_a_delay_counts_by_the_loops_time(loop: HandLoop) -> None:
    queue = WorkQueue(limit=1)
    loop.do(lambda: queue.add("web1", "retry", after=30))
    loop.advance(29.5)
    assert take_all(loop, queue) == []
    loop.advance(0.5)
    assert take_all(loop, queue) == ["web1"]


def test_a_waiting_take_wakes_when_the_delay_ends(loop: HandLoop) -> None:
    queue = WorkQueue(limit=1)
    loop.do(lambda: queue.add("web1", "retry", after=30))
    taker = loop.create_task(queue.take())
    loop.advance(29)
    assert not taker.done()
    loop.advance(1)
    assert taker.result() == Item("web1", "", ("retry",), 1000, 1030)


def test_the_earlier_time_wins_in_either_order(loop: HandLoop) -> None:
    queue = WorkQueue(limit=2)
    for key, first, second in (("a", 60, 10), ("b", 10, 60)):
        loop.do(lambda key=key, first=first: queue.add(key, "retry", after=first))  # type: ignore[misc]
        loop.do(lambda key=key, second=second: queue.add(key, "push", after=second))  # type: ignore[misc]
    loop.advance(10)
    assert take_all(loop, queue) == ["a", "b"]
    loop.advance(60)
    assert take_all(loop, queue) == []


def test_keys_come_in_the_order_of_their_times_not_of_their_adds(loop: HandLoop) -> None:
    queue = WorkQueue(limit=1)

    def add() -> None:
        queue.add("late", "retry", after=20)
        queue.add("early", "retry", after=10)

    loop.do(add)
    loop.now += 25
    loop.do(lambda: queue.add("now", "push"))
    assert take_all(loop, queue) == ["early", "late", "now"]


def test_a_delay_that_ends_while_the_key_runs_does_not_start_it_twice(loop: HandLoop) -> None:
    queue = WorkQueue(limit=2)
    loop.do(lambda: queue.add("web1", "push"))
    loop.run(queue.take())
    loop.do(lambda: queue.add("web1", "drift", after=5))
    taker = loop.create_task(queue.take())
    loop.advance(50)
    assert not taker.done()
    loop.do(lambda: queue.done("web1"))
    loop.settle()
    assert taker.result().reasons == ("drift",)


def test_a_key_that_ran_queues_behind_those_whose_time_came_meanwhile(loop: HandLoop) -> None:
    queue = WorkQueue(limit=1)
    loop.do(lambda: queue.add("web1", "push"))
    loop.run(queue.take())
    loop.do(lambda: queue.add("web1", "poll"))
    loop.do(lambda: queue.add("web2", "retry", after=10))
    loop.now += 10

    async def finish_and_take() -> list[str]:
        queue.done("web1")  # before the loop's timer for web2 could run
        first = await queue.take()
        queue.done(first.key)
        return [first.key, (await queue.take()).key]

    assert loop.run(finish_and_take()) == ["web2", "web1"]


def test_a_delay_outlasts_the_work_it_was_asked_during(loop: HandLoop) -> None:
    queue = WorkQueue(limit=2)
    loop.do(lambda: queue.add("web1", "push"))
    loop.run(queue.take())
    loop.do(lambda: queue.add("web1", "retry", after=40))
    loop.do(lambda: queue.done("web1"))
    loop.advance(39)
    assert take_all(loop, queue) == []
    loop.advance(1)
    assert take_all(loop, queue) == ["web1"]


async def test_the_limit_for_all_holds_until_one_is_done() -> None:
    queue = WorkQueue(limit=2)
    for key in "abc":
        queue.add(key, "push")
    assert [(await queue.take()).key, (await queue.take()).key] == ["a", "b"]
    assert await take_now(queue) is None
    queue.done("b")
    assert (await queue.take()).key == "c"


async def test_a_full_group_does_not_hold_up_another() -> None:
    queue = WorkQueue(limit=8, per_group=1)
    queue.add("a1", "push", group="a")
    queue.add("a2", "push", group="a")
    queue.add("b1", "push", group="b")
    assert [(await queue.take()).key, (await queue.take()).key] == ["a1", "b1"]
    assert await take_now(queue) is None
    queue.done("a1")
    assert (await queue.take()).key == "a2"


async def test_a_key_that_changes_its_group_is_handed_out_once_and_for_the_new_one() -> None:
    queue = WorkQueue(limit=8)
    queue.add("web1", "push", group="old")
    queue.add("web1", "poll", group="new")
    queue.add("web2", "push", group="old")
    items = [await queue.take(), await queue.take()]
    assert [(item.key, item.group) for item in items] == [("web1", "new"), ("web2", "old")]
    assert await take_now(queue) is None
    assert queue.depth == 0


async def test_a_large_group_takes_turns_with_a_small_one() -> None:
    queue = WorkQueue(limit=1)
    for number in range(100):
        queue.add(f"big{number}", "push", group="big")
    for number in range(3):
        queue.add(f"small{number}", "push", group="small")
    order = []
    for _ in range(7):
        item = await queue.take()
        order.append(item.key)
        queue.done(item.key)
    assert order == ["big0", "small0", "big1", "small1", "big2", "small2", "big3"]


async def test_a_cancelled_take_passes_its_key_on() -> None:
    queue = WorkQueue(limit=4)
    first, second = asyncio.create_task(queue.take()), asyncio.create_task(queue.take())
    await asyncio.sleep(0)
    queue.add("web1", "push")  # wakes the first one
    first.cancel()  # before it could run
    assert (await asyncio.wait_for(second, 5)).key == "web1"
    assert first.cancelled()
    assert queue.running == {"web1"}


async def test_a_take_that_times_out_loses_nothing() -> None:
    queue = WorkQueue(limit=1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await queue.take()
    queue.add("web1", "push")
    assert (await queue.take()).key == "web1"


async def test_a_forgotten_key_is_not_handed_out() -> None:
    queue = WorkQueue(limit=1)
    queue.add("gone", "push")
    queue.add("later", "retry", after=3600)
    queue.forget("gone")
    queue.forget("later")
    queue.forget("unknown")
    assert queue.depth == 0
    assert await take_now(queue) is None


async def test_forgetting_a_running_key_drops_only_what_was_to_follow() -> None:
    queue = WorkQueue(limit=1)
    queue.add("web1", "push")
    await queue.take()
    queue.add("web1", "poll")
    queue.forget("web1")
    assert queue.running == {"web1"}
    queue.done("web1")
    assert await take_now(queue) is None


async def test_closing_ends_every_take_and_lets_running_work_end() -> None:
    queue = WorkQueue(limit=1)
    queue.add("web1", "push")
    await queue.take()
    takers = [asyncio.create_task(queue.take()) for _ in range(3)]
    await asyncio.sleep(0)
    queue.add("web2", "push", after=0.01)
    queue.close()
    results = await asyncio.wait_for(asyncio.gather(*takers, return_exceptions=True), 5)
    assert [type(result) for result in results] == [QueueClosed] * 3
    queue.done("web1")
    assert queue.running == frozenset()
    queue.add("web3", "push")
    assert queue.depth == 1  # web2, which nobody will take
    with pytest.raises(QueueClosed):
        await queue.take()
    queue.close()


async def test_done_for_a_key_nobody_has_is_a_mistake() -> None:
    queue = WorkQueue(limit=1)
    queue.add("web1", "push")
    with pytest.raises(ValueError, match="web1 is not being worked on"):
        queue.done("web1")
    await queue.take()
    queue.done("web1")
    with pytest.raises(ValueError, match="web1 is not being worked on"):
        queue.done("web1")


@pytest.mark.parametrize("after", [-1.0, math.inf, math.nan])
async def test_a_delay_that_never_ends_is_refused(after: float) -> None:
    queue = WorkQueue(limit=1)
    with pytest.raises(ValueError, match="web1: cannot wait"):
        queue.add("web1", "push", after=after)
    assert queue.depth == 0


@pytest.mark.parametrize(("limit", "per_group"), [(0, None), (1, 0)])
def test_a_limit_of_nothing_is_refused(limit: int, per_group: int | None) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        WorkQueue(limit=limit, per_group=per_group)


async def test_reasons_are_bounded() -> None:
    queue = WorkQueue(limit=1)
    for number in range(1000):
        queue.add("web1", f"push {number}")
    reasons = (await queue.take()).reasons
    assert len(reasons) == MAX_REASONS
    assert reasons[0] == "push 0"


async def test_keys_that_are_forgotten_before_their_time_leave_nothing_behind() -> None:
    queue = WorkQueue(limit=1)
    for _ in range(5000):
        queue.add("web1", "retry", after=3600)
        queue.forget("web1")
    assert len(queue._delayed) < 100


async def test_workers_of_a_busy_queue_handle_every_request() -> None:
    """Five hundred servers, sixteen workers, triggers during the work: the last trigger of each is seen."""
    queue = WorkQueue(limit=16, per_group=12)
    asked: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    at_work: set[str] = set()

    def ask(number: int) -> None:
        key = f"web{number}"
        asked[key] += 1
        queue.add(key, f"push {asked[key]}", group=f"fleet{number % 3}")

    async def worker() -> None:
        while True:
            try:
                item = await queue.take()
            except QueueClosed:
                return
            assert item.key not in at_work
            at_work.add(item.key)
            assert len(at_work) <= 16
            current = asked[item.key]
            await asyncio.sleep(0)
            at_work.remove(item.key)
            seen[item.key] = current
            queue.done(item.key)

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for _ in range(16):
            group.create_task(worker())
        for turn in range(3):
            for number in range(500):
                ask(number)
                if number % 7 == turn:
                    await asyncio.sleep(0)
        while queue.depth or queue.running:
            await asyncio.sleep(0)
        queue.close()
    assert seen == asked
