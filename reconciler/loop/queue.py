"""The queue of servers to look at: each key once, one worker a key, fair between groups, with delays.

A trigger says only "look again": triggers for a key that waits are folded into one item, and one that comes while the
key is being worked on makes it wait again, to be handed out after `done`. Delays count by the event loop's time. All
of it belongs to one event loop and is not safe to call from other threads.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from collections import Counter, OrderedDict, deque
from contextlib import suppress
from dataclasses import dataclass

MAX_REASONS = 32
"""Distinct reasons kept for one item; a key that waits for hours is not to collect without bound."""
_SLACK = 64
"""Void entries among the delayed that are not worth a clean-up."""


class QueueClosed(Exception):
    """The queue was closed: there is nothing more to take. Workers end on it; it is no fault."""


@dataclass(frozen=True)
class Item:
    """One key to work on; whoever took it calls `WorkQueue.done(key)` at the end, whatever happened."""

    key: str
    group: str
    reasons: tuple[str, ...]
    """Why, without repetition, in the order in which they came."""
    since: float
    """The loop's time at which the first of the reasons came."""
    due: float
    """The loop's time from which the key could have been handed out; `since` plus the delay, if any."""


@dataclass(slots=True)
class _Waiting:
    group: str
    since: float
    reasons: list[str]
    due: float = math.inf
    ticket: int = -1  # of its entry among the delayed; entries with other tickets are void
    ripe: bool = False  # its time has come; it stands in line unless its key is being worked on


