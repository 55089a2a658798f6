"""Packages and the repositories that they come from."""

import os
import re
import time
from typing import Any, Callable, Dict, List, Optional

from .. import cancel, interrupted, package_lock, places, process
from ..faults import StepFault
from ..observe import World
from ..vocabulary import Step
from . import removal, selinux_steps
from .contract import Finding, Handler, Run, absent, change

_TRANSACTION_SECONDS = 1800.0
_LOCK_WAIT_SECONDS = 180.0
_TRY_AGAIN_SECONDS = 2.0
_DNF_LOCKED = 200
_LOCKED = re.compile(
    r"Could not get lock|can't create transaction lock|Unable to acquire the dpkg frontend lock", re.I
)
_STALE = re.compile(
    r"Unable to locate package|no installation candidate|Failed to fetch|404|Unable to find a match|Cannot download"
    r"|Error downloading packages"
)


def _run(argv: List[str], run: Run) -> process.Finished:
    """A transaction is never ended by a cancel, waiting for the lock is. Raises Cancelled."""
    cancel.look()
    done = process.run(argv, timeout=_TRANSACTION_SECONDS, listener=run.log, stop=package_lock.stop_waiting)
    if done.stopped:
        raise cancel.Cancelled()
    return done


def _dnf(arguments: List[str], run: Run) -> process.Finished:
    options = ["-y", "--setopt=exit_on_lock=True", "--setopt=clean_requirements_on_remove=False"]
    return _run(["dnf", *options, *arguments], run)


def _apt(arguments: List[str], run: Run) -> process.Finished:
    options = ["-y", "-q", "-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"]
    options += ["-o", "Dpkg::Use-Pty=0"]
    return _run(["apt-get", *options, *arguments], run)


def _unlocked(act: Callable[[], process.Finished], program: str) -> process.Finished:
    """Run a transaction, waiting a bounded time while somebody else holds the lock. Raises StepFault, Cancelled."""
    deadline = time.monotonic() + _LOCK_WAIT_SECONDS
    while True:
        done = act()
        locked = (program == "dnf" and done.code == _DNF_LOCKED) or (
            not done.ok() and bool(_LOCKED.search(done.err + done.out))
        )
        if not locked:
            return done
        if time.monotonic() > deadline:
            raise StepFault(
                "the package manager is locked by {}; waited {:.0f} seconds".format(
                    package_lock.holder() or "another program", _LOCK_WAIT_SECONDS
                )
            )
        cancel.pause(_TRY_AGAIN_SECONDS)


def _no_package_lists() -> bool:
    try:
        names = os.listdir(places.real("/var/lib/apt/lists"))
    except OSError:
        return True
    return not any(name.endswith("_Packages") or "_Packages." in name for name in names)


def dnf_module(verb: str, name: str, run: Run) -> str:
    """`dnf module VERB NAME`: an empty text, or what dnf said when it failed. Raises StepFault while it is locked, Cancelled."""
    done = _unlocked(lambda: _dnf(["module", verb, name], run), "dnf")
    return "" if done.ok() else done.reason("dnf module " + verb)


def transaction(verb: str, names: List[str], run: Run) -> None:
    """Install, upgrade or remove packages in one transaction. Raises StepFault with what the package manager said."""
    fetches = verb != "remove"
    if run.world.package_manager == "dnf":
        _finish_interrupted(names, run)
        done = _unlocked(lambda: _dnf([verb, *names], run), "dnf")
        if not done.ok() and fetches and _STALE.search(done.out + done.err):
            done = _unlocked(lambda: _dnf(["--refresh", verb, *names], run), "dnf")
        program = "dnf"
    else:
        program = "apt-get"
        words = ["install", "--only-upgrade"] if verb == "upgrade" else [verb]
        if fetches and _no_package_lists():
            _unlocked(lambda: _apt(["update"], run), program)
        _finish_interrupted(names, run)
        done = _unlocked(lambda: _apt([*words, *names], run), program)
        if not done.ok() and fetches and _STALE.search(done.out + done.err):
            _unlocked(lambda: _apt(["update"], run), program)
            done = _unlocked(lambda: _apt([*words, *names], run), program)
    run.world.forget("packages", "units", "mariadb", "postgresql")
    if not done.ok():
        raise StepFault("cannot {} {}: {}".format(verb, ", ".join(names), done.reason(program + " " + verb)))
    # an upgrade is judged by its versions, which only its step knows
    for name in names if verb != "upgrade" else ():
        if run.world.installed(name) != fetches:
            raise StepFault("{} said it would {} {}, but it did not".format(program, verb, name))
    if verb == "install":
        selinux_steps.relabel_named(run)


