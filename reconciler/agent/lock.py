"""One apply at a time, and none by an older daemon.

The runner holds a flock for as long as it lives. Between the request and the moment when the runner has the lock, a
claim on disk stands for it. The fence is the greatest number that any daemon has shown.
"""

import fcntl
import os
import time
from contextlib import contextmanager
from typing import Iterator, Optional

from . import atomic, places

LOCK = places.STATE + "/lock"
CLAIM = places.STATE + "/running.json"
FENCE = places.STATE + "/fence.json"
_FENCE_LOCK = places.STATE + "/fence.lock"
_CLAIM_SECONDS = 30.0


class Held(Exception):
    """Somebody else has the lock."""


class Stale(Exception):
    """The fence is smaller than the greatest one seen."""


@contextmanager
def exclusive(wait: float = 0.5) -> Iterator[int]:
    """Hold the lock. Raises Held when another process has it for longer than `wait` seconds.

    The wait is there because `is_held` of another conversation shares the lock for a moment.
    """
    fd = os.open(places.real(LOCK), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + wait
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Held() from None
                time.sleep(0.01)
        yield fd
    finally:
        os.close(fd)


def is_held() -> bool:
    """True when some process has the lock now. Two that only look do not see each other."""
    try:
        fd = os.open(places.real(LOCK), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def fence() -> int:
    """The greatest fence seen."""
    value = atomic.load_json(FENCE)
    return int(value["fence"]) if isinstance(value, dict) else 0


def stale_text() -> str:
    """What an older daemon is told."""
    return "a newer daemon has taken this node over (fence {})".format(fence())


def admit(number: int) -> None:
    """Compare a daemon's fence with the greatest seen, and remember a greater one, durably, before anything is done for it.

    Both in one: two daemons that ask at the same time are told apart. Raises Stale, OSError.
    """
    fd = os.open(places.real(_FENCE_LOCK), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        greatest = fence()
        if number < greatest:
            raise Stale(stale_text())
        if number > greatest:
            atomic.save_json(FENCE, {"fence": number})
    finally:
        os.close(fd)


def claim(deployment: str, *, started: bool = False) -> None:
    """Note that a runner is being started for this deployment, or (`started`) has the lock now."""
    note = {"deployment": deployment, "boot": places.boot_id(), "at": time.monotonic(), "started": started}
    atomic.save_json(CLAIM, note, durable=False)


def release(deployment: str) -> None:
    """Remove the note, if it is still about this deployment."""
    value = atomic.load_json(CLAIM)
    if isinstance(value, dict) and value.get("deployment") == deployment:
        atomic.forget(CLAIM)


def claimed() -> Optional[str]:
    """The deployment for which a runner is being started, None when there is none or it never came."""
    value = atomic.load_json(CLAIM)
    if not isinstance(value, dict) or value.get("started") or value.get("boot") != places.boot_id():
        return None
    age = time.monotonic() - float(value.get("at", 0))
    return str(value["deployment"]) if 0 <= age < _CLAIM_SECONDS else None


def running() -> Optional[str]:
    """The deployment that is being applied or about to be, None when there is none."""
    if not is_held():
        return claimed()
    value = atomic.load_json(CLAIM)
    return str(value["deployment"]) if isinstance(value, dict) else None


def let_go(deployment: str) -> bool:
    """True once the runner of this deployment has neither lock nor claim any more."""
    value = atomic.load_json(CLAIM)
    other = isinstance(value, dict) and value.get("deployment") != deployment
    return other or not (isinstance(value, dict) or is_held())


def was_started(deployment: str) -> bool:
    """True when a runner of this deployment has had the lock before (and died, if the lock is free now)."""
    value = atomic.load_json(CLAIM)
    return isinstance(value, dict) and value.get("deployment") == deployment and bool(value.get("started"))
