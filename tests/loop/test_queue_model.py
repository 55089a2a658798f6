"""The queue beside a model of it, through random histories."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from reconciler.loop.queue import Item, WorkQueue
from tests.loop.hand_loop import HandLoop

KEYS = tuple("abcdef")
GROUPS = ("", "red", "blue")


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
