"""Which of two web servers has ports 80 and 443, and the change from one to the other without losing a request.

The step itself only sees to it that the old one goes on reaching the sites whose folders become the new one's. The ports
change hands when everything is written and validated: `take_over`, from `reconciler.agent.settle`.
"""

import grp
import os
import pwd
import stat
import time
from contextlib import suppress
from typing import Any, Dict, Iterator, List, Optional, Tuple

from .. import acl, bridge, certificates, places, process
from ..faults import StepFault
from ..observe import World
from ..vocabulary import Step
from . import units
from .contract import Change, Finding, Handler, Run, absent, change

_CADDY = "caddy.service"
_QUIT_SECONDS = 90.0
_LOOK_SECONDS = 0.1
_ENTER, _READ, _READ_WRITE = 1, 4, 6


def sides(step: Step) -> Tuple[Dict[str, str], Dict[str, str]]:
    """The web server that goes and the one that comes, each with `unit` and `user`."""
    one = {"unit": step["unit"], "user": step["user"]}
    other = {"unit": step["instead_of"], "user": step["other_user"]}
    return (one, other) if absent(step) else (other, one)


class WebServers(Handler):
    """`web_server`."""

    def check(self, step: Step, world: World) -> Optional[Finding]:
        """Whether the old one still runs or is to run, or a change was interrupted."""
        old = sides(step)[0]
        state = world.unit(old["unit"])
        changes: List[Change] = []
        if state.is_active():
            changes.append(change("active", old["unit"], sides(step)[1]["unit"]))
        if state.load != "not-found" and state.file_state == "enabled":
            changes.append(change("enabled", old["unit"], sides(step)[1]["unit"]))
        if bridge.exists():
            changes.append(change("interrupted", "yes", "no"))
        return Finding("update", changes) if changes else None

    def record(self, step: Step, run: Run) -> Dict[str, Any]:
        """Who had the ports."""
        old, new = sides(step)
        state = run.world.unit(old["unit"])
        return {"old": old, "new": new, "active": state.is_active(), "enabled": state.is_enabled()}

    def apply(self, step: Step, run: Run) -> None:
        """Let the old one into homes that are given to the group of the new one."""
        old = sides(step)[0]
        if not run.world.unit(old["unit"]).is_active():
            return
        account = pwd.getpwnam(old["user"])
        for home in _homes():
            if os.lstat(home).st_gid == account.pw_gid:
                acl.grant(home, account.pw_uid, _ENTER)

    def undo(self, record: Dict[str, Any], copies: str, run: Run) -> bool:
        """The old one has the ports again."""
        old, new = record["old"], record["new"]
        if record["active"] and not units.state_of(old["unit"]).is_active():
            units.control("stop", new["unit"])
            _enable(old["unit"], new["unit"], run)
            message = units.control("start", old["unit"])
            if message:
                raise StepFault(message)
        elif record["enabled"]:
            _enable(old["unit"], new["unit"], run)
        bridge.release()
        _shut_out(new["user"])
        _shut_out(old["user"], but_sockets=True)
        run.world.forget("units")
        return True


def _homes() -> Iterator[str]:
    base = places.real("/home")
    for name in sorted(os.listdir(base)) if os.path.isdir(base) else []:
        path = "{}/{}".format(base, name)
        with suppress(OSError):
            if stat.S_ISDIR(os.lstat(path).st_mode):
                yield path


def _sockets() -> Iterator[str]:
    base = places.real("/run/panel-fpm")
    for name in sorted(os.listdir(base)) if os.path.isdir(base) else []:
        path = "{}/{}/php.sock".format(base, name)
        with suppress(OSError):
            if stat.S_ISSOCK(os.lstat(path).st_mode):
                yield path


def _keys() -> Iterator[str]:
    """The folders of certificates, and what is in them: each folder before its files."""
    base = places.real(certificates.FOLDER)
    for name in sorted(os.listdir(base)) if os.path.isdir(base) else []:
        folder = "{}/{}".format(base, name)
        if name == "_" or not os.path.isdir(folder):  # that one is no site's
            continue
        yield folder
        for path in (certificates.certificate_path(name), certificates.key_path(name)):
            if os.path.isfile(places.real(path)):
                yield places.real(path)


def _let_in(user: str, homes_of: Tuple[str, ...]) -> None:
    """Let a web server into the sockets, and into homes that belong to the group of one of these users.

    What answers meanwhile is of its user too, and goes on while homes are put back to the group of the old one.
    """
    uid = pwd.getpwnam(user).pw_uid
    groups = {pwd.getpwnam(name).pw_gid for name in homes_of}
    for home in _homes():
        with suppress(FileNotFoundError):
            if os.lstat(home).st_gid in groups:
                acl.grant(home, uid, _ENTER)
    for path in _sockets():
        with suppress(FileNotFoundError):
            acl.grant(path, uid, _READ_WRITE)
    # what answers meanwhile reads keys as caddy, whose group has them only when it is the one that comes
    reader = pwd.getpwnam(_CADDY.partition(".")[0]).pw_uid
    for path in _keys():
        with suppress(FileNotFoundError):
            acl.grant(path, reader, _ENTER if os.path.isdir(path) else _READ)


def _shut_out(user: str, *, but_sockets: bool = False) -> None:
    """Take back what a web server was given for the time of the change."""
    try:
        uid = pwd.getpwnam(user).pw_uid
    except KeyError:
        return
    for path in [*_homes(), *_keys(), *([] if but_sockets else _sockets())]:
        with suppress(OSError):
            acl.revoke(path, uid)


def _enable(one: str, instead_of: str, run: Run) -> None:
    """Which of the two a boot starts: never both."""
    if units.state_of(instead_of).load != "not-found":
        units.control("disable", instead_of, "--no-reload")
    units.control("enable", one, "--no-reload")
    run.on_unit_file()


def take_over(step: Step, run: Run) -> None:
    """Have the new web server answer instead of the old one. Goes on where an interrupted one stopped.

    Raises StepFault, OSError; the step is then put back.
    """
    old, new = sides(step)
    running = units.state_of(old["unit"]).is_active()
    if running and grp.getgrnam("caddy"):
        _let_in(new["user"], (old["user"], new["user"]))
        if not units.state_of(bridge.UNIT).is_active():
            bridge.release()
            bridge.raise_up(bridge.written_config() if new["unit"] == _CADDY else bridge.running_config())
        bridge.redirect()
    _enable(new["unit"], old["unit"], run)
    run.before_units()
    if running:
        _retire(old["unit"])
    if not units.state_of(new["unit"]).is_active():
        units.control("reset-failed", new["unit"])
        message = units.control("start", new["unit"])
        if message:
            raise StepFault(message)
        run.on_unit_start(new["unit"])
    _shut_out(new["user"], but_sockets=True)  # its group has the homes by now
    bridge.release()
    _shut_out(old["user"])
    run.world.forget("units")


def _retire(unit: str) -> None:
    """End a web server when it has answered what it was asked. Raises StepFault."""
    if unit != _CADDY:
        # its own way to stop leaves 5 seconds; this one ends when the last answer is given
        process.run(["systemctl", "kill", "-s", "QUIT", "--kill-who=main", "--", unit], timeout=20)
        deadline = time.monotonic() + _QUIT_SECONDS
        while units.state_of(unit).is_active() and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
    message = units.control("stop", unit)
    if message:
        raise StepFault(message)
