"""Steps that could lock us out undo themselves, unless somebody who could connect anew confirms them.

Before the first of them changes anything, `arm` writes down durably that they wait, and has systemd start a timer of
its own that also begins anew after a reboot. `confirm` ends the wait; when the timer is first, `revert` puts the steps
back, in a process that needs neither the daemon nor the connection. Both hold the lock of applies, so only one wins.
"""

import os
import sys
import time
from typing import Any, Dict, List, Optional

from . import atomic, facts, hashes, journal, launch, lock, places
from .faults import Refusal, StepFault
from .guarded import UNDONE, is_guarded
from .journal import Journal, Undo
from .observe import World
from .scrub import Scrubber
from .section import fault_text
from .steps import handler_of, units
from .steps.contract import Run

PATH = places.STATE + "/unconfirmed.json"
_CONFIRM_LOCK_SECONDS = 60.0
_REVERT_LOCK_SECONDS = 3600.0
_TICKS = os.sysconf("SC_CLK_TCK")


def waiting() -> Optional[str]:
    """The deployment whose steps wait to be confirmed, None when there is none."""
    note = _note()
    return None if note is None else str(note["deployment"])


def _note() -> Optional[Dict[str, Any]]:
    note = atomic.load_json(PATH)
    return note if isinstance(note, dict) else None


def arm(deployment: str, seconds: int) -> None:
    """From now on what is guarded is put back after so many seconds. Raises StepFault, OSError; nothing may be changed in that case."""
    journal.crash_point()
    note = {
        "deployment": deployment,
        "seconds": seconds,
        "settled": None,
        "boot": places.boot_id(),
    }
    atomic.save_json(PATH, note)
    journal.crash_point()
    try:
        launch.start_timer(deployment, seconds)
    except StepFault:
        atomic.forget(PATH)
        launch.stop_timer()
        raise
    journal.crash_point()


def settled() -> None:
    """Everything guarded is in place: connections made from now on count. Raises OSError."""
    note = _note()
    if note is not None:
        note["settled"] = _uptime()
        atomic.save_json(PATH, note)


def disarm() -> None:
    """Nothing waits any more. What was decided is on disk before the timer is taken away."""
    atomic.forget(PATH)
    journal.crash_point()
    launch.stop_timer()


def confirm(deployment: str) -> str:
    """A daemon has come back: `confirmed`, or `undone` when the node was first.

    Raises Refusal: `unknown_deployment`, `busy` while the apply runs, `stale_connection` when the connection is older than
    what it is to prove.
    """
    if not journal.exists(deployment):
        raise Refusal("unknown_deployment", "no deployment {} is known here".format(deployment))
    try:
        with lock.exclusive(_CONFIRM_LOCK_SECONDS):
            note = _note()
            if note is None or note["deployment"] != deployment:
                known = journal.outcome(deployment) or {}
                return "undone" if known.get("confirm") == "undone" else "confirmed"
            if note.get("undoing"):  # whoever began has died
                _undo(note)
                return "undone"
            _refuse_old_connection(note)
            journal.crash_point()
            atomic.forget(PATH)
            journal.crash_point()
            result = journal.outcome(deployment)
            if result is not None:
                result["confirm"] = "given"
                atomic.save_json(journal.folder(deployment) + "/outcome.json", result)
                journal.drop_undo(deployment)
            launch.stop_timer()
            return "confirmed"
    except lock.Held:
        other = lock.running() or ""
        raise Refusal("busy", "the apply is not over yet", "follow it first", {"deployment": other}) from None


def revert(deployment: str, after: float = 0.0) -> int:
    """Entry of `revert`, which the timer starts: put back what nobody confirmed of this deployment, and of no other, for a
    timer may have been left behind. `after` so many seconds, where there is no systemd to wait. 0 when nothing is left to
    do, 1 when it is to be tried again."""
    time.sleep(after)
    try:
        with lock.exclusive(_REVERT_LOCK_SECONDS):
            note = _note()
            if note is None:
                launch.stop_timer()
                return 0
            if note["deployment"] == deployment:
                _undo(note)
            return 0
    except lock.Held:
        sys.stderr.write("an apply has held the lock for an hour\n")
        return 1