def _finish_interrupted(names: List[str], run: Run) -> None:
    """Bring to its end what a power cut interrupted. What comes next judges whether that went well. Raises StepFault."""
    if run.world.package_manager != "dnf":
        _finish_dpkg(run)
    elif interrupted.packages("dnf", names):
        # takes the older of two builds off, with its scripts, and the newer one is laid down once more
        _unlocked(lambda: _dnf(["remove", "--duplicates"], run), "dnf")


def _finish_dpkg(run: Run) -> None:
    if not interrupted.dpkg_is_interrupted():
        return
    interrupted.configure_dpkg(run.log)
    half = interrupted.half_installed()
    if half:
        others = interrupted.came_along(half)
        _unlocked(lambda: _apt(["install", "--reinstall", *half], run), "apt-get")
        interrupted.mark_as_come_along(others)


class Packages(Handler):
    """`package`: installed or not. The runner puts consecutive ones into one transaction."""

    def check(self, step: Step, world: World) -> Optional[Finding]:
        """Ask the package database."""
        installed = world.installed(step["name"])
        if installed == (not absent(step)):
            return None
        if absent(step):
            return Finding("delete", [change("installed", before=True, after=False)])
        return Finding("create", [change("installed", before=False, after=True)])

    def record(self, step: Step, run: Run) -> Dict[str, Any]:
        """Whether it was installed."""
        return {"package": step["name"], "installed": run.world.installed(step["name"])}

    def undo(self, record: Dict[str, Any], copies: str, run: Run) -> bool:
        """A transaction is not taken back; true when there was none."""
        return run.world.installed_now(record["package"]) == bool(record["installed"])

    def apply(self, step: Step, run: Run) -> None:
        """A transaction for this package alone."""
        self.apply_all([step], run)

    def apply_all(self, steps: List[Step], run: Run) -> None:
        """One transaction; all steps have the same state. What came along with software goes with it."""
        names = [step["name"] for step in steps]
        if not absent(steps[0]):
            transaction("install", names, run)
            return
        software = [step["name"] for step in steps if step.get("software")]
        if software:
            plain = [name for name in names if name not in software]
            names = plain + removal.with_companions(software, run.world.declared_packages(), run)
        transaction("remove", sorted(set(names)), run)


class Repositories(Handler):
    """`repository`: a release package, from the enabled repositories or else from its URL."""

    def check(self, step: Step, world: World) -> Optional[Finding]:
        """Ask the package database."""
        if world.installed(step["package"]):
            return None
        return Finding("create", [change("installed", before=False, after=True)])

    def apply(self, step: Step, run: Run) -> None:
        """Install it. Raises StepFault."""
        try:
            transaction("install", [step["package"]], run)
        except StepFault:
            if not step.get("url"):
                raise
        else:
            return
        if run.world.package_manager != "dnf":
            raise StepFault(
                "{} is not in the enabled repositories, and only dnf installs from a URL".format(
                    step["package"]
                )
            )
        done = _unlocked(lambda: _dnf(["install", step["url"]], run), "dnf")
        run.world.forget("packages")
        if not done.ok():
            raise StepFault("cannot install {}: {}".format(step["url"], done.reason("dnf install")))

    def undo(self, record: Dict[str, Any], copies: str, run: Run) -> bool:
        """A repository stays: other packages may rest on it."""
        return False
