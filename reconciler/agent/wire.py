"""Lines of JSON over standard input and output."""

import json
import os
import select
from typing import IO, Any, Dict, Optional

from .faults import Refusal

MAX_LINE = 8 * 1024 * 1024


class HungUp(Exception):
    """The other side is gone."""


class Wire:
    """The two ends of one conversation."""

    def __init__(self, source: "IO[bytes]", target: int) -> None:
        self._source = source
        self._target = target
        self._watch = select.poll()
        # Without POLLIN: only an error or a hang-up is reported, not that the next request is waiting.
        self._watch.register(source.fileno(), 0)
        self._watch.register(target, 0)

    def read(self) -> Optional[bytes]:
        """The next line without its end, None at the end of the conversation. Raises Refusal when it is too long."""
        line = self._source.readline(MAX_LINE + 1)
        if not line:
            return None
        if line.endswith(b"\n") or len(line) <= MAX_LINE:
            return line
        while line and not line.endswith(b"\n"):
            line = self._source.readline(MAX_LINE)
        raise Refusal("bad_request", "a line is at most {} bytes".format(MAX_LINE))

    def write(self, value: Dict[str, Any]) -> None:
        """Send one object. Raises HungUp."""
        view = memoryview(json.dumps(value, separators=(",", ":")).encode("utf-8") + b"\n")
        try:
            while view:
                view = view[os.write(self._target, view) :]
        except OSError:
            raise HungUp() from None

    def check(self) -> None:
        """Raise HungUp when the other side has gone away while we wait for something else."""
        for _, happened in self._watch.poll(0):
            if happened & (select.POLLHUP | select.POLLERR | select.POLLNVAL):
                raise HungUp()
