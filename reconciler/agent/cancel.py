"""Stopping an apply: a file in its journal folder, which the runner looks for between steps and while it waits.

The file is on disk before the request is answered, so a cancel outlives the conversation, the daemon and a power cut.
A cancel may arrive before its apply: the folder then holds nothing else, and the apply, should it come, does nothing.
"""

import os
import shutil
import time
from typing import Optional

from . import atomic, fields, journal, places
from .faults import StepFault

CANCELLED = "cancelled"
"""The message of every section and step that a cancel stopped."""

VALIDATOR_SECONDS = 10.0
"""How long a validator may still take once its apply is cancelled."""

_KEPT_EARLY = 50
_LOOK_SECONDS = 0.1


class Cancelled(StepFault):
    """The apply was cancelled before this could be done."""

    def __init__(self) -> None:
        super().__init__(CANCELLED)


class _Watch:
    """Which apply this process carries out, and when (monotonic) it first saw that it is cancelled."""

    def __init__(self) -> None:
        self.path = ""
        self.seen_at: Optional[float] = None


_watch = _Watch()


def _path(deployment: str) -> str:
    return journal.folder(deployment) + "/cancel.json"


def is_asked(deployment: str) -> bool:
    """True when this deployment was cancelled."""
    return os.path.exists(places.real(_path(deployment)))


def ask(deployment: str) -> None:
    """Write a cancel down, durably; again does no harm. Raises OSError."""
    folder = places.real(journal.folder(deployment))
    os.makedirs(folder, 0o700, exist_ok=True)
    journal.crash_point()
    atomic.save_json(_path(deployment), {"at": journal.now()})
    atomic.sync_folder(os.path.dirname(folder))
    journal.crash_point()


def forget_early() -> None:
    """Remove the oldest cancels of deployments that never came, beyond the number kept."""
    root = places.real(places.JOURNAL)
    early = []
    for name in sorted(os.listdir(root)):
        try:
            fields.ulid(name)
        except ValueError:
            continue
        if os.path.exists("{}/{}/cancel.json".format(root, name)) and not journal.exists(name):
            early.append(name)
    for name in early[:-_KEPT_EARLY]:
        shutil.rmtree(os.path.join(root, name), ignore_errors=True)


def watch(deployment: str) -> None:
    """From now on this process asks about the cancel of this deployment; of none when the text is empty."""
    _watch.path = places.real(_path(deployment)) if deployment else ""
    _watch.seen_at = None


def requested() -> bool:
    """True once the apply of this process is cancelled; always false elsewhere."""
    if _watch.seen_at is None and _watch.path and os.path.exists(_watch.path):
        _watch.seen_at = time.monotonic()
    return _watch.seen_at is not None


def look() -> None:
    """Raise Cancelled when the apply of this process is cancelled."""
    if requested():
        raise Cancelled()


def pause(seconds: float) -> None:
    """Sleep, but not longer than until a cancel. Raises Cancelled."""
    deadline = time.monotonic() + seconds
    while True:
        look()
        left = deadline - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(left, _LOOK_SECONDS))


def stop_waiting(pid: int) -> bool:
    """For `process.run`: end a program that only waits (systemctl) as soon as there is a cancel."""
    return requested()


class Patience:
    """For `process.run`: a program that must be heard also after a cancel, but not for long."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def over(self, pid: int) -> bool:
        """True when the cancel and the start of the program both lie `VALIDATOR_SECONDS` back."""
        if not requested() or _watch.seen_at is None:
            return False
        return time.monotonic() - max(self._began, _watch.seen_at) > VALIDATOR_SECONDS
