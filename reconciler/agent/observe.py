"""What the node shows, asked in batches: one query for all packages, one for all units, one per database engine.

A `World` remembers the answers until `forget` says that a step may have changed them.
"""

import grp
import os
import pwd
import threading
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Set

from . import hashes, mariadb, places, postgresql, process
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
    if shown.code == 127:
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
    if shown.code == 127:
        raise StepFault(shown.reason("dpkg-query"))
    installed = set()
    for line in shown.out.splitlines():
        name, _, state = line.partition("\t")
        if state == "installed":
            installed.add(name)
    return installed


def show_units(names: List[str]) -> Dict[str, UnitState]:
    """The state of each unit, from one `systemctl show`. Raises StepFault."""
    wanted = ["LoadState", "ActiveState", "SubState", "UnitFileState"]
    shown = process.run(["systemctl", "show", "--property=" + ",".join(wanted), "--", *names], timeout=60)
    if not shown.ok():
        raise StepFault("cannot ask systemd about units: " + shown.reason("systemctl show"))
    blocks = [block for block in shown.out.split("\n\n") if block.strip()]
    if len(blocks) != len(names):
        raise StepFault("systemctl show answered for {} of {} units".format(len(blocks), len(names)))
    states = {}
    for place, name in enumerate(names):  # the answers come in the order of the question
        values = dict(line.split("=", 1) for line in blocks[place].splitlines() if "=" in line)
        states[name] = UnitState(*[values.get(field, "") for field in wanted])
    return states


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
        self.postgresql_databases: Set[str] = set()
        for step in steps:
            self._expect(step)

    def _expect(self, step: Step) -> None:
        kind = step["type"]
        if kind in ("package", "repository"):
            self._names["packages"].append(step.get("name") or step["package"])
        elif kind == "unit":
            self._names["units"].append(step["name"])
        elif kind.startswith("mariadb_"):
            self._engines.add("mariadb")
        elif kind.startswith("postgresql_") and kind != "postgresql_cluster":
            self._engines.add("postgresql")
            if kind == "postgresql_grant":
                self.postgresql_databases.add(step["database"])

    def prefetch(self) -> None:
        """Ask everything that the steps need at the same time. Faults are kept and raised when asked for."""
        jobs: List[Callable[[], Any]] = []
        if self._names["packages"]:
            jobs.append(lambda: self._get("packages", self._ask_packages))
        if self._names["units"]:
            jobs.append(lambda: self._get("units", lambda: show_units(self._names["units"])))
        if "mariadb" in self._engines:
            jobs.append(self.mariadb)
        if "postgresql" in self._engines:
            jobs.append(self.postgresql)
        threads = [threading.Thread(target=_quietly, args=(job,)) for job in jobs[1:]]
        for thread in threads:
            thread.start()
        if jobs:
            _quietly(jobs[0])
        for thread in threads:
            thread.join()

    def _get(self, what: str, ask: Callable[[], Any]) -> Any:
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

    def installed(self, package: str) -> bool:
        """True when a package is installed. Raises StepFault."""
        return bool(self._get("packages", self._ask_packages).get(package, False))

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


def _quietly(job: Callable[[], Any]) -> None:
    try:
        job()
    except StepFault:
        return  # kept by the World and raised when a step asks


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