def _undo(note: Dict[str, Any]) -> None:
    """Put every guarded step back, the last first, and say so in the outcome. Safe to begin again at any point."""
    deployment = note["deployment"]
    note["undoing"] = True
    journal.crash_point()
    atomic.save_json(PATH, note)
    journal.crash_point()
    back = [undo for undo in reversed(journal.undo_records(deployment)) if is_guarded(undo.key)]
    events = Journal(deployment, lambda text: text)
    left = _put_back(back, _run(deployment, events), events)
    _tell(deployment, {undo.section for undo in back}, left)
    journal.crash_point()
    disarm()


def _put_back(back: List[Undo], run: Run, events: Journal) -> List[Undo]:
    """The steps that could not be put back."""
    left = []
    changed_units = False
    for undo in back:
        copies = places.real(journal.folder(undo.journal))
        try:
            done = bool(undo.record) and handler_of(undo.key).undo(undo.record, copies, run)
        except (StepFault, OSError) as error:
            done = False
            text = "cannot put back: {}\n".format(fault_text(error))
            events.event("log", section=undo.section, key=undo.key, stream="stderr", text=text)
        if done:
            events.event("rolled_back", section=undo.section, key=undo.key)
        else:
            left.append(undo)
        changed_units = changed_units or undo.record.get("path", "").startswith("/etc/systemd/system/")
    if changed_units:
        units.daemon_reload()
    return left


def _run(deployment: str, events: Journal) -> Run:
    """What an undo may use outside an apply."""
    cache = hashes.Cache()
    world = World((), facts.package_manager(), cache, patient=True)

    def log(stream: str, text: str) -> None:
        events.event("log", stream=stream, text=text)

    def read_units() -> None:
        message = units.daemon_reload()
        if message:
            raise StepFault(message)

    def nothing(unit: str) -> None:
        """No unit waits for anything here."""

    return Run(deployment, world, events, Scrubber(), log, lambda: None, read_units, nothing, nothing)


def _tell(deployment: str, sections: Any, left: List[Undo]) -> None:
    """Write into the outcome that these sections have failed. An apply that was interrupted has none; the records of what
    is put back stay for the next apply, which puts it back once more."""
    result = journal.outcome(deployment)
    if result is None:
        return
    for name in sections:
        entry = result["sections"].setdefault(name, {"changed": 0, "kept": []})
        entry["state"] = "failed"
        entry["message"] = UNDONE
        entry["kept"] = sorted(set(entry["kept"]) | {undo.key for undo in left if undo.section == name})
    result["state"] = "failed" if result["state"] == "succeeded" else result["state"]
    result["confirm"] = "undone"
    atomic.save_json(journal.folder(deployment) + "/outcome.json", result)
    journal.drop_undo(deployment)


def finished(result: Dict[str, Any]) -> Dict[str, Any]:
    """The outcome of an apply that is over, with what still has to be confirmed."""
    note = _note()
    if note is None or note["deployment"] != result["deployment"]:
        return result
    return dict(result, confirm="wanted", confirm_seconds=note["seconds"])


# how old a connection is


def _uptime() -> float:
    """Seconds since the boot, as process start times are counted."""
    with open("/proc/uptime") as source:
        return float(source.read().split()[0])


def _refuse_old_connection(note: Dict[str, Any]) -> None:
    """Raise Refusal when this conversation's SSH session began before everything guarded was in place: it proves nothing,
    for firewalls and sshd leave open what is open."""
    settled_at = note.get("settled")
    began = session_began()
    if places.testing() or settled_at is None or began is None or note["boot"] != places.boot_id():
        return
    if began < float(settled_at):
        raise Refusal(
            "stale_connection", "this connection is older than what it is to confirm", "connect anew"
        )


def session_began() -> Optional[float]:
    """When the SSH session that this process belongs to began, in seconds since the boot; None when it is not in one, or
    may not see it. The process of a session is called `sshd`, from OpenSSH 9.8 on `sshd-session`."""
    number = os.getppid()
    for _ in range(10):
        try:
            with open("/proc/{}/stat".format(number), "rb") as source:
                text = source.read().decode("utf-8", "replace")
        except OSError:
            return None
        name, _, rest = text.partition("(")[2].rpartition(")")
        fields = rest.split()
        if name.startswith("sshd"):
            return int(fields[19]) / _TICKS
        number = int(fields[1])
        if number <= 1:
            return None
    return None
