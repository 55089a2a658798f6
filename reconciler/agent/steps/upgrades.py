"""Newer builds of packages that are installed, and what runs them."""

import os
from contextlib import suppress
from typing import Any, Dict, List, Optional

from .. import interrupted, places, process
from ..faults import StepFault
from ..observe import World
from ..vocabulary import Step
from . import packages, units
from .contract import Finding, Handler, Run, change


def _uptime() -> float:
    """Seconds since the boot."""
    with open("/proc/uptime") as source:
        return float(source.read().split()[0])


def _started(pid: int) -> float:
    """When a process began, in seconds since the boot (proc(5), field 22 of stat). OSError when it is gone."""
    with open("/proc/{}/stat".format(pid), "rb") as source:
        fields = source.read().decode("utf-8", "replace").rpartition(")")[2].split()
    return int(fields[19]) / float(os.sysconf("SC_CLK_TCK"))


def _main_processes(unit: str) -> List[int]:
    """Its main process, and the one of its PID file: that is another one while the old nginx finishes what it has."""
    shown = process.run(["systemctl", "show", "-p", "MainPID", "-p", "PIDFile", unit], timeout=60)
    values = dict(line.partition("=")[::2] for line in shown.out.splitlines())
    found = [values.get("MainPID", "").strip()]
    if values.get("PIDFile"):
        with suppress(OSError), open(places.real(values["PIDFile"].strip())) as source:
            found.append(source.read().strip())
    return [int(text) for text in found if text.isdigit() and int(text) > 0]


def _began_since(unit: str, moment: float) -> bool:
    """Whether a unit has a main process that is younger than a moment: the package's own scripts have gone over to it."""
    for pid in _main_processes(unit):
        # the clock of processes ticks a hundred times a second
        with suppress(OSError, ValueError, IndexError):
            if _started(pid) > moment + 0.02:
                return True
    return False


def _due(step: Step, now: Dict[str, str]) -> List[str]:
    """The packages that have the version of before, given what is installed now."""
    return [name for name, version in sorted(step["packages"].items()) if now.get(name) == version]


class Upgrades(Handler):
    """`upgrade`: packages of a piece of software leave the version from which they are to be upgraded.

    Which version they get, the node's repositories decide at that moment. A step that names no version to come needs
    none to be compared, and one that was carried out stays in sync whatever follows.
    """

    def check(self, step: Step, world: World) -> Optional[Finding]:
        """Ask the package database which packages have the version of before still, and whether a transaction stopped."""
        now = world.versions(sorted(step["packages"]))
        changes = [change(name, now[name], "newer") for name in _due(step, now)]
        unfinished = interrupted.packages(world.package_manager, sorted(step["packages"]))
        changes += [change(name, "interrupted", "finished") for name in unfinished]
        return Finding("update", changes) if changes else None

    def record(self, step: Step, run: Run) -> Dict[str, Any]:
        """The versions so far, and which of the units were up."""
        names = [*step.get("restart", []), *step.get("reload", [])]
        return {
            "packages": run.world.versions(sorted(step["packages"])),
            "up": [name for name in names if units.state_of(name).is_active()],
        }

    def apply(self, step: Step, run: Run) -> None:
        """One transaction of these packages and what they need. Raises StepFault with what the package manager said."""
        names = sorted(step["packages"])
        moment = _uptime()
        packages.transaction("upgrade", _due(step, run.world.versions(names)) or names, run)
        left = _due(step, run.world.versions(names))
        if left:
            raise StepFault("no repository has a newer {} than {}".format(left[0], step["packages"][left[0]]))
        unfinished = interrupted.packages(run.world.package_manager, names)
        if unfinished:
            raise StepFault(
                "the package manager does not come to an end with {}".format(", ".join(unfinished))
            )
        for unit in step.get("restart", []):
            if _began_since(unit, moment):
                run.on_unit_start(unit)

    def undo(self, record: Dict[str, Any], copies: str, run: Run) -> bool:
        """A transaction is not taken back, but what its scripts stopped runs again. True when no package changed."""
        down = [name for name in record["up"] if not units.state_of(name).is_active()]
        for name in down:
            units.control("start", name)
        now: Dict[str, str] = run.world.versions(sorted(record["packages"]))
        return bool(now == record["packages"])
