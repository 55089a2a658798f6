"""A command's output, kept within bounds: its beginning and its end."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

OUTPUT_LIMIT = 256 * 1024
"""Bytes kept of one stream: half from its beginning, half from its end."""


@dataclass(frozen=True)
class Output:
    """What was kept of one stream. `omitted` bytes are missing between `head` and `tail`."""

    head: bytes
    tail: bytes = b""
    omitted: int = 0

    @property
    def data(self) -> bytes:
        """Head and tail, with a line between them that says how much is missing."""
        if not self.omitted:
            return self.head + self.tail
        return self.head + b"\n[... %d bytes omitted ...]\n" % self.omitted + self.tail

    @property
    def text(self) -> str:
        """The data as text; bytes that are not UTF-8 become U+FFFD."""
        return self.data.decode("utf-8", "replace")


class HeadTail:
    """Collects a stream and keeps at most `limit` bytes of it, however much comes."""

    def __init__(self, limit: int = OUTPUT_LIMIT) -> None:
        self._head_room = limit // 2
        self._tail_room = limit - limit // 2
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self._omitted = 0

    def add(self, data: bytes) -> None:
        """Takes the next piece of the stream."""
        room = self._head_room - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        if not data:
            return
        self._tail.append(data)
        self._tail_size += len(data)
        # whole pieces go first; output() cuts the oldest that is left
        while self._tail_size - len(self._tail[0]) >= self._tail_room:
            gone = len(self._tail.popleft())
            self._tail_size -= gone
            self._omitted += gone

    def output(self) -> Output:
        """What was kept so far."""
        tail = b"".join(self._tail)
        extra = max(0, len(tail) - self._tail_room)
        return Output(bytes(self._head), tail[extra:], self._omitted + extra)
