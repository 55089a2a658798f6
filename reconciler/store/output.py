"""Output of bounded size: the beginning and the end are kept, the middle is counted.

A stream is stored as one text, the head followed by the tail, and a gap that says where the tail begins and how many
bytes are missing there.
"""

from __future__ import annotations

from dataclasses import dataclass

LIMIT = 256 * 1024
"""Bytes of UTF-8 kept of each stream."""

HEAD = LIMIT // 2


@dataclass(frozen=True)
class Output:
    """`text` is head and tail; without a gap `omitted` is 0. `at` is where the tail begins, in characters."""

    text: str = ""
    at: int = 0
    omitted: int = 0

    def shown(self) -> str:
        """The text for people, with a line in place of what is missing."""
        if not self.omitted:
            return self.text
        return f"{self.text[: self.at]}\n… {self.omitted} bytes left out …\n{self.text[self.at :]}"


def append(output: Output, more: str, *, limit: int = LIMIT) -> Output:
    """`output` with `more` at its end, at most `limit` bytes of UTF-8 (8 or more): half of it head, half tail.

    Characters are never cut in two. NUL and lone surrogates, which a database cannot hold, become replacement
    characters.
    """
    more = more.replace("\0", "\N{REPLACEMENT CHARACTER}")
    data = more.encode("utf-8", "surrogatepass").decode("utf-8", "replace").encode("utf-8")
    if not output.omitted:
        data = output.text.encode("utf-8") + data
        if len(data) <= limit:
            return Output(data.decode("utf-8"))
        head = _first(data, limit // 2)
        tail, lost = _last(data[len(head) :], limit - limit // 2)
    else:
        head = output.text[: output.at].encode("utf-8")
        tail, lost = _last(output.text[output.at :].encode("utf-8") + data, limit - limit // 2)
    start = head.decode("utf-8")
    return Output(start + tail.decode("utf-8"), len(start), output.omitted + lost)


def _first(data: bytes, size: int) -> bytes:
    while size > 0 and data[size] & 0xC0 == 0x80:  # the byte after the cut continues a character
        size -= 1
    return data[:size]


def _last(data: bytes, size: int) -> tuple[bytes, int]:
    start = max(0, len(data) - size)
    while start < len(data) and data[start] & 0xC0 == 0x80:
        start += 1
    return data[start:], start
