"""Following an apply that runs elsewhere, from its journal, until it ends."""

import json
import os
import time
from typing import Any, Callable, Dict, List

from . import journal, lock, outcome, places

_QUICK_SECONDS = 0.005
_SLOW_SECONDS = 0.05
_LIFE_SECONDS = 0.5


class _Tail:
    """Reads the whole lines that were appended to a file since the last look."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._offset = 0

    def lines(self) -> List[Dict[str, Any]]:
        """Events not seen yet."""
        try:
            with open(self._path, "rb") as source:
                if os.fstat(source.fileno()).st_size <= self._offset:
                    return []
                source.seek(self._offset)
                data = source.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [json.loads(line.decode("utf-8")) for line in whole.splitlines()]


def follow(
    deployment: str, seen: int, emit: Callable[[Dict[str, Any]], None], still_there: Callable[[], None]
) -> Dict[str, Any]:
    """Emit every event after number `seen`, wait for the end, and return the Outcome.

    `still_there` is called while waiting and may raise to stop waiting; the apply goes on regardless.
    """
    tail = _Tail(places.real(journal.folder(deployment) + "/events.ndjson"))
    pause = _QUICK_SECONDS
    next_look = time.monotonic() + _LIFE_SECONDS
    while True:
        result = journal.outcome(deployment)
        fresh = tail.lines()
        for event in fresh:
            if event["n"] > seen:
                emit(event)
        if result is not None:
            _wait_for_release(deployment)
            return result
        if time.monotonic() > next_look:
            next_look = time.monotonic() + _LIFE_SECONDS
            if lock.running() != deployment and journal.outcome(deployment) is None:
                for event in tail.lines():
                    if event["n"] > seen:
                        emit(event)
                return outcome.interrupted(deployment)
        still_there()
        pause = _QUICK_SECONDS if fresh else min(pause * 1.5, _SLOW_SECONDS)
        time.sleep(pause)


def _wait_for_release(deployment: str) -> None:
    """The runner lets go of the lock right after its outcome; an apply that follows at once must not find it busy."""
    deadline = time.monotonic() + 2.0
    while time.monotonic() < deadline and not lock.let_go(deployment):
        time.sleep(_QUICK_SECONDS)
