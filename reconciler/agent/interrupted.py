"""What a transaction leaves on a node that lost power in its middle, and bringing it to its end.

dpkg leaves packages unpacked, half configured, half installed, or waiting for triggers. apt-get goes on with the first two;
of the others it says that they are the newest version, and ends with 0 as if all were well, unless a half-installed one was
never installed before. rpm leaves the new and the old build of a package both installed, and dnf calls that up to date.
"""

import os
from typing import List, NamedTuple, Set, Tuple

from . import places, process
from .faults import StepFault

_SECONDS = 120.0
_TRANSACTION_SECONDS = 1800.0
# deb-triggers(5), dpkg(1)
_HALF_INSTALLED = "half-installed"
_UNFINISHED = ("unpacked", "half-configured", _HALF_INSTALLED, "triggers-awaited", "triggers-pending")
_DPKG_FORM = "${Package}\\t${source:Package}\\t${db:Status-Status}\\n"
_RPM_FORM = "%{NAME}\\t%{ARCH}\\t%{SOURCERPM}\\n"


class _Package(NamedTuple):
    name: str
    source: str


def _ask(argv: List[str]) -> List[List[str]]:
    """The lines of three words that a query prints. Raises StepFault when it fails otherwise than by finding nothing."""
    done = process.run(argv, timeout=_SECONDS)
    if done.timed_out or done.code not in (0, 1):
        raise StepFault(done.reason(argv[0]))
    lines = [line.split("\t") for line in done.out.splitlines()]
    return [line for line in lines if len(line) == 3]


def _of_dpkg() -> Tuple[List[_Package], List[_Package]]:
    """Every package that dpkg knows, and those among them that it did not finish. Raises StepFault."""
    lines = _ask(["dpkg-query", "-W", "-f", _DPKG_FORM])
    every = [_Package(name, source) for name, source, _ in lines]
    return every, [_Package(name, source) for name, source, state in lines if state in _UNFINISHED]


def _of_rpm() -> Tuple[List[_Package], List[_Package]]:
    """Every package, and those that are installed twice. Raises StepFault."""
    seen: Set[Tuple[str, str]] = set()
    every, twice = [], []
    for name, machine, source in _ask(["rpm", "-qa", "--qf", _RPM_FORM]):
        every.append(_Package(name, source.rsplit("-", 2)[0]))
        if (name, machine) in seen:
            twice.append(every[-1])
        seen.add((name, machine))
    return every, twice


def packages(manager: str, names: List[str]) -> List[str]:
    """What is unfinished of these packages and of those that are built from the same sources, sorted. Raises StepFault.

    Of the others nothing is said: somebody may want two builds of them (kernels).
    """
    every, unfinished = _of_rpm() if manager == "dnf" else _of_dpkg()
    sources = {one.source for one in every if one.name in names}
    return sorted({one.name for one in unfinished if one.name in names or one.source in sources})


def dpkg_is_interrupted() -> bool:
    """Whether dpkg has something to finish, of any package: without it apt-get refuses every call. Raises StepFault."""
    folder = places.real("/var/lib/dpkg/updates")
    journal = os.path.isdir(folder) and any(name.isdigit() for name in os.listdir(folder))
    return journal or bool(_of_dpkg()[1])


def half_installed() -> List[str]:
    """Packages whose files are there in part only: nothing but another installation mends them. Raises StepFault."""
    return sorted(
        {line[0] for line in _ask(["dpkg-query", "-W", "-f", _DPKG_FORM]) if line[2] == _HALF_INSTALLED}
    )


def configure_dpkg(listener: process.Listener) -> None:
    """Have dpkg finish what is unpacked; the transaction that follows shows whether that was enough."""
    process.run(
        ["dpkg", "--force-confdef", "--force-confold", "--configure", "-a"],
        timeout=_TRANSACTION_SECONDS,
        listener=listener,
    )


def came_along(names: List[str]) -> List[str]:
    """Those of these packages that apt installed for others."""
    return process.run(["apt-mark", "showauto", *names], timeout=_SECONDS).out.split() if names else []


def mark_as_come_along(names: List[str]) -> None:
    """Have apt take them for installed for others."""
    if names:
        process.run(["apt-mark", "auto", *names], timeout=_SECONDS)
