"""Files, folders and symbolic links."""

import hashlib
import os
from typing import Any, Dict, List, Optional

from .. import atomic, blobs, process, walk
from ..faults import StepFault, os_fault
from ..observe import World
from ..vocabulary import Step
from . import paths
from .contract import Change, Finding, Handler, Run, absent, change


class _PathHandler(Handler):
    """Common to the three: what stood there is recorded and can be put back."""

    def record(self, step: Step, run: Run) -> Dict[str, Any]:
        """What stands at the path."""
        return paths.record(step["path"], run)

    def undo(self, record: Dict[str, Any], copies: str, run: Run) -> bool:
        """Put it back."""
        return paths.restore(record, copies, run)

    def check(self, step: Step, world: World) -> Optional[Finding]:
        """Look without following links; a link in the way is a difference that says so."""
        path = step["path"]
        try:
            with walk.parent_of(path) as parent:
                info = walk.look(parent)
                if info is None:
                    return None if absent(step) else self._create(step)
                if absent(step):
                    return self._delete(parent, info)
                return self._compare(step, parent, info, world)
        except FileNotFoundError:
            return None if absent(step) else self._create(step)
        except StepFault as fault:
            return Finding("update", [], str(fault))
        except OSError as error:
            raise os_fault("look at", path, error) from None

    def _create(self, step: Step) -> Finding:
        raise NotImplementedError

    def _delete(self, parent: walk.Parent, info: os.stat_result) -> Optional[Finding]:
        return Finding("delete", [])

    def _compare(
        self, step: Step, parent: walk.Parent, info: os.stat_result, world: World
    ) -> Optional[Finding]:
        raise NotImplementedError


class Files(_PathHandler):
    """`file`: a body known by its sha256, owner, group and mode."""

    def _create(self, step: Step) -> Finding:
        changes = [change("sha256", None, step["sha256"])]
        changes += [change(field, None, step[field]) for field in ("owner", "group", "mode")]
        return Finding("create", changes, body=step["sha256"])

    def _compare(
        self, step: Step, parent: walk.Parent, info: os.stat_result, world: World
    ) -> Optional[Finding]:
        if walk.kind(info) != "file":
            return Finding("update", [paths.kind_change(info, "file")], body=step["sha256"])
        if step.get("once"):
            return None
        changes: List[Change] = []
        body = None
        if info.st_size != step["size"]:
            changes.append(change("sha256", world.cache.known(info), step["sha256"]))
            body = step["sha256"]
        else:
            now = _sha256(parent, info, world)
            if now != step["sha256"]:
                changes.append(change("sha256", now, step["sha256"]))
                body = step["sha256"]
        changes += paths.metadata_changes(step, info, world)
        return Finding("update", changes, body=body) if changes else None

    def apply(self, step: Step, run: Run) -> None:
        """Write the file, or only set its owner and mode when the body is right."""
        path = step["path"]
        try:
            with walk.parent_of(path) as parent:
                if absent(step):
                    self._remove(parent)
                else:
                    self._write(step, parent, run)
        except OSError as error:
            raise os_fault("remove" if absent(step) else "write", path, error) from None
        paths.note_change(path, run)

    def _remove(self, parent: walk.Parent) -> None:
        info = walk.look(parent)
        if info is not None and walk.kind(info) == "directory":
            raise StepFault("{} is a folder, not a file; it is left alone".format(parent.path))
        atomic.remove_temporary(parent)
        paths.remove(parent)
        os.fsync(parent.fd)

    def _write(self, step: Step, parent: walk.Parent, run: Run) -> None:
        info = walk.look(parent)
        paths.refuse_other_kind(info, parent.path, "file")
        owner = paths.owner_of(step)
        if info is not None and walk.kind(info) == "file" and info.st_size == step["size"]:
            fd = walk.open_file(parent)
            try:
                if run.world.cache.of_file(fd) == step["sha256"]:
                    _set_owner(step, parent, fd, owner)
                    return
            finally:
                os.close(fd)
        source = blobs.open_body(step["sha256"])
        try:
            if step.get("secret"):
                run.scrubber.learn_body(blobs.read_body(step["sha256"]))
            if (step.get("validate") or {}).get("type") == "sudoers":
                check_sudoers(blobs.read_body(step["sha256"]), parent.path)
            atomic.replace(parent, lambda target: _fill(source, target, step), owner)
        finally:
            os.close(source)


