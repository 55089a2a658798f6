"""Asking systemd about units over its own socket, as systemctl does, but all in one breath and without a process.

`systemctl show` fetches every property of every unit, one after the other: about a millisecond a unit. Here only the
four that matter are asked for. Whatever does not go as expected is an OSError, and the caller asks systemctl instead.
The format is the D-Bus specification's, little-endian; the socket is private to systemd and its tools.
"""

import os
import socket
import struct
from typing import Dict, List, Tuple

from . import places

_SOCKET = "/run/systemd/private"
_SECONDS = 10.0
_AT_ONCE = 64
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_UNIT = "org.freedesktop.systemd1.Unit"
_REPLY, _ERROR = 2, 3
_MOST = 1 << 20


def properties(units: List[str], names: List[str]) -> List[List[str]]:
    """The values (texts) of these properties for each unit, in order. Raises OSError."""
    asked = [(unit, name) for unit in units for name in names]
    values: List[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(_SECONDS)
        line.connect(places.real(_SOCKET))
        user = "{}".format(os.geteuid()).encode("ascii").hex().encode("ascii")
        line.sendall(b"\0AUTH EXTERNAL " + user + b"\r\nBEGIN\r\n")
        reader = _Reader(line)
        reader.authenticated()
        for start in range(0, len(asked), _AT_ONCE):
            some = asked[start : start + _AT_ONCE]
            first = start + 1
            line.sendall(b"".join(_get(first + place, *one) for place, one in enumerate(some)))
            answers: Dict[int, str] = {}
            while len(answers) < len(some):
                serial, value = reader.answer()
                if first <= serial < first + len(some):
                    answers[serial] = value
            values += [answers[first + place] for place in range(len(some))]
    return [values[place : place + len(names)] for place in range(0, len(values), len(names))]


def _object(unit: str) -> str:
    """The object path of a unit: what is no letter or digit is written in hexadecimal, a digit in front, too."""
    name = "".join(
        c
        if c in _PLAIN and not (place == 0 and c.isdigit())
        else "".join("_%02x" % b for b in c.encode("utf-8"))
        for place, c in enumerate(unit)
    )
    return "/org/freedesktop/systemd1/unit/" + name


def _text(value: str) -> bytes:
    data = value.encode("utf-8")
    return struct.pack("<I", len(data)) + data + b"\0"


def _padded(data: bytes, to: int) -> bytes:
    return data + b"\0" * (-len(data) % to)


def _field(code: int, kind: bytes, value: str) -> bytes:
    return bytes([code, 1]) + kind + b"\0" + _text(value)


def _get(serial: int, unit: str, name: str) -> bytes:
    """The call org.freedesktop.DBus.Properties.Get."""
    body = _padded(_text(_UNIT), 4) + _text(name)
    fields = b""
    for field in (
        _field(1, b"o", _object(unit)),
        _field(2, b"s", "org.freedesktop.DBus.Properties"),
        _field(3, b"s", "Get"),
        _field(6, b"s", "org.freedesktop.systemd1"),
        bytes([8, 1]) + b"g\0" + b"\x02ss\0",
    ):
        fields = _padded(fields, 8) + field
    head = struct.pack("<BBBBIII", ord("l"), 1, 0, 1, len(body), serial, len(fields))
    return _padded(head + fields, 8) + body


class _Reader:
    """Reads answers, whole."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._data = b""

    def _fill(self) -> None:
        block = self._line.recv(1 << 16)
        if not block:
            raise OSError("systemd closed the connection")
        self._data += block

    def _take(self, size: int) -> bytes:
        if not 0 <= size <= _MOST:
            raise OSError("systemd sent a message of {} bytes".format(size))
        while len(self._data) < size:
            self._fill()
        taken, self._data = self._data[:size], self._data[size:]
        return taken

    def authenticated(self) -> None:
        """Read what the handshake is answered with."""
        while b"\r\n" not in self._data:
            if len(self._data) > 1 << 10:
                raise OSError("systemd does not speak as expected")
            self._fill()
        accepted, self._data = self._data.split(b"\r\n", 1)
        if not accepted.startswith(b"OK "):
            raise OSError("systemd refused: " + ascii(accepted))

    def answer(self) -> Tuple[int, str]:
        """The next answer: the serial of its call, and the text in it. Signals have the serial 0."""
        head = self._take(16)
        order, kind, _, _, size, _, length = struct.unpack("<BBBBIII", head)
        if order != ord("l"):
            raise OSError("systemd sent a message of another byte order")
        fields = self._take(length + -length % 8)
        body = self._take(size)
        if kind == _ERROR:
            raise OSError("systemd answered with an error")
        if kind != _REPLY:
            return 0, ""
        return _reply_serial(fields[:length]), _variant(body)


def _reply_serial(fields: bytes) -> int:
    """The header field 5 (a number); the others are texts, object paths, signatures and numbers."""
    place = 0
    while place + 4 <= len(fields):
        place += -place % 8
        code, kind = fields[place], fields[place + 2 : place + 3]
        place += 4
        if kind == b"u":
            place += -place % 4
            value: int = struct.unpack_from("<I", fields, place)[0]
            if code == 5:
                return value
            place += 4
        elif kind == b"g":
            place += fields[place] + 2
        else:
            place += -place % 4
            place += struct.unpack_from("<I", fields, place)[0] + 5
    raise OSError("systemd sent an answer to nothing")


def _variant(body: bytes) -> str:
    """A variant that holds a text."""
    if body[:3] != b"\x01s\0":
        raise OSError("systemd sent something else than a text")
    size: int = struct.unpack_from("<I", body, 4)[0]
    return body[8 : 8 + size].decode("utf-8")
