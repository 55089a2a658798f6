"""The node's clock zone and its swap file."""

import os
import shutil
import stat
from contextlib import suppress
from typing import Any, Dict, Optional

from .. import atomic, places, process, selinux, walk
from ..faults import StepFault, cause, os_fault
from ..observe import World
from ..vocabulary import Step
from . import units
from .contract import Finding, Handler, Run, absent, change

NOTE = places.STATE + "/timezone.json"
_ZONES = "/usr/share/zoneinfo/"
_LOCAL = "/etc/localtime"
_SWAP = "/var/lib/panel-swap"
_SWAP_UNIT = "var-lib-panel\\x2dswap.swap"
_UNIT_FILE = "/etc/systemd/system/" + _SWAP_UNIT
_UNIT = """\
[Unit]
Description=Swap file of the panel

[Swap]
What={path}

[Install]
WantedBy=swap.target
"""
_FREE = 1024 * 1024 * 1024
_SECONDS = 900.0


class TimeZone(Handler):
    """`timezone`. What the node had before is remembered, and comes back when the step is removed."""

    def _now(self) -> str:
        try:
            target = os.readlink(places.real(_LOCAL))
        except OSError:
            return "UTC"  # no link: the C library takes UTC, or a copied file of which the name is not known
        return target.partition("zoneinfo/")[2] or "UTC"

    def _before(self) -> str:
        note = atomic.load_json(NOTE)
        return str(note["before"]) if isinstance(note, dict) else ""

    def check(self, step: Step, world: World) -> Optional[Finding]:
        """Compare the link."""
        wanted = self._before() if absent(step) else step["zone"]
        now = self._now()
        if absent(step) and not wanted:
            return None
        if now == wanted and not absent(step):
            return None
        return Finding("delete" if absent(step) else "update", [change("zone", now, wanted)])

    def record(self, step: Step, run: Run) -> Dict[str, Any]:
        """The zone so far."""
        return {"zone": self._now(), "before": self._before()}

    def apply(self, step: Step, run: Run) -> None:
        """Set it. Raises StepFault for a zone that the node does not know."""
        before = self._before()
        if absent(step):
            self._set(before)
            atomic.forget(NOTE)
            return
        if not before:
            atomic.save_json(NOTE, {"before": self._now()})
        self._set(step["zone"])

    def _set(self, zone: str) -> None:
        if not os.path.isfile(places.real(_ZONES + zone)):
            raise StepFault("the node knows no time zone {}: install tzdata, or choose another".format(zone))
        try:
            with walk.parent_of(_LOCAL) as parent:
                atomic.link(parent, "../usr/share/zoneinfo/" + zone)
        except OSError as error:
            raise os_fault("write", _LOCAL, error) from None

    def undo(self, record: Dict[str, Any], copies: str, run: Run) -> bool:
        """Back to the old zone."""
        self._set(record["zone"])
        if record["before"]:
            atomic.save_json(NOTE, {"before": record["before"]})
        else:
            atomic.forget(NOTE)
        return True


class Swap(Handler):
    """`swap`: a file of `size` bytes and its unit; fstab is left alone. A file of another size is made anew."""

    def _size(self) -> int:
        try:
            return os.stat(places.real(_SWAP)).st_size
        except OSError:
            return 0

    def check(self, step: Step, world: World) -> Optional[Finding]:
        """Compare the size of the file and the unit's state."""
        size = self._size()
        there = os.path.exists(places.real(_UNIT_FILE))
        if absent(step):
            return Finding("delete", []) if size or there else None
        changes = []
        if size != step["size"]:
            changes.append(change("size", size, step["size"]))
        state = units.state_of(_SWAP_UNIT)
        for field, now in (("active", state.is_active()), ("enabled", state.is_enabled())):
            if not now:
                changes.append(change(field, now, not now))
        if not changes:
            return None
        return Finding("update" if size else "create", changes)

    def record(self, step: Step, run: Run) -> Dict[str, Any]:
        """The size so far: what is swapped out goes back into memory, so the contents need not be kept."""
        return {"size": self._size()}

    def apply(self, step: Step, run: Run) -> None:
        """Make or remove it. Raises StepFault when there is no room, or the kernel lets nobody swap here."""
        self._make(0 if absent(step) else step["size"])

    def _make(self, size: int) -> None:
        self._end()
        if not size:
            return
        free = shutil.disk_usage(os.path.dirname(places.real(_SWAP))).free
        if size + _FREE > free:
            text = "a swap file of {} MiB would leave less than 1 GiB of the {} MiB that are free in {}"
            raise StepFault(text.format(size // 1024**2, free // 1024**2, os.path.dirname(_SWAP)))
        try:
            self._fill(size)
            with walk.parent_of(_UNIT_FILE) as parent:
                body = _UNIT.format(path=_SWAP).encode("ascii")
                atomic.replace(parent, lambda fd: atomic.write_all(fd, body), atomic.Owner(0, 0, 0o644))
        except OSError as error:
            raise StepFault("cannot make {}: {}".format(_SWAP, cause(error))) from None
        done = process.run(["mkswap", places.real(_SWAP)], timeout=_SECONDS)
        if not done.ok():
            raise StepFault(done.reason("mkswap"))
        message = (
            units.daemon_reload() or units.control("enable", _SWAP_UNIT) or units.control("start", _SWAP_UNIT)
        )
        if message:
            raise StepFault(message)

    def _fill(self, size: int) -> None:
        """All blocks are allocated: swapon refuses holes. Where the file system cannot set them aside (or, as btrfs, wants
        no copy on write), zeros are written. Raises OSError."""
        path = places.real(_SWAP)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with selinux.creating(_SWAP, stat.S_IFREG):  # mkswap's domain may write to no other type
            fd = os.open(path, flags, 0o600)
        try:
            process.run(
                ["chattr", "+C", path], timeout=30
            )  # fails where there is no such flag, and none is needed
            kind = process.run(["stat", "-f", "-c", "%T", path], timeout=30).out.strip()
            if kind == "xfs" or not self._allocated(fd, size):
                zeros = bytes(1024 * 1024)
                left = size
                while left > 0:
                    atomic.write_all(fd, zeros[: min(left, len(zeros))])
                    left -= len(zeros)
            os.fsync(fd)
        finally:
            os.close(fd)

    def _allocated(self, fd: int, size: int) -> bool:
        try:
            os.posix_fallocate(fd, 0, size)
        except OSError:
            os.ftruncate(fd, 0)
            return False
        return True

    def _end(self) -> None:
        if os.path.exists(places.real(_UNIT_FILE)):
            for verb in ("stop", "disable"):
                message = units.control(verb, _SWAP_UNIT)
                if message and verb == "stop":
                    raise StepFault(message)
        for path in (_UNIT_FILE, _SWAP):
            with suppress(FileNotFoundError):
                os.unlink(places.real(path))
        units.daemon_reload()

    def undo(self, record: Dict[str, Any], copies: str, run: Run) -> bool:
        """A file of the old size, or none."""
        self._make(record["size"])
        return True
