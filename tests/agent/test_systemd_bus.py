"""Questions to systemd over its socket, against a socket of the test; on nodes the answers are compared with systemctl's."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from reconciler.agent import observe, systemd_bus

from .talking import Here

SHOW = "printf 'LoadState=loaded\\nActiveState=active\\nSubState=told\\nUnitFileState=by-program\\n\\n'"


def reply(serial: int, value: str) -> bytes:
    """A method return with one variant that holds a text."""
    data = value.encode()
    body = b"\x01s\0\0" + struct.pack("<I", len(data)) + data + b"\0"
    fields = b"\x08\x01g\0\x01v\0\0" + b"\x05\x01u\0" + struct.pack("<I", serial)
    head = struct.pack("<BBBBIII", ord("l"), 2, 0, 1, len(body), 7, len(fields))
    return head + fields + b"\0" * (-len(head + fields) % 8) + body


def error(serial: int) -> bytes:
    message = bytearray(reply(serial, ""))
    message[1] = 3
    return bytes(message)


SIGNAL = (
    struct.pack("<BBBBIII", ord("l"), 4, 0, 1, 0, 9, 16)
    + b"\x03\x01s\0"
    + struct.pack("<I", 5)
    + b"Hello\0\0\0"
)


class Manager:
    """Answers each call with the unit's path and the property that were asked for; `spoil` alters the answers."""

    def __init__(self, here: Here) -> None:
        self.calls: list[bytes] = []
        self.spoil = ""
        path = here.path("/run/systemd/private")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _serve(self) -> None:
        try:
            while True:
                line, _ = self._listener.accept()
                with line:
                    self._converse(line)
        except OSError:
            return

    def _converse(self, line: socket.socket) -> None:
        source = line.makefile("rb")
        assert source.readline().startswith(b"\0AUTH EXTERNAL ")
        assert source.readline() == b"BEGIN\r\n"
        line.sendall(b"REJECTED\r\n" if self.spoil == "refuse" else b"OK 0123456789abcdef\r\n")
        while head := source.read(16):
            _, _, _, _, size, serial, length = struct.unpack("<BBBBIII", head)
            fields, body = source.read(length + -length % 8), source.read(size)
            self.calls.append(fields)
            unit = fields.split(b"/unit/")[1].split(b"\0")[0].decode()
            asked = body.rstrip(b"\0").rpartition(b"\0")[2].decode()
            if self.spoil == "hang up":
                return
            answer = error(serial) if self.spoil == "error" else reply(serial, f"{unit} {asked}")
            whole = SIGNAL + answer
            line.sendall(whole[:11])  # answers come in pieces, too
            line.sendall(whole[11:])


@pytest.fixture
def manager(inside: Here) -> Iterator[Manager]:
    inside.program_on_path("systemctl", SHOW)
    made = Manager(inside)
    yield made
    made.close()


def test_every_property_of_every_unit_is_answered_in_order(manager: Manager) -> None:
    units = [f"panel-fpm-{number}.service" for number in range(50)]
    found = systemd_bus.properties(units, ["ActiveState", "SubState", "LoadState"])
    assert found[7] == [
        "panel_2dfpm_2d7_2eservice ActiveState",
        "panel_2dfpm_2d7_2eservice SubState",
        "panel_2dfpm_2d7_2eservice LoadState",
    ]
    assert [values[0].split("_2d")[2].split("_")[0] for values in found] == [str(n) for n in range(50)]
    assert len(manager.calls) == 150


def test_unit_names_are_written_as_object_paths(manager: Manager) -> None:
    units = ["-.mount", "1st.service", "a@b\\x2dc.service"]
    found = [values[0].split()[0] for values in systemd_bus.properties(units, ["LoadState"])]
    assert found == ["_2d_2emount", "_31st_2eservice", "a_40b_5cx2dc_2eservice"]


@pytest.mark.parametrize("spoil", ["refuse", "error", "hang up"])
def test_systemctl_is_asked_when_the_socket_does_not_answer_as_it_should(
    manager: Manager, spoil: str
) -> None:
    manager.spoil = spoil
    with pytest.raises(OSError, match="systemd"):
        systemd_bus.properties(["a.service"], ["LoadState"])
    assert observe.show_units(["a.service"]) == {
        "a.service": observe.UnitState("loaded", "active", "told", "by-program")
    }


def test_systemctl_is_asked_where_there_is_no_socket(inside: Here) -> None:
    inside.program_on_path("systemctl", SHOW)
    assert observe.show_units(["a.service"])["a.service"].file_state == "by-program"
