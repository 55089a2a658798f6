"""What an apply writes down: its intent, every event, how to undo each step, and the outcome.

A folder per deployment below `/var/lib/panel/journal`: `intent.json`, `bundle.json`, `events.ndjson`, `undo.ndjson`,
`snapshots/`, `outcome.json`. An undo record is on disk, synced, before its step changes anything.
"""

import json
import os
import shutil
import signal
import time
from contextlib import suppress
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional

from . import atomic, places, walk
from .faults import StepFault, os_fault

MAX_SNAPSHOT = 256 * 1024 * 1024
_KEPT_JOURNALS = 50

_death = {"left": int(os.environ.get("PANEL_TEST_DIE_AT", "0")) if places.testing() else 0}


def crash_point() -> None:
    """Called at each durable write. In a test that asks for it, the process is killed at the n-th call."""
    if _death["left"] > 0:
        _death["left"] -= 1
        if _death["left"] == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def now() -> str:
    """The time as the protocol writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class Undo(NamedTuple):
    """How to put one step back. `journal` is the deployment whose snapshots it refers to."""

    journal: str
    section: str
    key: str
    record: Dict[str, Any]


def folder(deployment: str) -> str:
    """The node path of a deployment's folder."""
    return "{}/{}".format(places.JOURNAL, deployment)


def exists(deployment: str) -> bool:
    """True when the deployment is known on this node."""
    return os.path.exists(places.real(folder(deployment) + "/intent.json"))


def outcome(deployment: str) -> Optional[Dict[str, Any]]:
    """The outcome on disk, None while there is none."""
    value = atomic.load_json(folder(deployment) + "/outcome.json")
    return value if isinstance(value, dict) else None


def intent(deployment: str) -> Dict[str, Any]:
    """What was asked for. Raises StepFault when it cannot be read."""
    value = atomic.load_json(folder(deployment) + "/intent.json")
    if not isinstance(value, dict):
        raise StepFault("the intent of deployment {} is missing".format(deployment))
    return value


def _lines(path: str) -> Iterator[Dict[str, Any]]:
    """The whole lines of a log; a last line cut by a crash is left out."""
    try:
        with open(places.real(path), "rb") as source:
            for line in source:
                if not line.endswith(b"\n"):
                    return
                try:
                    yield json.loads(line.decode("utf-8"))
                except ValueError:
                    return
    except FileNotFoundError:
        return


def events(deployment: str) -> List[Dict[str, Any]]:
    """Every event written so far."""
    return list(_lines(folder(deployment) + "/events.ndjson"))


def undo_records(deployment: str) -> List[Undo]:
    """Everything that was begun and not put back, in order."""
    found: List[Undo] = []
    for line in _lines(folder(deployment) + "/undo.ndjson"):
        if "record" in line:
            found.append(Undo(deployment, line["section"], line["key"], line["record"]))
        elif "undone" in line:
            found = [undo for undo in found if (undo.section, undo.key) != (line["section"], line["undone"])]
    return found


def doubt(deployment: str) -> Optional[str]:
    """The key of the step that was begun and of which no result is known."""
    open_key: Optional[str] = None
    for line in _lines(folder(deployment) + "/undo.ndjson"):
        if "record" in line:
            open_key = line["key"]
        elif line.get("done") == open_key or line.get("undone") == open_key:
            open_key = None
    return open_key


def create(deployment: str, wanted: Dict[str, Any], bundle: bytes) -> None:
    """Make the folder of a new deployment, durably. Raises OSError."""
    atomic.make_ballast()
    path = places.real(folder(deployment))
    os.makedirs(path + "/snapshots", 0o700, exist_ok=True)
    atomic.save_bytes(folder(deployment) + "/bundle.json", bundle)
    atomic.save_json(folder(deployment) + "/intent.json", wanted)
    atomic.sync_folder(os.path.dirname(path))


def discard(deployment: str) -> None:
    """Remove what `create` made of an apply that could not begin. A cancel of it stays: the apply may be asked for again."""
    path = places.real(folder(deployment))
    shutil.rmtree(path + "/snapshots", ignore_errors=True)
    for name in ("intent.json", "bundle.json"):
        with suppress(OSError):
            os.unlink("{}/{}".format(path, name))
    with suppress(OSError):
        os.rmdir(path)


