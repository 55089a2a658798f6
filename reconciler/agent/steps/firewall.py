"""The node's firewall: one table of our own for nftables, one zone of our own for firewalld. Nothing else is touched.

firewalld: the zone is the default zone, so it holds for every interface that nobody has put into another zone; those of
containers and of virtual machines keep theirs. nftables: a packet that any table drops is dropped, so other tables may
only restrict further.
"""

import hashlib
import os
from contextlib import suppress
from typing import Any, Dict, List, NamedTuple, Optional

from .. import atomic, blobs, places, process, walk
from ..faults import StepFault, os_fault
from ..observe import World
from ..vocabulary import Step
from . import paths, units
from .contract import Change, Finding, Handler, Run, absent, change

NOTE = places.STATE + "/firewall.json"
ZONE = "panel"
_CONF = "/etc/firewalld/firewalld.conf"
_TABLE = ["nft", "list", "table", "inet", "panel"]
_SECONDS = 60.0


class Place(NamedTuple):
    """Where a backend reads its rules, and the unit that applies them."""

    path: str
    unit: str


PLACES = {
    "firewalld": Place("/etc/firewalld/zones/panel.xml", "firewalld.service"),
    "nftables": Place("/etc/panel/firewall.nft", "panel-firewall.service"),
}


def _must(argv: List[str], stdin: Optional[bytes] = None) -> str:
    done = process.run(argv, stdin=stdin, timeout=_SECONDS)
    if not done.ok():
        raise StepFault(done.reason(" ".join(argv[:2])))
    return done.out


def _table() -> Optional[str]:
    """The rules of our table as the kernel has them; None when there is no such table."""
    done = process.run(_TABLE, timeout=_SECONDS)
    if done.code == 127:
        return None
    return done.out if done.ok() else None


def _digest(text: Optional[str]) -> Optional[str]:
    return None if text is None else hashlib.sha256(text.encode("utf-8")).hexdigest()


def _zone() -> str:
    """The default zone of firewalld, from its configuration: asking the daemon takes a third of a second."""
    with suppress(OSError), open(places.real(_CONF), "rb") as source:
        for line in source.read(65536).decode("utf-8", "replace").splitlines():
            name, _, value = line.partition("=")
            if name.strip() == "DefaultZone":
                return value.strip()
    return "public"


def _note() -> Dict[str, Any]:
    note = atomic.load_json(NOTE)
    return note if isinstance(note, dict) else {}


