"""What a cancel does to a package manager: waiting for the lock ends, a transaction never does.

The package managers are scripts that lock as the real ones do; the real ones are on nodes.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .building import bundle, file, package, section
from .stopping import cancel, wait_for
from .talking import Here, Talk, ulid

RPM_LOCK = "/var/lib/rpm/.rpm.lock"
HOLD = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"
# As rpm does: waits for its lock in the kernel, then works, then says what it did.
DNF = f"""
exec {sys.executable} -I -S - $root <<'END'
import fcntl, os, sys, time
root = sys.argv[1]
print("resolving", flush=True)
lock = open(root + "{RPM_LOCK}", "a")
open(root + "/began", "w").write(str(os.getpid()))
fcntl.lockf(lock, fcntl.LOCK_EX)
open(root + "/locked", "w").close()
while not os.path.exists(root + "/go"):
    time.sleep(0.05)
open(root + "/installed", "w").close()
END
"""
RPM = 'if [ -e $root/installed ]; then shift 3; for name; do echo "$name"; done; else exit 1; fi'


@pytest.fixture
def node(here: Here) -> Iterator[Here]:
    here.program_on_path("dnf", DNF)
    here.program_on_path("rpm", RPM)
    here.write(RPM_LOCK, "")
    yield here
    here.write("/go", "")


@pytest.fixture
def talk(node: Here) -> Iterator[Talk]:
    with node.talk() as talking:
        yield talking


@pytest.fixture
def held(node: Here) -> Iterator[None]:
    """Somebody else has rpm's lock."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, node.path(RPM_LOCK)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        yield
        assert holder.poll() is None


def begin(talk: Talk, manager: str = "dnf") -> None:
    """A package, then a file, then another section."""
    steps = [package("nginx"), file("/etc/panel/a", b"1")]
    wanted = bundle(
        section("Site/a", *steps), section("Site/b", file("/etc/panel/b", b"1")), package_manager=manager
    )
    digest = talk.hand_over(wanted, b"1")
    talk.request("apply", deployment=ulid(1), digest=digest, sections=None, fence=1)


def stays_alive(pid: int, seconds: float = 0.6) -> None:
    """Some looks of the runner later, the process is still there, and not halted for longer than a look takes."""
    time.sleep(seconds)
    wait_for(lambda: _state(pid) != "T")
    assert _state(pid) not in {"Z", ""}


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def waiters(node: Here) -> list[str]:
    """Lines of /proc/locks of processes that wait for rpm's lock."""
    inode = node.path(RPM_LOCK).stat().st_ino
    with open("/proc/locks") as source:
        return [line for line in source if "->" in line and f":{inode} " in line]


@pytest.mark.usefixtures("held")
def test_a_program_that_waits_for_the_lock_in_the_kernel_is_ended(node: Here, talk: Talk) -> None:
    begin(talk)
    wait_for(lambda: waiters(node))
    assert cancel(node, 1) == "stopping"
    outcome = talk.answer()
    assert outcome["sections"]["Site/a"] == {
        "state": "failed",
        "changed": 0,
        "message": "cancelled",
        "kept": [],
    }
    assert outcome["sections"]["Site/b"]["state"] == "skipped"
    assert not waiters(node)
    assert not node.path("/locked").exists()
    assert not node.path("/etc/panel/a").exists()


def test_a_transaction_that_has_begun_goes_on_to_its_end(node: Here, talk: Talk) -> None:
    begin(talk)
    wait_for(node.path("/locked").exists)
    assert cancel(node, 1) == "stopping"
    stays_alive(int(node.path("/began").read_text()))
    node.write("/go", "")
    outcome = talk.answer()
    assert node.path("/installed").exists()
    assert outcome["cancelled"]
    assert outcome["sections"]["Site/a"]["message"] == "cancelled"
    assert outcome["sections"]["Site/a"]["kept"] == ["package:nginx"]
    assert ("step_done", "package:nginx") in talk.types("step_done")
    assert not node.path("/etc/panel/a").exists()


def test_a_transaction_in_which_something_waits_for_the_lock_goes_on(node: Here, talk: Talk) -> None:
    """It is halted and looked at: one of its processes holds the lock, so it is let go on."""
    child = "import fcntl, os; fcntl.lockf(open(os.environ['L'], 'a'), fcntl.LOCK_EX)"
    start = f'L=$root{RPM_LOCK}; export L; (until [ -e $root/locked ]; do sleep 0.02; done; exec {sys.executable} -I -c "{child}") &'
    node.program_on_path("dnf", start + DNF)
    begin(talk)
    wait_for(lambda: waiters(node))
    assert cancel(node, 1) == "stopping"
    stays_alive(int(node.path("/began").read_text()))
    node.write("/go", "")
    assert talk.answer()["sections"]["Site/a"]["kept"] == ["package:nginx"]
    assert node.path("/installed").exists()


@pytest.mark.usefixtures("held")
def test_waiting_between_two_tries_is_ended(node: Here, talk: Talk) -> None:
    """apt and dnf say that somebody else has the lock, and are asked again after a while."""
    node.program_on_path("dnf", "echo try >> $root/tries; exit 200")
    begin(talk)
    wait_for(node.path("/tries").exists)
    assert cancel(node, 1) == "stopping"
    outcome = talk.answer()
    assert outcome["sections"]["Site/a"]["message"] == "cancelled"
    assert not node.path("/installed").exists()


def test_apt_is_not_asked_to_install_after_a_cancel_while_it_updates(node: Here, talk: Talk) -> None:
    node.program_on_path("dpkg-query", "exit 1")
    node.program_on_path(
        "apt-get",
        'for word; do :; done; echo "$word" >> $root/tries; until [ -e $root/go ]; do sleep 0.05; done',
    )
    begin(talk, "apt")
    wait_for(node.path("/tries").exists)
    assert cancel(node, 1) == "stopping"
    node.write("/go", "")
    assert talk.answer()["sections"]["Site/a"]["message"] == "cancelled"
    assert node.path("/tries").read_text() == "update\n"
