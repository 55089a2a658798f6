"""The operations of the conversation, except upgrade."""

import sys
from typing import Any, Callable, Dict, List, Optional, Tuple

from . import (
    auditlog,
    blobs,
    cancel,
    canonical,
    certificates,
    denials,
    facts,
    fields,
    guard,
    hashes,
    inventory,
    journal,
    launch,
    lock,
    observe,
    places,
    reboot,
    updates,
)
from .bundle import KEPT, Bundle, Shelf
from .compare import compare
from .faults import Refusal, cause
from .follow import follow
from .wire import Wire

Request = Dict[str, Any]
Result = Dict[str, Any]
Emit = Callable[[Dict[str, Any]], None]
PROTOCOL = 1
_CONFIRM_SECONDS = 120
_MOST_UNITS = 256
_MOST_PACKAGES = 256
_MOST_DENIALS = 1000


def _field(request: Request, name: str, check: fields.Check) -> Any:
    if name not in request:
        raise Refusal("bad_request", "the request lacks the field {}".format(name))
    try:
        check(request[name])
    except ValueError as error:
        raise Refusal("bad_request", "{} {}".format(name, error)) from None
    return request[name]


def _sections(request: Request) -> Optional[List[str]]:
    try:
        return fields.section_list(request.get("sections"))
    except ValueError as error:
        raise Refusal("bad_request", "sections {}".format(error)) from None