class WorkQueue:
    """Keys waiting to be worked on.

    At most `limit` keys are worked on at one time, and at most `per_group` of one group. Within a group the key that
    became due first comes first. Groups take turns: while a group has a key that may start, every other group starts
    at most one before it.
    """

    def __init__(self, *, limit: int, per_group: int | None = None) -> None:
        if limit < 1 or (per_group is not None and per_group < 1):
            raise ValueError("the limits of a queue are at least 1")
        self._limit = limit
        self._per_group = limit if per_group is None else per_group
        self._waiting: dict[str, _Waiting] = {}
        self._delayed: list[tuple[float, int, str]] = []  # a heap: due, ticket, key
        self._tickets = itertools.count()
        # Groups with keys in line, the one whose turn it is first; an ordered dictionary gives its first in O(1).
        self._lines: OrderedDict[str, OrderedDict[str, None]] = OrderedDict()
        self._running: dict[str, str] = {}  # key: the group it was taken from
        self._busy: Counter[str] = Counter()
        self._takers: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def depth(self) -> int:
        """How many keys wait, delayed ones and those that wait for their own worker included."""
        return len(self._waiting)

    @property
    def running(self) -> frozenset[str]:
        """The keys that were taken and are not done."""
        return frozenset(self._running)

    def add(self, key: str, reason: str, *, group: str = "", after: float = 0.0) -> None:
        """Ask for `key` to be worked on, in `after` seconds at the earliest.

        For a key that waits already the reason is collected and the earlier of the two times counts; the group of the
        latest call counts. After `close` nothing happens. Raises ValueError for a delay that is negative or endless.
        """
        if not (math.isfinite(after) and after >= 0):
            raise ValueError(f"{key}: cannot wait for {after} seconds")
        if self._closed:
            return
        now = asyncio.get_running_loop().time()
        self._ripen(now)  # what became due before this call stands before it in the line
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = self._waiting[key] = _Waiting(group, now, [])
        elif waiting.group != group:
            self._leave_line(key, waiting)
            waiting.group = group
            self._line_up(key, waiting)
        if reason not in waiting.reasons and len(waiting.reasons) < MAX_REASONS:
            waiting.reasons.append(reason)
        if now + after < waiting.due:
            waiting.due = now + after
            waiting.ticket = next(self._tickets)
            heapq.heappush(self._delayed, (waiting.due, waiting.ticket, key))
        self._wake(now)

    async def take(self) -> Item:
        """Wait for the next key that may start, and start it.

        Cancelling the call loses nothing: a key is handed out with no wait after it. For a time limit use
        `asyncio.timeout` around it. Raises QueueClosed once the queue is closed.
        """
        loop = asyncio.get_running_loop()
        while True:
            if self._closed:
                raise QueueClosed
            now = loop.time()
            self._ripen(now)
            group = self._turn()
            if group is not None:
                item = self._start(group)
                self._wake(now)  # the next taker, when more may start
                return item
            self._arm(loop)
            taker: asyncio.Future[None] = loop.create_future()
            self._takers.append(taker)
            try:
                await taker
            except BaseException:
                with suppress(ValueError):
                    self._takers.remove(taker)
                if taker.done() and not taker.cancelled():
                    # Woken and cancelled in one turn of the loop: somebody else has to take what it was woken for.
                    self._wake(loop.time())
                raise

    def done(self, key: str) -> None:
        """The work on `key` ended; if it was asked for again meanwhile, it goes to the end of its group's line.

        Raises ValueError when nobody works on the key.
        """
        if key not in self._running:
            raise ValueError(f"{key} is not being worked on")
        now = asyncio.get_running_loop().time()
        self._ripen(now)
        group = self._running.pop(key)
        self._busy[group] -= 1
        if not self._busy[group]:
            del self._busy[group]
        if (waiting := self._waiting.get(key)) is not None:
            self._line_up(key, waiting)
        if not self._closed:
            self._wake(now)

    def forget(self, key: str) -> None:
        """Take a waiting key out, if it waits. Work that goes on is not touched: it ends with `done`."""
        if (waiting := self._waiting.pop(key, None)) is not None:
            self._leave_line(key, waiting)

    def close(self) -> None:
        """End every `take`, present and future, with QueueClosed. What runs may still be `done`."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._takers:
            taker = self._takers.popleft()
            if not taker.done():
                taker.set_result(None)

    def _ripen(self, now: float) -> None:
        """Let the delayed keys whose time has come stand in line, in the order of their times."""
        while self._delayed and self._delayed[0][0] <= now:
            entry = heapq.heappop(self._delayed)
            if self._valid(entry):
                waiting = self._waiting[entry[2]]
                waiting.ripe = True
                self._line_up(entry[2], waiting)

    def _line_up(self, key: str, waiting: _Waiting) -> None:
        if waiting.ripe and key not in self._running:
            self._lines.setdefault(waiting.group, OrderedDict())[key] = None

    def _leave_line(self, key: str, waiting: _Waiting) -> None:
        line = self._lines.get(waiting.group)
        if line is not None and key in line:
            del line[key]
            if not line:
                del self._lines[waiting.group]

    def _turn(self) -> str | None:
        """The group whose turn it is, or None when nothing may start."""
        if len(self._running) >= self._limit:
            return None
        return next((group for group in self._lines if self._busy[group] < self._per_group), None)

    def _start(self, group: str) -> Item:
        line = self._lines.pop(group)
        key, _ = line.popitem(last=False)
        if line:
            self._lines[group] = line  # behind the groups that wait for their turn
        waiting = self._waiting.pop(key)
        self._running[key] = group
        self._busy[group] += 1
        return Item(key, group, tuple(waiting.reasons), waiting.since, waiting.due)

    def _wake(self, now: float) -> None:
        """Wake one taker if something may start; it wakes the next one in turn."""
        self._ripen(now)
        self._arm(asyncio.get_running_loop())
        if self._turn() is None:
            return
        while self._takers:
            taker = self._takers.popleft()
            if not taker.done():
                taker.set_result(None)
                return

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        """Keep one timer, for the first delayed key."""
        due = self._first_delayed()
        if self._timer is not None:
            if self._timer.when() == due:
                return
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer = loop.call_at(due, self._on_time, loop)

    def _first_delayed(self) -> float | None:
        if len(self._delayed) > 2 * len(self._waiting) + _SLACK:
            # Keys that were forgotten or taken long before their time would pile up here.
            self._delayed = [entry for entry in self._delayed if self._valid(entry)]
            heapq.heapify(self._delayed)
        while self._delayed and not self._valid(self._delayed[0]):
            heapq.heappop(self._delayed)
        return self._delayed[0][0] if self._delayed else None

    def _valid(self, entry: tuple[float, int, str]) -> bool:
        _, ticket, key = entry
        waiting = self._waiting.get(key)
        return waiting is not None and waiting.ticket == ticket

    def _on_time(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        self._wake(loop.time())
