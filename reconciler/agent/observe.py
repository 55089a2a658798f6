"""What the node shows, asked in batches: one query for all packages, one for all units, one per database engine.

A `World` remembers the answers until `forget` says that a step may have changed them.
"""

import grp
import os
import pwd
import struct
import threading
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Set

from . import hashes, mariadb, places, postgresql, process, systemd_bus
from .faults import StepFault
from .vocabulary import Step

_RPM_DATABASES = ("/var/lib/rpm", "/usr/lib/sysimage/rpm")
_RPM_FILES = ("rpmdb.sqlite", "rpmdb.sqlite-wal", "Packages", "Packages.db")
_DPKG_STATUS = "/var/lib/dpkg/status"


class UnitState(NamedTuple):
    """Properties of a unit as `systemctl show` prints them."""

    load: str
    active: str
    sub: str
    file_state: str

    def is_active(self) -> bool:
        """True when it runs, or is on its way up for the first time."""
        if self.active == "activating":
            return self.sub != "auto-restart"
        return self.active in ("active", "reloading")

    def is_enabled(self) -> bool:
        """True when nothing is left to be done to have it start by itself."""
        return self.file_state in ("enabled", "enabled-runtime", "static", "alias", "indirect", "generated")


_WORKER = "panel-worker-"
_UNKNOWN_UNIT = UnitState("not-found", "inactive", "dead", "")


def _rpm_fingerprint() -> str:
    found = []
    for folder in _RPM_DATABASES:
        for name in _RPM_FILES:
            try:
                info = os.stat(places.real("{}/{}".format(folder, name)))
            except OSError:
                continue
            found.append("{}:{}:{}:{}".format(name, info.st_ino, info.st_size, info.st_mtime_ns))
    return ",".join(found)


def _dpkg_fingerprint() -> str:
    try:
        info = os.stat(places.real(_DPKG_STATUS))
    except OSError:
        return ""
    return "dpkg:{}:{}:{}".format(info.st_ino, info.st_size, info.st_mtime_ns)


def _rpm_installed(names: List[str]) -> Set[str]:
    """Which of these are installed, by name or as something that an installed package provides."""
    shown = process.run(["rpm", "-q", "--qf", "%{NAME}\\n", *names], timeout=120)
    if shown.timed_out or shown.code == 127:
        raise StepFault(shown.reason("rpm"))
    lines = set(shown.out.split("\n"))
    installed = {name for name in names if name in lines}
    for name in names:
        if name not in installed and process.run(["rpm", "-q", "--whatprovides", name], timeout=120).ok():
            installed.add(name)
    return installed


def _dpkg_installed(names: List[str]) -> Set[str]:
    form = "${Package}\\t${db:Status-Status}\\n"
    shown = process.run(["dpkg-query", "-W", "-f", form, *names], timeout=120)
    if shown.timed_out or shown.code not in (0, 1):  # 1: some of them it does not know
        raise StepFault(shown.reason("dpkg-query"))
    installed = set()
    for line in shown.out.splitlines():
        name, _, state = line.partition("\t")
        if state == "installed":
            installed.add(name)
    return installed


def _rpm_versions(names: List[str]) -> Dict[str, str]:
    shown = process.run(["rpm", "-q", "--qf", "%{NAME}\\t%{VERSION}-%{RELEASE}\\n", *names], timeout=120)
    pairs = [line.split("\t") for line in shown.out.splitlines()]
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def _dpkg_versions(names: List[str]) -> Dict[str, str]:
    form = "${Package}\\t${Version}\\t${db:Status-Status}\\n"
    shown = process.run(["dpkg-query", "-W", "-f", form, *names], timeout=120)
    found = [line.split("\t") for line in shown.out.splitlines()]
    return {parts[0]: parts[1] for parts in found if len(parts) == 3 and parts[2] == "installed"}


def show_units(names: List[str]) -> Dict[str, UnitState]:
    """The state of each unit, all asked for at once. Raises StepFault."""
    wanted = ["LoadState", "ActiveState", "SubState", "UnitFileState"]
    try:
        found = systemd_bus.properties(names, wanted)
        return {name: _seen(name, UnitState(*found[place])) for place, name in enumerate(names)}
    except (OSError, ValueError, LookupError, struct.error):
        return _show_by_program(names, wanted)


def _show_by_program(names: List[str], wanted: List[str]) -> Dict[str, UnitState]:
    shown = _show(names, wanted)
    return {
        name: _seen(name, UnitState(*[values.get(field, "") for field in wanted]))
        for name, values in shown.items()
    }


