"""An event loop whose time is played: when nothing is left to do, its clock jumps to the next timer.

Hours of `asyncio.sleep` pass in milliseconds, and every run is the same. The time stands still while anything works
outside the loop: calls in threads (`asyncio.to_thread`, `run_in_executor`, futures taken over with
`asyncio.wrap_future`, as the store's), and subprocesses of asyncio. Other threads that call back are not seen; hold
the time for them with `SimulatedLoop.hold`. Sockets inside the process work; a peer in another process needs `hold`.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from reconciler.kit.text import count
from reconciler.testing import tracking

T = TypeVar("T")
START = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
"""Where a `SimulatedClock` begins unless told otherwise."""

_ASYNCIO = Path(asyncio.__file__).parent
_LOOPBACK_GRACE = 0.002
"""Real seconds in which bytes sent to ourselves arrive, before the time jumps."""


class Stuck(RuntimeError):
    """Nothing can ever happen again in a simulated loop; the text says what waits for what."""


class SimulatedLoop(asyncio.SelectorEventLoop):
    """A loop whose `time()` starts at 0 and jumps, to the exact moment of the next timer, when the loop is idle.

    Raises Stuck out of `run_until_complete` when nothing is scheduled and nothing is outstanding; when work outside
    the loop shows no sign of life for `patience` real seconds; and when more than `limit` simulated seconds have
    passed, which is how a wait that never ends looks beside a periodic timer.
    """

    def __init__(self, *, limit: float = 90 * 86400.0, patience: float = 60.0) -> None:
        self._now = 0.0
        self._limit = limit
        self._patience = patience
        self._gate = threading.Lock()
        self._threads = 0
        self._held = 0
        self._children: list[asyncio.SubprocessTransport] = []
        self._idle = _IdleSelector(self._wait)
        super().__init__(self._idle)

    def time(self) -> float:
        """Simulated seconds since the loop was made."""
        return self._now

    @property
    def outstanding(self) -> int:
        """Calls in threads, subprocesses and holds that keep the time from passing."""
        self._children = [child for child in self._children if child.get_returncode() is None]
        with self._gate:
            return self._threads + self._held + len(self._children)

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """No time passes inside the block, for work outside the loop that it cannot know of. From the loop's thread."""
        with self._gate:
            self._held += 1
        try:
            yield
        finally:
            with self._gate:
                self._held -= 1

    def track(self, future: Future[Any]) -> None:
        """No time passes until `future`, which a thread will complete, is done. Called for wrapped futures by itself."""
        with self._gate:
            self._threads += 1
        future.add_done_callback(self._landed)

    def run_forever(self) -> None:
        """As asyncio's; futures of threads that tasks wait for are noticed meanwhile."""
        with tracking.noticing():
            super().run_forever()

    async def shutdown_default_executor(self, *arguments: Any, **more: Any) -> None:
        """As asyncio's, which waits for a thread of its own."""
        with self.hold():
            await super().shutdown_default_executor(*arguments, **more)

    async def subprocess_exec(self, *arguments: Any, **more: Any) -> Any:
        """As asyncio's; the time stands still until the program has ended."""
        with self.hold():
            made = await super().subprocess_exec(*arguments, **more)
        self._children.append(made[0])
        return made

    async def subprocess_shell(self, *arguments: Any, **more: Any) -> Any:
        """As asyncio's; the time stands still until the program has ended."""
        with self.hold():
            made = await super().subprocess_shell(*arguments, **more)
        self._children.append(made[0])
        return made

    def _landed(self, _: Future[Any]) -> None:
        # its result was handed to the loop by a callback added before this one
        with self._gate:
            self._threads -= 1
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            self.call_soon_threadsafe(lambda: None)

    def _wait(self, poll: Callable[[float | None], list[Any]], timeout: float | None) -> list[Any]:
        """What the selector's `select` does: events that are there, else time passes. `timeout` is simulated."""
        if found := poll(0):
            return found
        if timeout is not None and timeout <= 0:
            return []
        if self.outstanding:
            return self._outside(poll)
        # what was outstanding handed over its results before it ceased to be: look once more, then nothing can come
        if found := poll(_LOOPBACK_GRACE if self._idle.sockets else 0):
            return found
        if timeout is None:
            if self._idle.sockets and (found := poll(min(1.0, self._patience))):
                return found
            raise Stuck(f"nothing is scheduled and nothing is outstanding; {self._who()}")
        self._jump(timeout)
        return []

    def _outside(self, poll: Callable[[float | None], list[Any]]) -> list[Any]:
        until = time.monotonic() + self._patience
        while not (found := poll(0.2)):
            if not self.outstanding:
                return []
            if time.monotonic() > until:
                what = count(self.outstanding, "call in a thread or program", "calls in threads or programs")
                raise Stuck(f"{what} did not end within {self._patience:g} s; {self._who()}")
        return found

    def _jump(self, timeout: float) -> None:
        # `now + timeout` may be a rounding error short of the timer, which would then run before its time
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        due = self._now + timeout
        if scheduled and abs(scheduled[0].when() - due) < 1e-3:
            due = scheduled[0].when()
        if due > self._limit:
            raise Stuck(f"{self._limit:g} simulated seconds have passed; {self._who()}")
        self._now = max(self._now, due)

    def _who(self) -> str:
        waiting = sorted(_place(task) for task in asyncio.all_tasks(self) if not task.done())
        shown = "; ".join(waiting[:10]) + (f"; and {len(waiting) - 10} more" if len(waiting) > 10 else "")
        return f"at {self._now:g} s these tasks wait: {shown or 'none'}"