class Firewall(Handler):
    """`firewall`: `backend`, and the rules as a body."""

    def check(self, step: Step, world: World) -> Optional[Finding]:
        """Compare the unit, what was loaded last, and what the kernel (nftables) or the configuration (firewalld) has."""
        backend = step["backend"]
        note = _note()
        if absent(step):
            return Finding("delete", []) if note.get("backend") == backend else None
        state = units.state_of(PLACES[backend].unit)
        changes: List[Change] = []
        for field, now in (("active", state.is_active()), ("enabled", state.is_enabled())):
            if not now:
                changes.append(change(field, now, not now))
        # firewalld writes its files anew in its own words, so the file is compared with what it became
        if note.get("sha256") != step["sha256"]:
            changes.append(change("sha256", note.get("sha256"), step["sha256"]))
        elif self._body_now(backend) != note.get("file"):
            changes.append(change("file", "other rules", "the declared rules"))
        if backend == "firewalld":
            if _zone() != ZONE:
                changes.append(change("zone", _zone(), ZONE))
        elif _digest(_table()) != note.get("table"):
            changes.append(change("table", "other rules", "the rules of the file"))
        if not changes:
            return None
        return Finding("update" if note else "create", changes, body=step["sha256"])

    def _body_now(self, backend: str) -> Optional[str]:
        try:
            with open(places.real(PLACES[backend].path), "rb") as source:
                return hashlib.sha256(source.read()).hexdigest()
        except OSError:
            return None

    def record(self, step: Step, run: Run) -> Dict[str, Any]:
        """The file, the unit, the zone or the table, and what is remembered of before."""
        backend = step["backend"]
        state = units.state_of(PLACES[backend].unit)
        return {
            "backend": backend,
            "file": paths.record(PLACES[backend].path, run),
            "active": state.is_active(),
            "enabled": state.is_enabled(),
            "zone": _zone() if backend == "firewalld" else "",
            "table": _table() if backend == "nftables" else None,
            "note": _note(),
        }

    def apply(self, step: Step, run: Run) -> None:
        """Write the rules, have them checked, load them. Raises StepFault."""
        backend = step["backend"]
        run.before_units()
        note = _note()
        if absent(step):
            self._leave(backend, note)
            atomic.forget(NOTE)
            return
        before = note.get("before")
        if before is None:
            state = units.state_of(PLACES[backend].unit)
            before = {
                "active": state.is_active() and backend == "firewalld",
                "enabled": state.is_enabled() and backend == "firewalld",
                "zone": _zone(),
            }
        # remembered before anything changes, so that a removal knows the way back; in sync only once `sha256` is there
        atomic.save_json(NOTE, {"backend": backend, "before": before})
        self._write(PLACES[backend].path, step["sha256"])
        if backend == "firewalld":
            self._load_zone()
        else:
            self._load_table()
        loaded = {
            "sha256": step["sha256"],
            "file": self._body_now(backend),
            "table": _digest(_table()) if backend == "nftables" else None,
        }
        atomic.save_json(NOTE, dict(loaded, backend=backend, before=before))

    def _write(self, path: str, sha256: str) -> None:
        source = blobs.open_body(sha256)
        try:
            with walk.parent_of(path) as parent:
                # firewalld makes the folder of its zones itself; the package brings it
                os.lseek(source, 0, os.SEEK_SET)
                mode = 0o644 if path.endswith(".xml") else 0o600
                atomic.replace(parent, lambda target: self._fill(source, target), atomic.Owner(0, 0, mode))
        except OSError as error:
            raise os_fault("write", path, error) from None
        finally:
            os.close(source)

    def _fill(self, source: int, target: int) -> None:
        atomic.copy(source, target)

    def _load_zone(self) -> None:
        _must(["firewall-offline-cmd", "--check-config"])
        unit = PLACES["firewalld"].unit
        state = units.state_of(unit)
        if state.is_active():
            _must(["firewall-cmd", "--reload"])
            if _zone() != ZONE:
                _must(["firewall-cmd", "--set-default-zone=" + ZONE])
        elif _zone() != ZONE:
            _must(["firewall-offline-cmd", "--set-default-zone=" + ZONE])
        self._switch(unit, active=True, enabled=True)

    def _load_table(self) -> None:
        place = PLACES["nftables"]
        _must(["nft", "--check", "--file", places.real(place.path)])
        if units.state_of(place.unit).is_active():
            message = units.control("reload", place.unit)
            if message:
                raise StepFault(message)
        self._switch(place.unit, active=True, enabled=True)

    def _switch(self, unit: str, *, active: bool, enabled: bool) -> None:
        state = units.state_of(unit)
        verbs = []
        if state.is_enabled() != enabled:
            verbs.append("enable" if enabled else "disable")
        if state.is_active() != active:
            verbs.append("start" if active else "stop")
        for verb in verbs:
            message = units.control(verb, unit)
            if message:
                raise StepFault(message)

    def _leave(self, backend: str, note: Dict[str, Any]) -> None:
        """Back to the firewall that the node had before there was ours."""
        before = note.get("before") or {"active": False, "enabled": False, "zone": "public"}
        place = PLACES[backend]
        if backend == "firewalld":
            self._zone_back(before["zone"], active=before["active"], enabled=before["enabled"])
            self._unlink(place.path)
            if before["active"]:
                _must(["firewall-cmd", "--reload"])
        else:
            self._switch(place.unit, active=False, enabled=False)
            self._unlink(place.path)

    def _unlink(self, path: str) -> None:
        try:
            with walk.parent_of(path) as parent:
                paths.remove(parent)
        except FileNotFoundError:
            return
        except OSError as error:
            raise os_fault("remove", path, error) from None

    def _zone_back(self, zone: str, *, active: bool, enabled: bool) -> None:
        """The default zone and the unit as they were. Firewalld is stopped first when it did not run: what it refuses
        meanwhile nobody asked for."""
        unit = PLACES["firewalld"].unit
        if not active:
            self._switch(unit, active=False, enabled=enabled)
            if zone != _zone():
                _must(["firewall-offline-cmd", "--set-default-zone=" + zone])
            return
        self._switch(unit, active=True, enabled=enabled)
        if zone != _zone():
            _must(["firewall-cmd", "--set-default-zone=" + zone])

    def undo(self, record: Dict[str, Any], copies: str, run: Run) -> bool:
        """The rules, the zone and the unit as they were."""
        if record["backend"] == "firewalld":
            if record["zone"] == ZONE:
                paths.restore(record["file"], copies, run)
            self._zone_back(record["zone"], active=record["active"], enabled=record["enabled"])
            if record["zone"] != ZONE:
                paths.restore(record["file"], copies, run)
            if record["active"]:
                _must(["firewall-cmd", "--reload"])
        else:
            self._table_back(record, copies, run)
        if record["note"]:
            atomic.save_json(NOTE, record["note"])
        else:
            atomic.forget(NOTE)
        return True

    def _table_back(self, record: Dict[str, Any], copies: str, run: Run) -> None:
        """The kernel first, in one transaction: whoever is shut out must not wait for units."""
        rules = "table inet panel {{}}\ndelete table inet panel\n{}".format(record["table"] or "")
        _must(["nft", "--file", "-"], stdin=rules.encode("utf-8"))
        paths.restore(record["file"], copies, run)
        unit = PLACES["nftables"].unit
        if not record["active"]:
            self._switch(unit, active=False, enabled=record["enabled"])
        elif not units.state_of(unit).is_active():
            self._switch(unit, active=True, enabled=record["enabled"])