def _seen(name: str, state: UnitState) -> UnitState:
    """A worker between two attempts counts as running: whether its program works is the application's affair."""
    if name.startswith(_WORKER) and state.sub == "auto-restart":
        return state._replace(active="active")
    return state


def _show(names: List[str], wanted: Sequence[str]) -> Dict[str, Dict[str, str]]:
    """These properties of each unit, by `systemctl show`. Raises StepFault."""
    shown = process.run(["systemctl", "show", "--property=" + ",".join(wanted), "--", *names], timeout=60)
    if not shown.ok():
        raise StepFault("cannot ask systemd about units: " + shown.reason("systemctl show"))
    blocks = [block for block in shown.out.split("\n\n") if block.strip()]
    if len(blocks) != len(names):
        raise StepFault("systemctl show answered for {} of {} units".format(len(blocks), len(names)))
    return {  # the answers come in the order of the question
        name: dict(line.split("=", 1) for line in blocks[place].splitlines() if "=" in line)
        for place, name in enumerate(names)
    }


_TOLD = ("LoadState", "ActiveState", "SubState", "Result", "NRestarts", "Description")
_LONGEST = 200


def describe_units(names: List[str]) -> Dict[str, Dict[str, Any]]:
    """How each unit is doing, for the protocol's `units`. Raises StepFault."""
    told = {}
    for name, values in _show(names, _TOLD).items():
        restarts = values.get("NRestarts", "")  # only services have it
        told[name] = {
            "load": values.get("LoadState", ""),
            "active": values.get("ActiveState", ""),
            "sub": values.get("SubState", ""),
            "result": values.get("Result", ""),
            "restarts": int(restarts) if restarts.isdigit() else 0,
            "description": values.get("Description", "")[:_LONGEST],
        }
    return told


