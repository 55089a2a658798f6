"""What files, folders and links have in common: looking, recording what stands there, putting it back."""

import errno
import os
import stat
from typing import Any, Dict, List, Optional

from .. import atomic, observe, walk
from ..faults import StepFault, os_fault
from ..vocabulary import Step
from .contract import Change, Run, change

UNIT_FOLDER = "/etc/systemd/system/"


def owner_of(step: Step) -> atomic.Owner:
    """Numeric owner, group and mode of a step. Raises StepFault when a name is unknown."""
    return atomic.Owner(observe.uid_of(step["owner"]), observe.gid_of(step["group"]), int(step["mode"], 8))


def metadata_changes(step: Step, info: os.stat_result, world: observe.World) -> List[Change]:
    """Differences of owner, group and mode."""
    found = []
    for field, now in (
        ("owner", world.user_name(info.st_uid)),
        ("group", world.group_name(info.st_gid)),
        ("mode", walk.mode_text(info)),
    ):
        if now != step[field]:
            found.append(change(field, now, step[field]))
    return found


def kind_change(info: os.stat_result, wanted: str) -> Change:
    """The difference when something of another kind stands there."""
    return change("type", walk.kind(info), wanted)


def record(path: str, run: Run) -> Dict[str, Any]:
    """What stands at a path, as `restore` wants it. Raises StepFault."""
    try:
        with walk.parent_of(path) as parent:
            found = run.journal.snapshot(parent)
    except FileNotFoundError:
        found = {"kind": "absent"}  # a folder above is missing; applying will say so
    except OSError as error:
        raise os_fault("look at", path, error) from None
    found["path"] = path
    return found


def note_change(path: str, run: Run) -> None:
    """Tell the run when a unit file was touched."""
    if path.startswith(UNIT_FOLDER):
        run.on_unit_file()


def restore(found: Dict[str, Any], copies: str, run: Run) -> bool:
    """Put back what `record` found. False when a folder that was made is in use by now. Raises StepFault."""
    path = found["path"]
    try:
        with walk.parent_of(path) as parent:
            atomic.remove_temporary(parent)
            done = _restore(found, parent, copies)
            os.fsync(parent.fd)
    except FileNotFoundError:
        return bool(found["kind"] == "absent")
    except OSError as error:
        raise os_fault("put back", path, error) from None
    note_change(path, run)
    return done


def _restore(found: Dict[str, Any], parent: walk.Parent, copies: str) -> bool:
    kind = found["kind"]
    if kind == "absent":
        return remove(parent)
    if kind == "symlink":
        atomic.link(parent, found["target"])
        return True
    owner = atomic.Owner(found["uid"], found["gid"], found["mode"])
    if kind == "directory":
        if walk.look(parent) is None:
            atomic.make_folder(parent)
        own_folder(parent, owner)
        return True
    source = os.open(os.path.join(copies, found["copy"]), os.O_RDONLY | os.O_CLOEXEC)
    try:
        atomic.replace(parent, lambda target: _copied(source, target), owner)
    finally:
        os.close(source)
    return True


def _copied(source: int, target: int) -> None:
    os.lseek(source, 0, os.SEEK_SET)
    atomic.copy(source, target)


def own_folder(parent: walk.Parent, owner: atomic.Owner) -> None:
    """Set owner and mode of a folder on its descriptor. Raises OSError."""
    fd = walk.open_folder(parent)
    try:
        os.fchown(fd, owner.uid, owner.gid)
        os.fchmod(fd, owner.mode)
        os.fsync(fd)
    finally:
        os.close(fd)


def remove(parent: walk.Parent) -> bool:
    """Remove a file, a link or an empty folder; False when a folder is not empty. Raises OSError."""
    info = walk.look(parent)
    if info is None:
        return True
    if not stat.S_ISDIR(info.st_mode):
        os.unlink(parent.name, dir_fd=parent.fd)
        return True
    try:
        os.rmdir(parent.name, dir_fd=parent.fd)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def refuse_other_kind(info: Optional[os.stat_result], path: str, wanted: str) -> None:
    """Raise StepFault when something stands at the path that a step must not replace."""
    if info is None:
        return
    kind = walk.kind(info)
    replaceable = {"file": ("file", "symlink"), "symlink": ("symlink", "file"), "directory": ("directory",)}
    if kind not in replaceable[wanted]:
        raise StepFault("{} is a {}, not a {}; it is left alone, move it aside".format(path, kind, wanted))