def _place(task: asyncio.Task[Any]) -> str:
    """A task and where it waits: the innermost line that is not asyncio's own."""
    inner: Any = task.get_coro()
    where = "?"
    while inner is not None:
        frame = (
            getattr(inner, "cr_frame", None)
            or getattr(inner, "gi_frame", None)
            or getattr(inner, "ag_frame", None)
        )
        if frame is not None and Path(frame.f_code.co_filename).parent != _ASYNCIO:
            where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        inner = (
            getattr(inner, "cr_await", None)
            or getattr(inner, "gi_yieldfrom", None)
            or getattr(inner, "ag_await", None)
        )
    return f"{task.get_name()} at {where}"


class _IdleSelector(selectors.DefaultSelector):
    """The system's selector, except that waiting is left to the loop."""

    def __init__(
        self, wait: Callable[[Callable[[float | None], list[Any]], float | None], list[Any]]
    ) -> None:
        super().__init__()
        self._wait = wait

    @property
    def sockets(self) -> bool:
        """Whether anything but the loop's own wake-up pipe is registered."""
        return len(self.get_map()) > 1

    def select(self, timeout: float | None = None) -> list[Any]:
        """Hand the question to the loop."""
        return self._wait(super().select, timeout)


class SimulatedClock:
    """A wall clock (`reconciler.kit.clock.Clock`) that goes with a simulated loop; may be read from any thread."""

    def __init__(self, loop: SimulatedLoop, start: datetime = START) -> None:
        self._loop = loop
        self._start = start - timedelta(seconds=loop.time())

    def __call__(self) -> datetime:
        """The current time, aware, in UTC."""
        return (self._start + timedelta(seconds=self._loop.time())).astimezone(UTC)

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward, or back when negative. The loop's time, and every timer, stays."""
        self._start += timedelta(seconds=seconds)


def run(main: Coroutine[Any, Any, T], *, loop: SimulatedLoop | None = None) -> T:
    """Run a coroutine to its end in simulated time, on `loop` or a new one, as `asyncio.run` does. Raises Stuck."""
    try:
        with asyncio.Runner(loop_factory=lambda: loop or SimulatedLoop()) as runner:
            return runner.run(main)
    except Stuck as stuck:
        # closing may be stuck on the same thread: what was said first is what matters
        first: BaseException = stuck
        while isinstance(first.__context__, Stuck):
            first = first.__context__
        raise first from None