class World:
    """The node as seen by one check or one apply. `steps` are those that may be asked about, for the batches.

    A check remembers that something did not answer; an apply (`patient`) asks again, since it may have come up.
    """

    def __init__(
        self, steps: Iterable[Step], package_manager: str, cache: hashes.Cache, *, patient: bool = False
    ) -> None:
        self.package_manager = package_manager
        self._patient = patient
        self.cache = cache
        self._names: Dict[str, List[str]] = {"packages": [], "units": []}
        self._engines: Set[str] = set()
        self._answers: Dict[str, Any] = {}
        self._asking: Dict[str, threading.Thread] = {}
        self._users: Dict[int, str] = {}
        self._groups: Dict[int, str] = {}
        self.postgresql_databases: Set[str] = set()
        self._labels: List[Step] = []
        self._wanted_packages: Set[str] = set()
        for step in steps:
            self._expect(step)

    def _expect(self, step: Step) -> None:
        kind = step["type"]
        if kind in ("package", "repository", "module"):
            name = step["name"] if kind == "package" else step["package"]
            self._names["packages"].append(name)
            if kind == "package" and step.get("state", "present") == "present":
                self._wanted_packages.add(name)
        elif kind == "unit":
            self._names["units"].append(step["name"])
        elif kind == "web_server":
            self._names["units"] += [step["unit"], step["instead_of"]]
        elif kind == "selinux_labels":
            self._labels.append(step)
        elif kind.startswith("mariadb_"):
            self._engines.add("mariadb")
        elif kind.startswith("postgresql_") and kind != "postgresql_cluster":
            self._engines.add("postgresql")
            if kind == "postgresql_grant":
                self.postgresql_databases.add(step["database"])

    def prefetch(self) -> None:
        """Begin to ask everything that the steps need, at the same time, without waiting for the answers. Faults are
        kept and raised when asked for."""
        jobs: Dict[str, Callable[[], Any]] = {}
        if self._names["packages"]:
            jobs["packages"] = self._ask_packages
        if self._names["units"]:
            jobs["units"] = lambda: show_units(self._names["units"])
        if "mariadb" in self._engines:
            jobs["mariadb"] = mariadb.observe
        if "postgresql" in self._engines:
            jobs["postgresql"] = lambda: postgresql.observe(sorted(self.postgresql_databases))
        for what, job in jobs.items():
            thread = threading.Thread(target=self._begin, args=(what, job))
            self._asking[what] = thread
            thread.start()

    def _begin(self, what: str, ask: Callable[[], Any]) -> None:
        try:
            self._answers[what] = ask()
        except StepFault as error:
            if not self._patient:
                self._answers[what] = error

    def _wait(self, what: str) -> None:
        thread = self._asking.pop(what, None)
        if thread is not None:
            thread.join()

    def _get(self, what: str, ask: Callable[[], Any]) -> Any:
        self._wait(what)
        if what not in self._answers:
            try:
                self._answers[what] = ask()
            except StepFault as error:
                if self._patient:
                    raise
                self._answers[what] = error
        value = self._answers[what]
        if isinstance(value, StepFault):
            raise value
        return value

    def forget(self, *what: str) -> None:
        """Ask again about `packages`, `units`, `mariadb` or `postgresql` when next needed."""
        for name in what:
            self._wait(name)
            self._answers.pop(name, None)

    def _ask_packages(self) -> Dict[str, bool]:
        names = sorted(set(self._names["packages"]))
        rpm = self.package_manager == "dnf"
        fingerprint = _rpm_fingerprint() if rpm else _dpkg_fingerprint()
        kept = self.cache.packages
        if (
            fingerprint
            and kept.get("fingerprint") == fingerprint
            and set(names) <= set(kept.get("known", {}))
        ):
            return {name: bool(kept["known"][name]) for name in names}
        installed = _rpm_installed(names) if rpm else _dpkg_installed(names)
        known = {name: name in installed for name in names}
        if fingerprint and fingerprint == (_rpm_fingerprint() if rpm else _dpkg_fingerprint()):
            self.cache.remember_packages({"fingerprint": fingerprint, "known": known})
        return known

    def user_name(self, uid: int) -> str:
        """The name of a uid, or the number. Looked up once in a check; an apply may make users meanwhile."""
        return self._name(self._users, uid, user_name)

    def group_name(self, gid: int) -> str:
        """The name of a gid, or the number."""
        return self._name(self._groups, gid, group_name)

    def _name(self, known: Dict[int, str], number: int, look_up: Callable[[int], str]) -> str:
        if self._patient:
            return look_up(number)
        if number not in known:
            known[number] = look_up(number)
        return known[number]

    def installed(self, package: str) -> bool:
        """True when a package is installed. Raises StepFault."""
        return bool(self._get("packages", self._ask_packages).get(package, False))

    def software_versions(self, steps: Iterable[Step]) -> Dict[str, str]:
        """The version of each piece of software that package steps want: that of its first package."""
        first: Dict[str, str] = {}
        for step in steps:
            if step["type"] == "package" and step.get("software") and step.get("state") != "absent":
                first.setdefault(step["software"], step["name"])
        found = self.versions(sorted(first.values()))
        return {software: found[name] for software, name in first.items() if name in found}

    def declared_packages(self) -> Set[str]:
        """The packages that steps want on the node."""
        return self._wanted_packages

    def versions(self, names: List[str]) -> Dict[str, str]:
        """The versions of those of these packages that are installed, as the package database has them."""
        if not names:
            return {}
        return _rpm_versions(names) if self.package_manager == "dnf" else _dpkg_versions(names)

    def installed_now(self, package: str) -> bool:
        """`installed`, asked anew, of any package. Raises StepFault."""
        ask = _rpm_installed if self.package_manager == "dnf" else _dpkg_installed
        return package in ask([package])

    def labels_of(self, step: Step) -> List[Step]:
        """The steps that label sites and are not removals, this one among them: what one of them sets, all may set."""
        others = [one for one in self._labels if one.get("state", "present") == "present"]
        return others if step in others else [step, *others]

    def unit(self, name: str) -> UnitState:
        """The state of a unit that a step names. Raises StepFault."""
        states: Dict[str, UnitState] = self._get("units", lambda: show_units(self._names["units"]))
        return states.get(name, _UNKNOWN_UNIT)

    def mariadb(self) -> mariadb.State:
        """Databases, users and grants of the local MariaDB. Raises StepFault when it does not answer."""
        state: mariadb.State = self._get("mariadb", mariadb.observe)
        return state

    def postgresql(self) -> postgresql.State:
        """Databases, roles and grants of the local PostgreSQL. Raises StepFault when it does not answer."""
        state: postgresql.State = self._get(
            "postgresql", lambda: postgresql.observe(sorted(self.postgresql_databases))
        )
        return state


def user(name: str) -> Optional[pwd.struct_passwd]:
    """The account, None when there is none."""
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def group(name: str) -> Optional[grp.struct_group]:
    """The group, None when there is none."""
    try:
        return grp.getgrnam(name)
    except KeyError:
        return None


def user_name(uid: int) -> str:
    """The name of a uid, or the number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    """The name of a gid, or the number."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def uid_of(name: str) -> int:
    """The uid of an account that must exist. Raises StepFault."""
    found = user(name)
    if found is None:
        raise StepFault("there is no user {}".format(name))
    return found.pw_uid


def gid_of(name: str) -> int:
    """The gid of a group that must exist. Raises StepFault."""
    found = group(name)
    if found is None:
        raise StepFault("there is no group {}".format(name))
    return found.gr_gid
