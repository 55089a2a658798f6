"""The conversation: reads requests, answers each in order, until the other side goes."""

import sys
from typing import Any, Callable, Dict, Optional

from . import canonical, fields, places, upgrade
from .faults import Refusal, StepFault, cause
from .operations import Conversation, Emit, Request, Result
from .wire import HungUp, Wire

# The fields that a request of each operation may have, beside `id` and `op`.
_FIELDS = {
    "hello": {"protocol"},
    "check": {"digest", "sections"},
    "bundle": {"bundle"},
    "prepare": {"digest", "sections"},
    "blob": {"sha256", "data", "more"},
    "apply": {"deployment", "digest", "sections", "fence", "confirm"},
    "status": {"deployment", "from"},
    "cancel": {"deployment", "fence"},
    "confirm": {"deployment"},
    "units": {"names"},
    "avc": {"cursor", "most"},
    "updates": {"packages"},
    "inventory": set(),
    "upgrade": {"data", "sha256"},
    "bye": set(),
}


def _upgrade(request: Request, emit: Emit) -> Result:
    try:
        fields.sha256(request.get("sha256"))
    except ValueError as error:
        raise Refusal("bad_request", "sha256 {}".format(error)) from None
    return upgrade.upgrade(request.get("data"), request["sha256"])


def _bye(request: Request, emit: Emit) -> Result:
    return {}


def _parse(line: bytes) -> Request:
    try:
        request = canonical.loads(line)
    except ValueError:
        raise Refusal("bad_request", "the line is not JSON") from None
    if not isinstance(request, dict):
        raise Refusal("bad_request", "the line is not a JSON object")
    return request


def _operation(
    request: Request, table: Dict[str, Callable[[Request, Emit], Result]]
) -> Callable[[Request, Emit], Result]:
    if type(request.get("id")) is not int:
        raise Refusal("bad_request", "id is not a number")
    op = request.get("op")
    if not isinstance(op, str) or op not in table:
        raise Refusal("bad_request", "unknown op {}".format(ascii(op)[:40]))
    unknown = sorted(set(request) - _FIELDS[op] - {"id", "op"})
    if unknown:
        raise Refusal("bad_request", "unknown field {} of {}".format(ascii(unknown[0])[:40], op))
    return table[op]


def _error(number: Optional[int], refusal: Refusal) -> Dict[str, Any]:
    error: Dict[str, Any] = {"code": refusal.code, "message": refusal.message, "hint": refusal.hint}
    error.update(refusal.extra)
    return {"id": number, "ok": False, "error": error}


class Server:
    """Answers the requests of one conversation."""

    def __init__(self, wire: Wire, agent: str) -> None:
        self._wire = wire
        self._talk = Conversation(wire, agent)
        self._table: Dict[str, Callable[[Request, Emit], Result]] = {
            "hello": self._talk.hello,
            "check": self._talk.check,
            "bundle": self._talk.bundle,
            "prepare": self._talk.prepare,
            "blob": self._talk.blob,
            "apply": self._talk.apply,
            "status": self._talk.status,
            "cancel": self._talk.cancel,
            "confirm": self._talk.confirm,
            "units": self._talk.units,
            "avc": self._talk.avc,
            "updates": self._talk.updates,
            "inventory": self._talk.inventory,
            "upgrade": _upgrade,
            "bye": _bye,
        }

    def run(self) -> int:
        """Until the end of the conversation or `bye`; the exit status."""
        try:
            while True:
                try:
                    line = self._wire.read()
                    if line is None:
                        return 0
                    request = _parse(line)
                except Refusal as refusal:
                    self._wire.write(_error(None, refusal))
                    continue
                if self._answer(request) and request["op"] == "bye":
                    return 0
        except HungUp:
            return 0
        finally:
            self._talk.close()

    def _answer(self, request: Request) -> bool:
        """Carry a request out and answer it; true when it was carried out."""
        number = request.get("id") if type(request.get("id")) is int else None

        def emit(event: Dict[str, Any]) -> None:
            self._wire.write({"id": number, "event": event})

        try:
            result = _operation(request, self._table)(request, emit)
        except Refusal as refusal:
            self._wire.write(_error(number, refusal))
        except StepFault as fault:
            self._wire.write(_error(number, Refusal("internal", str(fault))))
        except OSError as error:
            message = "{}: {}".format(error.filename or places.STATE, cause(error))
            self._wire.write(_error(number, Refusal("internal", message)))
        except HungUp:
            raise
        except Exception as error:  # noqa: BLE001 (the conversation goes on whatever happens)
            text = "fault of the agent: {}: {}".format(type(error).__name__, ascii(str(error))[:200])
            self._wire.write(_error(number, Refusal("internal", text, "report this fault")))
        else:
            self._wire.write({"id": number, "ok": True, "result": result})
            return True
        return False


def main(agent: str, unpack: Callable[[], None]) -> int:
    """Serve one conversation over standard input and output; `unpack` is called once the state folders are there."""
    wire = Wire(sys.stdin.buffer, sys.stdout.fileno())
    try:
        places.make_state_folders()
    except OSError as error:
        message = "cannot make {}: {}".format(places.STATE, cause(error))
        wire.write(
            _error(None, Refusal("internal", message, "the agent must run as root on a writable system"))
        )
        return 1
    unpack()
    return Server(wire, agent).run()
