"""One request to a php-fpm by its socket: how a release answers is found out before any visitor sees it.

The protocol is that of the FastCGI Specification 1.0 (sections 3.3, 3.4, 5.1 to 5.3 and 5.5).
"""

import socket
import struct
import time
from typing import Dict, NamedTuple

from . import places

_BEGIN, _END, _PARAMS, _STDIN, _STDOUT = 1, 3, 4, 5, 6
_MOST = 4 * 1024 * 1024


class Answer(NamedTuple):
    """Status, and the body as far as it was read (4 MiB)."""

    status: int
    body: bytes


def _record(kind: int, content: bytes) -> bytes:
    return struct.pack(">BBHHBx", 1, kind, 1, len(content), 0) + content


def _length(number: int) -> bytes:
    return struct.pack(">B", number) if number < 128 else struct.pack(">I", number | 0x80000000)


def _request(params: Dict[str, str]) -> bytes:
    pairs = b""
    for name, value in sorted(params.items()):
        key, text = name.encode("ascii"), value.encode("utf-8")
        pairs += _length(len(key)) + _length(len(text)) + key + text
    begin = _record(_BEGIN, struct.pack(">HB5x", 1, 0))
    return begin + _record(_PARAMS, pairs) + _record(_PARAMS, b"") + _record(_STDIN, b"")


def ask(path: str, params: Dict[str, str], seconds: float) -> Answer:
    """Send a request without a body and read the answer within `seconds`. Raises OSError, ValueError for nonsense."""
    deadline = time.monotonic() + seconds
    out = b""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(seconds)
        line.connect(places.real(path))
        line.sendall(_request(params))
        while len(out) < _MOST:
            kind, size, padding = struct.unpack(">xBxxHBx", _exactly(line, 8, deadline))
            content = _exactly(line, size + padding, deadline)[:size]
            if kind == _STDOUT:
                out += content
            elif kind == _END:
                break
    head, _, body = out.partition(b"\r\n\r\n")
    status = 200
    for row in head.decode("latin-1").split("\r\n"):
        name, _, value = row.partition(":")
        if name.strip().lower() == "status":
            status = int(value.split()[0])
    return Answer(status, body)


def _exactly(line: socket.socket, size: int, deadline: float) -> bytes:
    read = b""
    while len(read) < size:
        left = deadline - time.monotonic()
        if left <= 0:
            raise socket.timeout("no whole answer in time")
        line.settimeout(left)
        piece = line.recv(size - len(read))
        if not piece:
            raise ValueError("the answer breaks off")
        read += piece
    return read