def check_sudoers(body: bytes, path: str) -> None:
    """Have visudo accept a body before it is put in place: a broken rule would lock this agent out."""
    done = process.run(["visudo", "-c", "-q", "-f", "-"], stdin=body, timeout=30)
    if not done.ok():
        raise StepFault("visudo does not accept {}: {}".format(path, done.reason("visudo")))


def _sha256(parent: walk.Parent, info: os.stat_result, world: World) -> str:
    known = world.cache.known(info)
    if known:
        return known
    fd = walk.open_file(parent)
    try:
        return world.cache.of_file(fd)
    finally:
        os.close(fd)


def _fill(source: int, target: int, step: Step) -> None:
    digest = hashlib.sha256()
    os.lseek(source, 0, os.SEEK_SET)
    size = atomic.copy(source, target, digest)
    if size != step["size"] or digest.hexdigest() != step["sha256"]:
        raise StepFault("the body sent for {} has not the announced size and sha256".format(step["path"]))


def _set_owner(step: Step, parent: walk.Parent, fd: int, owner: atomic.Owner) -> None:
    """Owner and mode of a file whose body is right. A file with a second name is made anew: the other name may be
    a system file that a site linked into its home."""
    if os.fstat(fd).st_nlink > 1:
        atomic.replace(parent, lambda target: _fill(fd, target, step), owner)
        return
    os.fchown(fd, owner.uid, owner.gid)
    os.fchmod(fd, owner.mode)
    os.fsync(fd)


class Directories(_PathHandler):
    """`directory`: owner, group and mode; never its contents."""

    def _create(self, step: Step) -> Finding:
        return Finding("create", [change(field, None, step[field]) for field in ("owner", "group", "mode")])

    def _delete(self, parent: walk.Parent, info: os.stat_result) -> Optional[Finding]:
        if walk.kind(info) != "directory":
            return Finding("delete", [], "it is a {}".format(walk.kind(info)))
        fd = walk.open_folder(parent)
        try:
            return None if os.listdir(fd) else Finding("delete", [])
        finally:
            os.close(fd)

    def _compare(
        self, step: Step, parent: walk.Parent, info: os.stat_result, world: World
    ) -> Optional[Finding]:
        if walk.kind(info) != "directory":
            return Finding("update", [paths.kind_change(info, "directory")])
        changes = paths.metadata_changes(step, info, world)
        return Finding("update", changes) if changes else None

    def apply(self, step: Step, run: Run) -> None:
        """Make the folder, or set its owner and mode; a removal takes only an empty one."""
        path = step["path"]
        try:
            with walk.parent_of(path) as parent:
                info = walk.look(parent)
                paths.refuse_other_kind(info, path, "directory")
                if absent(step):
                    paths.remove(parent)  # one that has been filled meanwhile is left, as a check would say
                else:
                    owner = paths.owner_of(step)
                    if info is None:
                        atomic.make_folder(parent)
                    paths.own_folder(parent, owner)
                os.fsync(parent.fd)
        except OSError as error:
            raise os_fault("remove" if absent(step) else "make", path, error) from None


class Symlinks(_PathHandler):
    """`symlink`: what it points at."""

    def _create(self, step: Step) -> Finding:
        return Finding("create", [change("target", None, step["target"])])

    def _delete(self, parent: walk.Parent, info: os.stat_result) -> Optional[Finding]:
        return Finding("delete", [])

    def _compare(
        self, step: Step, parent: walk.Parent, info: os.stat_result, world: World
    ) -> Optional[Finding]:
        if walk.kind(info) != "symlink":
            return Finding("update", [paths.kind_change(info, "symlink")])
        target = os.readlink(parent.name, dir_fd=parent.fd)
        if target == step["target"]:
            return None
        return Finding("update", [change("target", target, step["target"])])

    def apply(self, step: Step, run: Run) -> None:
        """Make the link under a temporary name and rename it into place, or remove it."""
        path = step["path"]
        try:
            with walk.parent_of(path) as parent:
                info = walk.look(parent)
                paths.refuse_other_kind(info, path, "symlink")
                if absent(step):
                    paths.remove(parent)
                    os.fsync(parent.fd)
                else:
                    atomic.link(parent, step["target"])
        except OSError as error:
            raise os_fault("remove" if absent(step) else "make", path, error) from None
        paths.note_change(path, run)
