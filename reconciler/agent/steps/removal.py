"""Which packages go with a piece of software: those that are named, and what came along with them and serves nothing else.

Neither package manager's own cleaning is used for the transaction. dnf takes every dependency that nothing needs any more,
also one that a step of ours declares; apt's autoremove takes orphans of others as well. Both are asked what they know,
and exactly the packages found here are removed.
"""

import re
from typing import List, Set

from .. import process
from ..faults import StepFault
from .contract import Run

_SECONDS = 300.0
_REMV = re.compile(r"^(?:Remv|Purg) ([^ :]+)", re.M)


def with_companions(names: List[str], keep: Set[str], run: Run) -> List[str]:
    """The packages to remove for `names`, sorted; none of `keep`. Raises StepFault when another installed package needs one."""
    if run.world.package_manager == "dnf":
        return _rpm(names, keep)
    return _apt(names, keep)


def _refuse(names: List[str], others: str) -> StepFault:
    return StepFault(
        "cannot remove {}: {}; remove that first, or declare the software again".format(
            ", ".join(sorted(names)), others
        )
    )


# rpm


def _ask(*argv: str) -> List[str]:
    done = process.run(list(argv), timeout=_SECONDS)
    return [line for line in done.out.splitlines() if line.strip()]


def _removable(names: Set[str]) -> process.Finished:
    return process.run(["rpm", "-e", "--test", *sorted(names)], timeout=_SECONDS)


def _rpm(names: List[str], keep: Set[str]) -> List[str]:
    # a step may name what a package provides
    shown = _ask("rpm", "-q", "--qf", "%{NAME}\\n", "--whatprovides", *names)
    going = {line for line in shown if " " not in line}
    if not going:
        return []
    tried = _removable(going)
    if not tried.ok():
        raise _refuse(names, tried.reason("rpm -e --test"))
    brought = _brought_along()
    while True:
        found = {c for c in _needs(going) if c in brought and c not in going and c not in keep}
        more = {c for c in found if not _recommended(c, going)}
        # one after another when not all can go together
        for some in [more] if _removable(going | more).ok() else [{c} for c in sorted(more)]:
            if some and _removable(going | some).ok():
                going |= some
        if not more & going:
            return sorted(going)


def _brought_along() -> Set[str]:
    """The packages that dnf installed because others need them; what a person asked for is not among them."""
    form = "%{name} %{reason}"
    lines = _ask("dnf", "-q", "-C", "repoquery", "--installed", "--qf", form)
    pairs = [line.split() for line in lines]
    return {pair[0] for pair in pairs if len(pair) == 2 and pair[1] in ("dependency", "weak-dependency")}


def _needs(names: Set[str]) -> Set[str]:
    """The installed packages that these require or recommend."""
    form = "[%{REQUIRENAME}\\n][%{RECOMMENDNAME}\\n]"
    wanted = {c for c in _ask("rpm", "-q", "--qf", form, *sorted(names)) if not c.startswith("rpmlib(")}
    if not wanted:
        return set()
    lines = _ask("rpm", "-q", "--qf", "%{NAME}\\n", "--whatprovides", *sorted(wanted))
    return {line for line in lines if " " not in line}


def _recommended(name: str, going: Set[str]) -> bool:
    lines = _ask("rpm", "-q", "--qf", "%{NAME}\\n", "--whatrecommends", name)
    return any(" " not in line and line not in going for line in lines)


# apt


def _simulated(*arguments: str) -> Set[str]:
    done = process.run(["apt-get", "-s", "-q", *arguments], timeout=_SECONDS)
    if not done.ok():
        raise StepFault(done.reason("apt-get -s " + arguments[0]))
    return set(_REMV.findall(done.out))


def _apt(names: List[str], keep: Set[str]) -> List[str]:
    plain = _simulated("remove", *names)
    if plain - set(names):
        raise _refuse(names, "{} needs it".format(", ".join(sorted(plain - set(names)))))
    orphans = _simulated("autoremove")
    going = (_simulated("--auto-remove", "remove", *names) - orphans - keep) | set(names)
    # what is kept may need something of the rest
    while True:
        found = _simulated("remove", *sorted(going))
        if found <= going:
            return sorted(going)
        going -= _needed_by(found - going, going, set(names))


def _needed_by(others: Set[str], going: Set[str], names: Set[str]) -> Set[str]:
    """Those of `going` beside `names` whose removal would take one of `others` along; all of them at worst."""
    found = {c for c in going - names if _simulated("remove", c) & others}
    return found or going - names
