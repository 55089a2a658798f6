"""What the daemon says to systemd and takes from it: real sockets, real processes, real signals."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.app.system import Reactions, Supervisor, inherited_sockets, signals
from reconciler.errors import SettingsFault


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket of a service manager."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.settimeout(10)
        bound.bind(str(tmp_path / "notify"))
        yield bound


def heard(ear: socket.socket) -> list[str]:
    return ear.recv(4096).decode().split("\n")


def test_each_state_is_told_in_the_words_of_the_protocol(ear: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": ear.getsockname()}
    system = Supervisor.of(environ)
    assert system.ready("serving 2 fleets")
    assert heard(ear) == ["READY=1", "STATUS=serving 2 fleets", f"MAINPID={os.getpid()}"]
    assert system.status("waiting\nfor another daemon")
    assert heard(ear) == ["STATUS=waiting for another daemon"]
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert system.reloading()
    word, stamp = heard(ear)
    assert word == "RELOADING=1"
    name, _, at = stamp.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(at) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert system.stopping("ending")
    assert heard(ear) == ["STOPPING=1", "STATUS=ending"]
    assert system.alive()
    assert heard(ear) == ["WATCHDOG=1"]


def test_an_abstract_socket_is_spoken_to(tmp_path: Path) -> None:
    name = f"reconciler-test-{os.getpid()}-{tmp_path.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.settimeout(10)
        bound.bind(f"\0{name}")
        assert Supervisor(f"@{name}").alive()
        assert heard(bound) == ["WATCHDOG=1"]


@pytest.mark.parametrize("address", ["", "/nowhere/notify", "@nobody-is-here", "vsock:2:1234", "relative"])
def test_nobody_to_hear_is_no_fault(address: str) -> None:
    assert not Supervisor(address).ready("serving")


def test_programs_that_the_daemon_starts_are_not_told_of_its_supervisor(ear: socket.socket) -> None:
    environ = {
        "NOTIFY_SOCKET": ear.getsockname(),
        "WATCHDOG_USEC": "60000000",
        "WATCHDOG_PID": str(os.getpid()),
        "HOME": "/root",
    }
    Supervisor.of(environ)
    assert environ == {"HOME": "/root"}


@pytest.mark.parametrize(
    ("within", "whom", "every"),
    [
        ("60000000", "", 30.0),
        ("60000000", "mine", 30.0),
        ("60000000", "1", None),
        ("0", "", None),
        ("", "", None),
        ("soon", "", None),
    ],
)
def test_signs_of_life_come_twice_in_the_watchdogs_time(within: str, whom: str, every: float | None) -> None:
    # the workers of a parallel run must agree on the names of tests: no process id in them
    environ = {"WATCHDOG_USEC": within, "WATCHDOG_PID": str(os.getpid()) if whom == "mine" else whom}
    assert Supervisor.of(environ).watchdog == every


async def test_signs_of_life_go_on_until_cancelled(ear: socket.socket) -> None:
    task = asyncio.create_task(Supervisor(ear.getsockname(), 0.01).keep_alive())
    for _ in range(3):
        assert await asyncio.to_thread(heard, ear) == ["WATCHDOG=1"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_no_watchdog_needs_no_signs_of_life() -> None:
    await asyncio.wait_for(Supervisor("/nowhere").keep_alive(), 5)


# -- inherited sockets

_TAKE = """
import os, sys
os.environ["LISTEN_PID"] = str(os.getpid() + int(os.environ.pop("SHIFT", "0")))
from reconciler.app.system import inherited_sockets
from reconciler.errors import SettingsFault
try:
    found = inherited_sockets()
except SettingsFault as fault:
    print("fault:", fault.message)
    sys.exit(3)
for name, listed in found.items():
    for one in listed:
        print(name, one.getsockname(), one.get_inheritable(), one.getblocking())
