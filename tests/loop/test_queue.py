"""The queue: each key once, nothing lost, limits, turns between groups, delays by the loop's time."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from reconciler.loop.queue import MAX_REASONS, Item, QueueClosed, WorkQueue

T = TypeVar("T")
KEYS = tuple("abcdef")
GROUPS = ("", "red", "blue")


class HandLoop(asyncio.SelectorEventLoop):
    """An event loop whose time moves only by hand."""

    now = 1000.0

    def time(self) -> float:
        return self.now

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.run_until_complete(work)

    def settle(self) -> None:
        """Run until nothing is left to do at this time."""

        async def turns() -> None:
            for _ in range(60):
                await asyncio.sleep(0)

        self.run(turns())

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.settle()

    def do(self, action: Callable[[], T]) -> T:
        """Call `action` inside of the loop."""

        async def call() -> T:
            return action()

        return self.run(call())


@pytest.fixture
def loop() -> Any:
    loop = HandLoop()
    yield loop
    loop.close()


def take_all(loop: HandLoop, queue: WorkQueue) -> list[str]:
    """What can be taken now, done with at once."""

    async def drain() -> list[str]:
        keys: list[str] = []
        while (item := await take_now(queue)) is not None:
            keys.append(item.key)
            queue.done(item.key)
        return keys

    return loop.run(drain())


async def take_now(queue: WorkQueue) -> Item | None:
    """The next item, or None when there is none to take at this time."""
    taker = asyncio.ensure_future(queue.take())
    for _ in range(5):
        await asyncio.sleep(0)
    if not taker.done():
        taker.cancel()
        await asyncio.gather(taker, return_exceptions=True)
        return None
    return taker.result()


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


@dataclass
class Wish:
    """A waiting key in the model."""

    group: str
    reasons: list[str]
    since: float
    due: float
    order: int  # of the call that set `due`
    lined_up: int | None = None  # its place in the line of its group


class QueueMachine(RuleBasedStateMachine):
    """The queue beside a model that looks at everything anew after each step."""

    limit = 3
    per_group = 2

    def __init__(self) -> None:
        super().__init__()
        self.loop = HandLoop()
        self.queue = WorkQueue(limit=self.limit, per_group=self.per_group)
        self.wishes: dict[str, Wish] = {}
        self.running: dict[str, str] = {}
        self.takers: list[asyncio.Task[None]] = []
        self.passed: dict[str, Counter[str]] = {group: Counter() for group in GROUPS}
        self.count = 0

    def teardown(self) -> None:
        try:
            self.check_that_all_comes_out()
        finally:
            for taker in self.takers:
                taker.cancel()
            self.loop.settle()
            self.loop.close()

    def check_that_all_comes_out(self) -> None:
        """What still waits comes out in the end, once: nothing that was added is lost."""
        self.loop.now += 10_000
        for _ in range(2 * len(KEYS)):
            for key in list(self.running):
                self._done(key)
            if len(self.takers) < len(KEYS):
                self._new_taker()
            self.loop.settle()
            self.no_task_failed()
        assert (self.wishes, self.running) == ({}, {})

    def _line_up(self) -> None:
        ripe = sorted(
            (wish.due, wish.order, key)
            for key, wish in self.wishes.items()
            if wish.lined_up is None and wish.due <= self.loop.now and key not in self.running
        )
        for _, _, key in ripe:
            self.count += 1
            self.wishes[key].lined_up = self.count

    def _line(self, group: str) -> list[str]:
        return sorted(
            (key for key, wish in self.wishes.items() if wish.group == group and wish.lined_up is not None),
            key=lambda key: self.wishes[key].lined_up or 0,
        )

    def _may_start(self) -> set[str]:
        if len(self.running) >= self.limit:
            return set()
        busy = Counter(self.running.values())
        return {group for group in GROUPS if self._line(group) and busy[group] < self.per_group}

    async def _take(self) -> None:
        item = await self.queue.take()
        self._line_up()
        ready = self._may_start()
        assert item.key not in self.running
        assert item.group in ready
        assert item.key == self._line(item.group)[0]
        wish = self.wishes.pop(item.key)
        assert item == Item(item.key, wish.group, tuple(wish.reasons), wish.since, wish.due)
        self.running[item.key] = item.group
        self.passed[item.group].clear()
        for group in ready - {item.group}:
            self.passed[group][item.group] += 1
            assert self.passed[group][item.group] <= 1, f"{item.group!r} went twice before {group!r}"
        self._forget_turns()

    def _forget_turns(self) -> None:
        """A group without a key in line has no claim to a turn."""
        for group in GROUPS:
            if not self._line(group):
                self.passed[group].clear()

    def _new_taker(self) -> None:
        self.takers.append(self.loop.create_task(self._take()))

    def _done(self, key: str) -> None:
        def act() -> None:  # a taker that was woken before goes before this
            self._line_up()
            del self.running[key]
            self.queue.done(key)
            self._line_up()

        self.loop.do(act)

    def _add(self, key: str, group: str, reason: str, after: float) -> None:
        self._line_up()
        now = self.loop.now
        self.count += 1
        wish = self.wishes.get(key)
        if wish is None:
            self.wishes[key] = Wish(group, [reason], now, now + after, self.count)
        else:
            if wish.group != group:
                wish.group = group
                wish.lined_up = None if wish.lined_up is None else self.count
                self._forget_turns()
            if reason not in wish.reasons:
                wish.reasons.append(reason)
            if now + after < wish.due:
                wish.due, wish.order = now + after, self.count
        self._line_up()
        self.queue.add(key, reason, group=group, after=after)

    @rule(
        key=st.sampled_from(KEYS),
        group=st.sampled_from(GROUPS),
        reason=st.sampled_from(("push", "poll", "drift")),
        after=st.sampled_from((0.0, 0.0, 0.0, 1.0, 5.0, 30.0)),
    )
    def add(self, key: str, group: str, reason: str, after: float) -> None:
        self.loop.do(lambda: self._add(key, group, reason, after))
        self.loop.settle()

    @precondition(lambda self: len(self.takers) < 6)
    @rule()
    def ask_for_work(self) -> None:
        self._new_taker()
        self.loop.settle()

    @precondition(lambda self: self.takers)
    @rule(number=st.integers(0, 5))
    def cancel_a_taker(self, number: int) -> None:
        self.takers[number % len(self.takers)].cancel()
        self.loop.settle()

    @precondition(lambda self: self.takers)
    @rule(data=st.data(), key=st.sampled_from(KEYS), settle_first=st.booleans())
    def cancel_takers_at_the_moment_of_an_add(
        self, data: st.DataObject, key: str, settle_first: bool
    ) -> None:
        doomed = data.draw(st.lists(st.sampled_from(self.takers), unique_by=id))

        def act() -> None:
            if settle_first:
                self._add(key, "", "push", 0)
            for taker in doomed:
                taker.cancel()
            if not settle_first:
                self._add(key, "", "push", 0)

        self.loop.do(act)
        self.loop.settle()

    @precondition(lambda self: self.running)
    @rule(number=st.integers(0, 2))
    def finish(self, number: int) -> None:
        self._done(sorted(self.running)[number % len(self.running)])
        self.loop.settle()

    @rule(key=st.sampled_from(KEYS))
    def forget(self, key: str) -> None:
        self._line_up()
        self.wishes.pop(key, None)
        self._forget_turns()
        self.loop.do(lambda: self.queue.forget(key))
        self.loop.settle()

    @rule(seconds=st.sampled_from((0.5, 1.0, 4.0, 29.0)))
    def wait(self, seconds: float) -> None:
        self.loop.advance(seconds)
        self._line_up()

    @invariant()
    def no_task_failed(self) -> None:
        for taker in [taker for taker in self.takers if taker.done()]:
            self.takers.remove(taker)
            if not taker.cancelled():
                taker.result()

    @invariant()
    def nothing_that_could_start_is_left_while_somebody_waits(self) -> None:
        self._line_up()
        assert not (self.takers and self._may_start())

    @invariant()
    def the_figures_agree(self) -> None:
        assert self.queue.depth == len(self.wishes)
        assert self.queue.running == self.running.keys()
        assert len(self.running) <= self.limit
        assert max(Counter(self.running.values()).values(), default=0) <= self.per_group


QueueMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestQueueAgainstItsModel = QueueMachine.TestCase
