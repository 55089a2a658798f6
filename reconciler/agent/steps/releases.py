"""The application of a site, deployed: a folder a release, and a link that says which one is served."""

import os
import re
import stat
import time
from contextlib import suppress
from typing import Any, Dict, List, Optional

from .. import atomic, blobs, cancel, observe, places, process, release_checks, selinux, unpack, walk
from ..faults import StepFault
from ..journal import crash_point
from ..observe import World
from ..unprivileged import run_as
from ..vocabulary import Step
from . import units
from .contract import Change, Finding, Handler, Run, change

FOLDER = places.STATE + "/releases"
_RELEASE = re.compile(r"[0-9a-z]{26}-[0-9a-f]{12}\Z")
_UNPACK_SECONDS = 900.0
_SHORT_SECONDS = 120.0
_REMOVE_SECONDS = 600.0
_MOST_LINES = 4000

Entry = Dict[str, Any]


class Releases(Handler):
    """`release`: unpacked and built beside the one that is served, then switched to in one step."""

    def check(self, step: Step, world: World) -> Optional[Finding]:
        """Whether the link names a whole release of this commit, made in this way."""
        now = _served(step)
        entries = _entries(step["site"])
        found = _known(step, entries)
        if found is not None and found["ready"] and now == found["id"]:
            return None
        before = next((entry for entry in entries if entry["id"] == now), None)
        changes: List[Change] = [change("commit", before["commit"] if before else None, step["commit"])]
        note = ""
        if before and before["commit"] == step["commit"]:
            note = "the last attempt was not finished" if found else "it is built in another way"
        elif found is not None:
            note = "it is still on the node"
        return Finding("update" if now else "create", changes, note, None if found else step["sha256"])

    def record(self, step: Step, run: Run) -> Dict[str, Any]:
        """What is served and known now, and the folder that is about to be made."""
        entries = _entries(step["site"])
        made = "" if _known(step, entries) is not None else _name(step, run)
        return {
            "site": step["site"],
            "user": step["user"],
            "home": step["home"],
            "before": _served(step),
            "made": made,
            "entries": entries,
        }

    def apply(self, step: Step, run: Run) -> None:
        """Make the release if it is not there, have it looked at, switch, run what is to follow. Raises StepFault."""
        entries = _entries(step["site"])
        before = _served(step)
        entry = _known(step, entries)
        fresh = entry is None
        if entry is None:
            entry = {
                "id": _name(step, run),
                "commit": step["commit"],
                "recipe": step["recipe"],
                "ready": False,
            }
            self._make(step, entry["id"], run)
            entries.append(entry)
            _save(step["site"], entries)
        again = not fresh and entry["ready"]
        wrong = release_checks.before(step, _root(step, entry["id"]))
        if wrong:
            raise StepFault("release {} is not served: {}".format(entry["id"], wrong))
        cancel.look()
        _switch(step, entry["id"])
        if step.get("after") and not again:
            _commands("panel-after", "a command after the switch", step, entry["id"], run)
        entry["ready"] = True
        _save(step["site"], entries)
        self._tidy(step, entry["id"], before, entries, run)

    def _make(self, step: Step, name: str, run: Run) -> None:
        release, home = _folder(step, name), places.real(step["home"])
        target = places.real(release)
        run_as(step["user"], lambda: unpack.remove(target), _REMOVE_SECONDS)
        body = blobs.open_body(step["sha256"])
        try:
            run_as(step["user"], lambda: unpack.unpack(body, target), _UNPACK_SECONDS)
        finally:
            os.close(body)
        run_as(
            step["user"],
            lambda: unpack.share(target, home + "/shared", list(step["shared"])),
            _UNPACK_SECONDS,
        )
        if selinux.enabled() and not places.testing():
            selinux.relabel([release, step["home"] + "/shared"], run.log)
        if step["build"]:
            cancel.look()
            _commands("panel-build", "a build command", step, name, run)
        root = walk.examine(_root(step, name))
        if root is None or not stat.S_ISDIR(root.st_mode):
            raise StepFault(
                "commit {} has no folder {} once it is built; correct spec.documentRoot".format(
                    step["commit"][:12], step["root"] or "."
                )
            )
        if not places.testing():
            os.sync()  # a release that is served is whole also after a power cut

    def _tidy(self, step: Step, served: str, before: Optional[str], entries: List[Entry], run: Run) -> None:
        """Remove all but the newest; never what is served, nor what was before."""
        others = sorted((e for e in entries if e["id"] != served), key=lambda e: bool(e["id"] == before))
        kept = others[len(others) - step["keep"] + 1 :] if step["keep"] <= len(others) else others
        names = {entry["id"] for entry in kept} | {served, before}
        left = [entry for entry in entries if entry["id"] in names]
        _save(step["site"], left)
        try:
            gone = [name for name in _listed(step) if name not in names]
            for name in gone:
                path = places.real(_folder(step, name))
                run_as(step["user"], lambda path=path: unpack.remove(path), _REMOVE_SECONDS)  # type: ignore[misc]
        except (StepFault, OSError) as error:
            # what is left over costs space only; the next deploy tries again
            run.log("stderr", "an old release cannot be removed: {}\n".format(error))

    def undo(self, record: Dict[str, Any], copies: str, run: Run) -> bool:
        """Serve what was served before, and remove what was made."""
        if observe.user(record["user"]) is None:
            return True
        before = record["before"]
        if before is not None:
            _switch(record, before)
        elif _served(record) is not None:
            link = places.real(record["home"] + "/current")
            run_as(record["user"], lambda: unpack.remove(link), _SHORT_SECONDS)
        if record["entries"]:
            _save(record["site"], record["entries"])
        else:
            atomic.forget(_state(record["site"]))
        if record["made"]:
            made = places.real(_folder(record, record["made"]))
            run_as(record["user"], lambda: unpack.remove(made), _REMOVE_SECONDS)
        return True