class Conversation:
    """What one connection has said so far. `agent` is the digest of the program as it was loaded."""

    def __init__(self, wire: Wire, agent: str) -> None:
        self._wire = wire
        self._agent = agent
        self._shelf = Shelf()
        self._cache = hashes.Cache()
        self._intake = blobs.Intake()
        self._prepared: Optional[Tuple[str, Optional[List[str]], List[str]]] = None

    def close(self) -> None:
        """Drop what did not arrive completely."""
        self._intake.close()

    def hello(self, request: Request, emit: Emit) -> Result:
        """Versions, facts, and where this node stands."""
        _field(request, "protocol", fields.one_of(PROTOCOL))
        kept = self._shelf.get(KEPT)
        return {
            "protocol": PROTOCOL,
            "agent": self._agent,
            "python": "{}.{}.{}".format(*sys.version_info[:3]),
            "facts": facts.gather(),
            "bundle": kept.digest if kept else None,
            "running": lock.running(),
            "fence": lock.fence(),
            "certificates": certificates.listed(),
            "reboot": reboot.needed(),
        }

    def check(self, request: Request, emit: Emit) -> Result:
        """Compare the node with the kept bundle."""
        digest = _field(request, "digest", fields.sha256)
        kept = self._shelf.get(KEPT)
        if kept is None or kept.digest != digest:
            raise Refusal("unknown_bundle", "the kept bundle is another one", "send the whole bundle")
        differences, _ = compare(kept, _sections(request), self._cache)
        return {"in_sync": not differences, "differences": differences}

    def bundle(self, request: Request, emit: Emit) -> Result:
        """Take a bundle in."""
        if "bundle" not in request:
            raise Refusal("bad_request", "the request lacks the field bundle")
        return {"digest": self._shelf.keep_next(request["bundle"]).digest}

    def prepare(self, request: Request, emit: Emit) -> Result:
        """Say what an apply would do and which bodies it needs."""
        digest = _field(request, "digest", fields.sha256)
        ids = _sections(request)
        differences, wants = compare(self._shelf.find(digest), ids, self._cache)
        self._prepared = (digest, ids, wants)
        return {"differences": differences, "wants": wants}

    def blob(self, request: Request, emit: Emit) -> Result:
        """Take a body or a part of one in."""
        sha256 = _field(request, "sha256", fields.sha256)
        more = _field(request, "more", fields.boolean)
        data = request.get("data")
        if not isinstance(data, str):
            raise Refusal("bad_request", "data is not a text")
        self._intake.add(sha256, data, more=more)
        return {}

    def apply(self, request: Request, emit: Emit) -> Result:
        """Start an apply and follow it. A deployment that is known is not started again, only followed."""
        deployment = _field(request, "deployment", fields.ulid)
        digest = _field(request, "digest", fields.sha256)
        fence = _field(request, "fence", fields.number(0, 2**53))
        ids = _sections(request)
        seconds = _CONFIRM_SECONDS
        if "confirm" in request:
            seconds = _field(request, "confirm", fields.number(1, 3600))
        if not journal.exists(deployment):
            if fence < lock.fence():
                raise Refusal("fenced", lock.stale_text())
            self._start(deployment, self._shelf.find(digest), ids, fence, seconds)
        return follow(deployment, 0, emit, self._wire.check)

    def _start(
        self, deployment: str, wanted: Bundle, ids: Optional[List[str]], fence: int, seconds: int
    ) -> None:
        chosen = [section.id for section in wanted.chosen(ids)]
        self._demand_bodies(wanted, ids)
        intent = {
            "digest": wanted.digest,
            "ids": ids,
            "sections": chosen,
            "fence": fence,
            "confirm": seconds,
            "at": journal.now(),
        }
        try:
            with lock.exclusive():
                other = lock.claimed()
                if other is not None:
                    raise _busy(other)
                _refuse_unconfirmed()
                _admit(fence)
                journal.create(deployment, intent, canonical.dumps(wanted.value))
                lock.claim(deployment)
        except lock.Held:
            raise _busy(lock.running() or "") from None
        except OSError as error:
            journal.discard(deployment)
            raise Refusal(
                "internal", "cannot write the journal in {}: {}".format(places.STATE, cause(error))
            ) from None
        try:
            launch.start_runner(deployment)
        except Refusal:
            lock.release(deployment)
            journal.discard(deployment)
            raise

    def _demand_bodies(self, wanted: Bundle, ids: Optional[List[str]]) -> None:
        """Raise Refusal (`missing_blobs`) unless every body that the apply needs is here."""
        if self._prepared is not None and self._prepared[:2] == (wanted.digest, ids):
            wants = [sha256 for sha256 in self._prepared[2] if not blobs.have(sha256)]
        else:
            wants = compare(wanted, ids, self._cache)[1]
        self._prepared = None
        if wants:
            raise Refusal("missing_blobs", "the apply needs bodies that are not here", "", {"wants": wants})

    def status(self, request: Request, emit: Emit) -> Result:
        """Follow an apply from an event on."""
        deployment = _field(request, "deployment", fields.ulid)
        seen = request.get("from", 0)
        if type(seen) is not int or seen < 0:
            raise Refusal("bad_request", "from is the number of events already seen")
        if not journal.exists(deployment):
            raise Refusal("unknown_deployment", "no deployment {} is known here".format(deployment))
        return follow(deployment, seen, emit, self._wire.check)

    def cancel(self, request: Request, emit: Emit) -> Result:
        """Have an apply stopped that may run elsewhere. Says whether there is something to stop."""
        deployment = _field(request, "deployment", fields.ulid)
        _admit(_field(request, "fence", fields.number(0, 2**53)))
        if journal.outcome(deployment) is not None:
            return {"state": "ended"}
        # also when no runner is in sight: one that comes late, or an apply that is asked for later, must find it
        cancel.ask(deployment)
        if not journal.exists(deployment):
            cancel.forget_early()
            return {"state": "unknown"}
        over = journal.outcome(deployment) is not None or lock.running() != deployment
        return {"state": "ended" if over else "stopping"}

    def confirm(self, request: Request, emit: Emit) -> Result:
        """The daemon came back after a change that could have locked it out."""
        return {"state": guard.confirm(_field(request, "deployment", fields.ulid))}

    def units(self, request: Request, emit: Emit) -> Result:
        """How units are doing."""
        names = _field(request, "names", fields.list_of(fields.unit, most=_MOST_UNITS, least=1))
        return {"units": observe.describe_units(names)}

    def avc(self, request: Request, emit: Emit) -> Result:
        """What SELinux refused since the cursor."""
        most = _field(request, "most", fields.number(1, _MOST_DENIALS))
        given = request.get("cursor")
        try:
            cursor = None if given is None else auditlog.Cursor.of(given)
        except ValueError as error:
            raise Refusal("bad_request", "cursor {}".format(error)) from None
        return denials.collect(cursor, most)

    def updates(self, request: Request, emit: Emit) -> Result:
        """What the repositories offer for packages that are installed."""
        names = _field(request, "packages", fields.list_of(fields.package, most=_MOST_PACKAGES, least=1))
        return {"packages": updates.available(names)}

    def inventory(self, request: Request, emit: Emit) -> Result:
        """What is on the node, for an import."""
        return inventory.collect()


def _admit(fence: int) -> None:
    """Raise Refusal (`fenced`) for an older daemon."""
    try:
        lock.admit(fence)
    except lock.Stale as stale:
        raise Refusal("fenced", str(stale)) from None


def _refuse_unconfirmed() -> None:
    """Raise Refusal (`unconfirmed`) while an earlier apply waits: what it did may be put back at any moment."""
    other = guard.waiting()
    if other is not None:
        raise Refusal(
            "unconfirmed",
            "what deployment {} did could have locked the daemon out, and is not confirmed yet".format(other),
            "confirm it over a new connection, or wait until the node has undone it",
            {"deployment": other},
        )


def _busy(deployment: str) -> Refusal:
    return Refusal("busy", "another apply is running", "wait for it or follow it", {"deployment": deployment})