def prune() -> None:
    """Remove the oldest journals beyond the number kept; never one without an outcome that is still owed work."""
    root = places.real(places.JOURNAL)
    names = sorted(
        name for name in os.listdir(root) if os.path.exists("{}/{}/outcome.json".format(root, name))
    )
    for name in names[:-_KEPT_JOURNALS]:
        shutil.rmtree(os.path.join(root, name), ignore_errors=True)


class Journal:
    """The journal of the apply that this process runs. Raises OSError when it cannot be written."""

    def __init__(self, deployment: str, clean: Callable[[str], str]) -> None:
        self.deployment = deployment
        self._clean = clean
        base = places.real(folder(deployment))
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self._events = os.open(base + "/events.ndjson", flags, 0o600)
        self._undo = os.open(base + "/undo.ndjson", flags, 0o600)
        self._count = len(events(deployment))
        self._snapshots = 0

    def event(self, kind: str, **values: Any) -> None:
        """Write one numbered event; texts are scrubbed."""
        self._count += 1
        line: Dict[str, Any] = {"n": self._count, "at": now(), "type": kind}
        for name, value in values.items():
            if value is not None:
                line[name] = self._clean(value) if isinstance(value, str) else value
        atomic.append_line(self._events, json.dumps(line, separators=(",", ":")).encode("utf-8") + b"\n")

    def begin(self, section: str, key: str, record: Dict[str, Any], *, durable: bool) -> Undo:
        """Write that a step begins and how to put it back; `durable` syncs this record and those before it."""
        crash_point()
        self._write_undo({"section": section, "key": key, "record": record}, sync=durable)
        crash_point()
        return Undo(self.deployment, section, key, record)

    def done(self, section: str, key: str) -> None:
        """Note that a step came to an end."""
        self._write_undo({"section": section, "done": key}, sync=False)
        crash_point()

    def undone(self, section: str, key: str) -> None:
        """Note that a step was put back."""
        self._write_undo({"section": section, "undone": key}, sync=False)
        crash_point()

    def _write_undo(self, line: Dict[str, Any], *, sync: bool) -> None:
        atomic.append_line(self._undo, json.dumps(line, separators=(",", ":")).encode("utf-8") + b"\n")
        if sync:
            os.fsync(self._undo)

    def snapshot(self, parent: walk.Parent) -> Dict[str, Any]:
        """What stands at a path now, with a copy of its body if it is a file. Raises StepFault."""
        info = walk.look(parent)
        if info is None:
            return {"kind": "absent"}
        kind = walk.kind(info)
        if kind == "symlink":
            return {"kind": kind, "target": os.readlink(parent.name, dir_fd=parent.fd)}
        state = {"kind": kind, "uid": info.st_uid, "gid": info.st_gid, "mode": info.st_mode & 0o7777}
        if kind == "special":
            raise StepFault("{} is neither a file nor a folder; it is left alone".format(parent.path))
        if kind == "file":
            if info.st_size > MAX_SNAPSHOT:
                raise StepFault(
                    "{} has {} bytes, too many to keep a copy of; move it aside".format(
                        parent.path, info.st_size
                    )
                )
            state["copy"] = self._copy(parent)
        return state

    def _copy(self, parent: walk.Parent) -> str:
        self._snapshots += 1
        name = "snapshots/{:06d}-{}".format(self._snapshots, os.getpid())
        path = places.real("{}/{}".format(folder(self.deployment), name))
        try:
            source = walk.open_file(parent)
            try:
                target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                try:
                    atomic.copy(source, target)
                    os.fsync(target)
                finally:
                    os.close(target)
            finally:
                os.close(source)
        except OSError as error:
            raise os_fault("keep a copy of {} in".format(parent.path), places.STATE, error) from None
        return name

    def finish(self, result: Dict[str, Any]) -> None:
        """Write the outcome, durably, and drop what only an unfinished apply needs."""
        crash_point()
        os.fsync(self._events)
        atomic.save_json(folder(self.deployment) + "/outcome.json", result)
        crash_point()


def drop_undo(deployment: str) -> None:
    """Remove copies and undo records once nothing can need them again."""
    base = places.real(folder(deployment))
    shutil.rmtree(base + "/snapshots", ignore_errors=True)
    for name in ("undo.ndjson", "bundle.json"):
        atomic.forget("{}/{}".format(folder(deployment), name))