def _name(step: Step, run: Run) -> str:
    """A release is called by its apply, whose id sorts by time, and its commit."""
    return "{}-{}".format(run.deployment.lower(), step["commit"][:12])


def _state(site: str) -> str:
    return "{}/{}.json".format(FOLDER, site)


def _entries(site: str) -> List[Entry]:
    """The whole releases of a site, the oldest first. `ready`: the commands after the switch have run."""
    kept = atomic.load_json(_state(site))
    return list(kept["releases"]) if isinstance(kept, dict) else []


def _save(site: str, entries: List[Entry]) -> None:
    crash_point()
    with suppress(FileExistsError):
        os.mkdir(places.real(FOLDER), 0o700)
    atomic.save_json(_state(site), {"releases": entries})
    crash_point()


def _folder(step: Step, name: str) -> str:
    return "{}/releases/{}".format(step["home"], name)


def _root(step: Step, name: str) -> str:
    folder = _folder(step, name)
    return "{}/{}".format(folder, step["root"]) if step["root"] else folder


def _known(step: Step, entries: List[Entry]) -> Optional[Entry]:
    """The newest whole release of the step's commit that was made in its way and is still there."""
    for entry in reversed(entries):
        if entry["commit"] == step["commit"] and entry["recipe"] == step["recipe"]:
            info = walk.examine(_folder(step, entry["id"]))
            if info is not None and stat.S_ISDIR(info.st_mode):
                return entry
    return None


def _served(step: Step) -> Optional[str]:
    """The release that the link names; an empty text when it names something else, None when there is no link."""
    try:
        with walk.parent_of(step["home"] + "/current") as parent:
            info = walk.look(parent)
            if info is None or not stat.S_ISLNK(info.st_mode):
                return None
            target = os.readlink(parent.name, dir_fd=parent.fd)
    except OSError:
        return None
    name = target.rpartition("/")[2]
    return name if target == "releases/" + name and _RELEASE.match(name) else ""


def _listed(step: Step) -> List[str]:
    """The releases' folders, whole or not."""
    with walk.parent_of(step["home"] + "/releases/x") as parent:
        return [name for name in os.listdir(parent.fd) if _RELEASE.match(name)]


def _switch(step: Dict[str, Any], name: str) -> None:
    link = step["home"] + "/current"

    def work() -> None:
        with selinux.creating(link, stat.S_IFLNK):
            unpack.switch(places.real(link), "releases/" + name)

    run_as(step["user"], work, _SHORT_SECONDS)
    crash_point()


def _commands(prefix: str, what: str, step: Step, name: str, run: Run) -> None:
    """Run the commands of a unit for one release; what they print is told when they have ended. Raises StepFault."""
    unit = "{}-{}@{}.service".format(prefix, step["site"], name)
    run.before_units()
    since = int(time.time()) - 1
    argv = ["systemctl", "--no-ask-password", "start", "--", unit]
    done = process.run(argv, timeout=step["seconds"] + 30.0, stop=cancel.stop_waiting)
    said = _told(unit, since)
    for line in said:
        run.log("stdout", line + "\n")
    if done.ok():
        return
    units.take_back(unit)
    if done.stopped:
        raise cancel.Cancelled()
    last = "; ".join(line.strip() for line in said[-5:] if line.strip())[-1000:]
    why = "it took longer than {} seconds".format(step["seconds"]) if done.timed_out or _late(done) else ""
    raise StepFault("{} failed: {}".format(what, why or last or done.reason("systemctl start " + unit)))


def _late(done: process.Finished) -> bool:
    return "timeout was exceeded" in done.err


def _told(unit: str, since: int) -> List[str]:
    """What the programs of a unit printed, as far as systemd's journal has it."""
    process.run(["journalctl", "--sync"], timeout=30.0)
    argv = [
        "journalctl",
        "-o",
        "cat",
        "--no-pager",
        "-q",
        "-n",
        str(_MOST_LINES),
        "--since",
        "@{}".format(since),
    ]
    return process.run([*argv, "_SYSTEMD_UNIT=" + unit], timeout=60.0).out.splitlines()