print(sorted(word for word in os.environ if word.startswith("LISTEN_")))
"""


def started_with(*given: int, **environ: str) -> subprocess.CompletedProcess[str]:
    """A process that gets descriptors 3 and up as systemd hands them over."""

    def place() -> None:
        high = [os.dup(fd) for fd in given]
        for target, fd in enumerate(high, start=3):
            os.dup2(fd, target, inheritable=True)

    return subprocess.run(
        [sys.executable, "-c", _TAKE],
        env={**os.environ, "LISTEN_FDS": str(len(given)), **environ},
        capture_output=True,
        text=True,
        check=False,
        close_fds=False,
        preexec_fn=place,
        timeout=60,
    )


def test_inherited_sockets_are_taken_by_name_and_not_passed_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        done = started_with(one.fileno(), two.fileno(), LISTEN_FDNAMES="http:metrics")
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == [
            f"http {one.getsockname()} False False",
            f"metrics {two.getsockname()} False False",
            "[]",
        ]


def test_sockets_for_another_process_are_left_alone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one:
        done = started_with(one.fileno(), SHIFT="1")
        assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_a_descriptor_that_is_no_socket_is_named(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        done = started_with(file.fileno(), LISTEN_FDNAMES="http")
    assert done.returncode == 3, done.stderr
    assert "descriptor 3 (http)" in done.stdout


def test_without_socket_activation_there_are_no_sockets() -> None:
    environ = {"LISTEN_FDS": "1", "HOME": "/root"}
    assert inherited_sockets(environ) == {}
    assert environ == {"HOME": "/root"}
    with pytest.raises(SettingsFault):
        inherited_sockets({"LISTEN_FDS": "many", "LISTEN_PID": str(os.getpid())})


# -- signals


async def test_signals_become_calls_in_the_loop() -> None:
    said: asyncio.Queue[str] = asyncio.Queue()
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)
    reactions = Reactions(
        lambda name: said.put_nowait(f"stop {name}"),
        lambda name: said.put_nowait(f"at once {name}"),
        lambda: said.put_nowait("reload"),
    )
    with signals(asyncio.get_running_loop(), reactions):
        for number, expected in (
            (signal.SIGHUP, "reload"),
            (signal.SIGTERM, "stop SIGTERM"),
            (signal.SIGHUP, "reload"),
            (signal.SIGINT, "at once SIGINT"),
            (signal.SIGTERM, "at once SIGTERM"),
        ):
            os.kill(os.getpid(), number)
            assert await asyncio.wait_for(said.get(), 10) == expected
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)) == before


_SERVE = """
import asyncio, os
from reconciler.app.system import Reactions, Supervisor, signals

async def serve():
    system, end = Supervisor.of(), asyncio.Event()
    def stop(name):
        system.stopping(f"{name}: ending")
    reactions = Reactions(stop, lambda name: end.set(), lambda: (system.reloading(), system.ready("read again")))
    with signals(asyncio.get_running_loop(), reactions):
        system.ready("serving")
        watch = asyncio.create_task(system.keep_alive())
        await end.wait()
        watch.cancel()
asyncio.run(serve())
"""


def test_a_whole_life_under_a_supervisor(ear: socket.socket) -> None:
    environ = {**os.environ, "NOTIFY_SOCKET": ear.getsockname(), "WATCHDOG_USEC": "20000"}
    running = subprocess.Popen([sys.executable, "-c", _SERVE], env=environ)
    try:

        def next_but_watchdog() -> list[str]:
            while (found := heard(ear)) == ["WATCHDOG=1"]:
                pass
            return found

        assert heard(ear) == ["READY=1", "STATUS=serving", f"MAINPID={running.pid}"]
        assert heard(ear) == ["WATCHDOG=1"]
        running.send_signal(signal.SIGHUP)
        assert next_but_watchdog()[0] == "RELOADING=1"
        assert next_but_watchdog()[:2] == ["READY=1", "STATUS=read again"]
        running.send_signal(signal.SIGTERM)
        assert next_but_watchdog() == ["STOPPING=1", "STATUS=SIGTERM: ending"]
        assert running.poll() is None
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 0
    finally:
        running.kill()
        running.wait()
